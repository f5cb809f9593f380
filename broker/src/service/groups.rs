//! `troupe.log.v1.GroupService`: thin over `crate::groups`, which finds the coordinator.

use crate::context::Context;
use crate::forward::deadline_of;
use crate::groups;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_server::GroupService;

pub struct Groups {
    context: Arc<Context>,
}

impl Groups {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

/// The address that a call came from; empty if it cannot be told.
fn host_of<T>(request: &Request<T>) -> String {
    request.remote_addr().map(|address| address.ip().to_string()).unwrap_or_default()
}

#[tonic::async_trait]
impl GroupService for Groups {
    async fn find_coordinator(
        &self,
        _: Request<pb::FindCoordinatorRequest>,
    ) -> Result<Response<pb::FindCoordinatorResponse>, Status> {
        Err(Status::unimplemented("not in this build"))
    }

    type RunMemberStream = BoxStream<'static, Result<pb::RunMemberResponse, Status>>;

    async fn run_member(
        &self,
        request: Request<Streaming<pb::RunMemberRequest>>,
    ) -> Result<Response<Self::RunMemberStream>, Status> {
        let host = host_of(&request);
        // A stream that breaks ends: the member may come back.
        let requests =
            request.into_inner().take_while(|request| std::future::ready(request.is_ok()));
        let requests = requests.filter_map(|request| std::future::ready(request.ok())).boxed();
        let answers = groups::run_member(&self.context, host, requests).await?;
        Ok(Response::new(answers.map(|answer| answer.map_err(Status::from)).boxed()))
    }

    async fn commit_offsets(
        &self,
        request: Request<pb::CommitOffsetsRequest>,
    ) -> Result<Response<pb::CommitOffsetsResponse>, Status> {
        let deadline = deadline_of(request.metadata());
        let answer = groups::commit_offsets(&self.context, request.into_inner(), deadline).await?;
        Ok(Response::new(answer))
    }

    async fn fetch_offsets(
        &self,
        request: Request<pb::FetchOffsetsRequest>,
    ) -> Result<Response<pb::FetchOffsetsResponse>, Status> {
        let deadline = deadline_of(request.metadata());
        let answer = groups::fetch_offsets(&self.context, request.into_inner(), deadline).await?;
        Ok(Response::new(answer))
    }

    async fn list_groups(
        &self,
        _: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        Err(Status::unimplemented("not in this build"))
    }

    async fn describe_group(
        &self,
        _: Request<pb::DescribeGroupRequest>,
    ) -> Result<Response<pb::DescribeGroupResponse>, Status> {
        Err(Status::unimplemented("not in this build"))
    }

    async fn delete_group(
        &self,
        _: Request<pb::DeleteGroupRequest>,
    ) -> Result<Response<pb::DeleteGroupResponse>, Status> {
        Err(Status::unimplemented("not in this build"))
    }

    async fn delete_group_offsets(
        &self,
        _: Request<pb::DeleteGroupOffsetsRequest>,
    ) -> Result<Response<pb::DeleteGroupOffsetsResponse>, Status> {
        Err(Status::unimplemented("not in this build"))
    }

    async fn reset_group_offsets(
        &self,
        _: Request<pb::ResetGroupOffsetsRequest>,
    ) -> Result<Response<pb::ResetGroupOffsetsResponse>, Status> {
        Err(Status::unimplemented("not in this build"))
    }
}

//! `troupe.log.v1.GroupService` over [`Groups`].

use super::numbers::int32;
use crate::address_book::AddressBook;
use crate::connections::Connection;
use crate::coordinator::tell_coordinated;
use crate::forward::Call;
use crate::group::FORWARDED_FOR;
use crate::operations::{Groups, OffsetReset, Page, ResetOffsets, ResetTo};
use crate::shutdown::shutting_down;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_server::GroupService;
use troupe_proto::log::v1::reset_group_offsets_request::To;

pub struct GroupDoor {
    groups: Arc<Groups>,
    /// What those are told who come by this listener.
    addresses: AddressBook,
    /// Cancelled when the node begins to stop.
    shutdown: CancellationToken,
}

impl GroupDoor {
    pub fn new(groups: Arc<Groups>, addresses: AddressBook, shutdown: CancellationToken) -> Self {
        Self { groups, addresses, shutdown }
    }
}

/// The address that a member came from; empty if it cannot be told.
fn host_of<T>(request: &Request<T>, call: Call) -> String {
    let told = request.metadata().get(FORWARDED_FOR).filter(|_| call.forwarded);
    match told.and_then(|host| host.to_str().ok()) {
        Some(host) => host.to_owned(),
        None => {
            let ip = Connection::of(request.extensions()).and_then(Connection::remote_ip);
            ip.map(|ip| ip.to_string()).unwrap_or_default()
        }
    }
}

fn reset_to(to: To) -> ResetTo {
    match to {
        To::Earliest(_) => ResetTo::Earliest,
        To::Latest(_) => ResetTo::Latest,
        To::TimestampMs(time) => ResetTo::TimestampMs(time),
        To::Offset(offset) => ResetTo::Offset(offset),
        To::ShiftBy(distance) => ResetTo::ShiftBy(distance),
    }
}

fn offset_reset(reset: OffsetReset, addresses: &AddressBook) -> pb::OffsetReset {
    pb::OffsetReset {
        partition: Some(reset.partition),
        old_offset: reset.old_offset.unwrap_or(-1),
        new_offset: reset.new_offset.unwrap_or(-1),
        error: reset.error.map(|error| addresses.told(error).into()),
    }
}

/// Why a request of a stream could not be read.
#[derive(Clone, Default)]
struct Refusal {
    reached: CancellationToken,
    error: Arc<OnceLock<Error>>,
}

impl Refusal {
    fn tell(&self, status: Status) {
        self.error.get_or_init(|| status.into());
        self.reached.cancel();
    }

    fn error(&self) -> Option<Error> {
        self.error.get().cloned()
    }
}

#[tonic::async_trait]
impl GroupService for GroupDoor {
    async fn find_coordinator(
        &self,
        request: Request<pb::FindCoordinatorRequest>,
    ) -> Result<Response<pb::FindCoordinatorResponse>, Status> {
        let Call { deadline, .. } = Call::of(&request)?;
        let group = request.into_inner().group_id;
        let (partition, leader) = self.groups.find_coordinator(&group, deadline).await?;
        let endpoint = self.addresses.endpoint_of(leader.node_id).unwrap_or(leader.endpoint);
        if endpoint.is_empty() {
            let (node, listener) = (leader.node_id, self.addresses.listener());
            let message =
                format!("node {node} coordinates the group, and has no listener {listener}");
            return Err(Error::new(ErrorCode::CoordinatorNotAvailable, message).into());
        }
        Ok(Response::new(pb::FindCoordinatorResponse {
            partition: int32(partition.0),
            node_id: leader.node_id.0,
            endpoint,
        }))
    }

    type RunMemberStream = BoxStream<'static, Result<pb::RunMemberResponse, Status>>;

    async fn run_member(
        &self,
        request: Request<Streaming<pb::RunMemberRequest>>,
    ) -> Result<Response<Self::RunMemberStream>, Status> {
        let call = Call::of(&request)?;
        let host = host_of(&request, call);
        // A stream that breaks ends: the member may come back. What cannot be read ends the call, and says why.
        let refusal = Refusal::default();
        let refused = refusal.clone();
        let requests = request.into_inner().scan((), move |(), request| {
            std::future::ready(request.map_err(|status| refused.tell(status)).ok())
        });
        let requests = requests.boxed();
        let joining = self.groups.run_member(host, requests, call.forwarded);
        let shutdown = self.shutdown.clone();
        let answers = tokio::select! {
            answers = joining => match refusal.error() {
                Some(error) => return Err(error.into()),
                None => answers?,
            },
            () = shutdown.cancelled() => return Err(shutting_down().into()),
        };
        let (stopped, told) = (shutdown.clone(), refusal.clone());
        let last = stream::once(async move {
            let stopped = || stopped.is_cancelled().then(shutting_down);
            told.error().or_else(stopped).map(Err)
        });
        let ended = async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = refusal.reached.cancelled() => {}
            }
        };
        let answers = answers.take_until(ended.boxed()).map(Some).chain(last);
        let answers = answers.filter_map(std::future::ready);
        Ok(Response::new(answers.map(|answer| answer.map_err(Status::from)).boxed()))
    }

    async fn commit_offsets(
        &self,
        request: Request<pb::CommitOffsetsRequest>,
    ) -> Result<Response<pb::CommitOffsetsResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.groups.commit(request.into_inner(), call).await?))
    }

    async fn fetch_offsets(
        &self,
        request: Request<pb::FetchOffsetsRequest>,
    ) -> Result<Response<pb::FetchOffsetsResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.groups.fetch(&request.into_inner(), call).await?))
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        let page = Page::new(request.page_size, request.page_token)?;
        let listed = self.groups.list(&request.states, &page, call).await?;
        let mut answer = Response::new(pb::ListGroupsResponse {
            groups: listed.groups,
            next_page_token: listed.next_page_token,
        });
        if call.forwarded {
            tell_coordinated(&listed.partitions, answer.metadata_mut());
        }
        Ok(answer)
    }

    async fn describe_group(
        &self,
        request: Request<pb::DescribeGroupRequest>,
    ) -> Result<Response<pb::DescribeGroupResponse>, Status> {
        let call = Call::of(&request)?;
        let group = request.into_inner().group_id;
        let mut described = self.groups.describe(&group, call).await?;
        if let Some(endpoint) = self.addresses.endpoint_of(NodeId(described.coordinator_id)) {
            described.coordinator_endpoint = endpoint;
        }
        Ok(Response::new(described))
    }

    async fn delete_group(
        &self,
        request: Request<pb::DeleteGroupRequest>,
    ) -> Result<Response<pb::DeleteGroupResponse>, Status> {
        let call = Call::of(&request)?;
        self.groups.delete(&request.into_inner().group_id, call).await?;
        Ok(Response::new(pb::DeleteGroupResponse {}))
    }

    async fn remove_group_members(
        &self,
        request: Request<pb::RemoveGroupMembersRequest>,
    ) -> Result<Response<pb::RemoveGroupMembersResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.groups.expel(&request.into_inner(), call).await?))
    }

    async fn delete_group_offsets(
        &self,
        request: Request<pb::DeleteGroupOffsetsRequest>,
    ) -> Result<Response<pb::DeleteGroupOffsetsResponse>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.groups.delete_offsets(&request.into_inner(), call).await?))
    }

    async fn reset_group_offsets(
        &self,
        request: Request<pb::ResetGroupOffsetsRequest>,
    ) -> Result<Response<pb::ResetGroupOffsetsResponse>, Status> {
        let Call { deadline, .. } = Call::of(&request)?;
        let request = request.into_inner();
        let reset = ResetOffsets {
            group: request.group_id,
            partitions: request.partitions,
            to: request.to.map(reset_to),
            validate_only: request.validate_only,
        };
        let resets = self.groups.reset(reset, deadline).await?;
        let resets = resets.into_iter().map(|reset| offset_reset(reset, &self.addresses)).collect();
        Ok(Response::new(pb::ResetGroupOffsetsResponse { resets }))
    }
}

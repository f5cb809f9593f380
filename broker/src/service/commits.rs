//! `troupe.internal.v1.CommitService`: thin over [`crate::groups`].

use crate::context::Context;
use crate::forward::Call;
use crate::groups;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::commit_service_server::CommitService;

pub struct Commits {
    context: Arc<Context>,
}

impl Commits {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl CommitService for Commits {
    async fn commit_together(
        &self,
        request: Request<pb::CommitTogetherRequest>,
    ) -> Result<Response<pb::CommitTogetherResponse>, Status> {
        let call = Call::of(&request)?;
        let request = request.into_inner();
        Ok(Response::new(groups::commit_together(&self.context, request, call).await?))
    }
}

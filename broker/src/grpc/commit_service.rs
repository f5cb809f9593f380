//! `troupe.internal.v1.CommitService` over [`Groups`].

use crate::coordinator::RequestTime;
use crate::forward::Call;
use crate::operations::Groups;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::commit_service_server::CommitService;
use troupe_proto::internal::v1::member_commit_result::Of;

pub struct CommitDoor {
    groups: Arc<Groups>,
}

impl CommitDoor {
    pub fn new(groups: Arc<Groups>) -> Self {
        Self { groups }
    }
}

#[tonic::async_trait]
impl CommitService for CommitDoor {
    async fn commit_together(
        &self,
        request: Request<pb::CommitTogetherRequest>,
    ) -> Result<Response<pb::CommitTogetherResponse>, Status> {
        let call = Call::of(&request)?;
        let asked = request.into_inner();
        let partition = u32::try_from(asked.partition).map(PartitionId).map_err(|_| {
            Error::new(ErrorCode::InvalidRequest, "the partition of the groups is negative")
        })?;
        let earlier = |at: Instant, us| at.checked_sub(Duration::from_micros(us)).unwrap_or(at);
        let commits = asked.commits.into_iter().map(|commit| {
            let time = RequestTime {
                came: earlier(call.came, commit.came_earlier_us),
                until: earlier(call.deadline, commit.ends_earlier_us),
            };
            (commit.request.unwrap_or_default(), time)
        });
        let call = Call { meant_epoch: Some(asked.leader_epoch), ..call };
        let answers = self.groups.commit_together(partition, commits.collect(), call).await?;
        let results = answers.into_iter().map(|answer| {
            let of = match answer {
                Ok(response) => Of::Response(response),
                Err(error) => Of::Error(error.into()),
            };
            pb::MemberCommitResult { of: Some(of) }
        });
        Ok(Response::new(pb::CommitTogetherResponse { results: results.collect() }))
    }
}

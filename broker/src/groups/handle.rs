//! How everything outside the actor speaks to a coordinator, for longer than any one actor lives.

use futures::stream::BoxStream;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

/// The coordinator of the groups of one partition of `__consumer_offsets`, in one leader epoch.
pub struct CoordinatorHandle {
    partition: PartitionId,
}

impl CoordinatorHandle {
    /// Of `__consumer_offsets`.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Whether a request would be taken now.
    pub(super) fn check_serves(&self) -> Result<(), Error> {
        Err(not_available())
    }

    /// A membership: answered when the member is in the group, or refused. The first request is a start.
    /// `host`: the address that the member came from. The member goes when either stream is dropped.
    ///
    /// # Errors
    /// Those of `GroupService.RunMember`.
    pub async fn run_member(
        &self,
        host: String,
        requests: BoxStream<'static, pb::RunMemberRequest>,
    ) -> Result<BoxStream<'static, Result<pb::RunMemberResponse, Error>>, Error> {
        let _ = (host, requests);
        Err(not_available())
    }

    /// Commits offsets; answered when they are on every in-sync replica.
    ///
    /// # Errors
    /// `OUTCOME_UNKNOWN` if they may be committed, or may be later.
    pub async fn commit(
        &self,
        request: pb::CommitOffsetsRequest,
    ) -> Result<pb::CommitOffsetsResponse, Error> {
        let _ = request;
        Err(not_available())
    }

    /// What is committed.
    pub async fn fetch(
        &self,
        request: pb::FetchOffsetsRequest,
    ) -> Result<pb::FetchOffsetsResponse, Error> {
        let _ = request;
        Err(not_available())
    }

    /// The groups of this coordinator, by name.
    pub async fn list(&self) -> Result<Vec<pb::GroupListing>, Error> {
        Err(not_available())
    }

    /// # Errors
    /// Among others `GROUP_NOT_FOUND`.
    pub async fn describe(&self, group: String) -> Result<pb::DescribeGroupResponse, Error> {
        let _ = group;
        Err(not_available())
    }

    /// Deletes a group without members, and its offsets.
    ///
    /// # Errors
    /// Among others `GROUP_NOT_FOUND`, `GROUP_NOT_EMPTY`.
    pub async fn delete(&self, group: String) -> Result<(), Error> {
        let _ = group;
        Err(not_available())
    }

    /// Deletes committed offsets.
    ///
    /// # Errors
    /// Among others `GROUP_NOT_FOUND`.
    pub async fn delete_offsets(
        &self,
        request: pb::DeleteGroupOffsetsRequest,
    ) -> Result<pb::DeleteGroupOffsetsResponse, Error> {
        let _ = request;
        Err(not_available())
    }
}

fn not_available() -> Error {
    let message = "the group's coordinator is not available at the moment; try again";
    Error::new(ErrorCode::CoordinatorNotAvailable, message)
}

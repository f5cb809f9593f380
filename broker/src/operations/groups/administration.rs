//! What administrators ask a group's coordinator, and where it is; and its members.

use super::handles::Groups;
use crate::forward::Call;
use crate::group::{Answers, Requests, run_member};
use crate::metadata_cache::LeaderAt;
use tokio::time::Instant;
use troupe_machines::cluster::check_topic_names;
use troupe_machines::group::check_group_id;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

impl Groups {
    /// The partition of `__consumer_offsets` that a group is kept in, and who leads that; waited for while nobody does.
    ///
    /// # Errors
    /// `INVALID_GROUP_ID`; `COORDINATOR_NOT_AVAILABLE` if there was none in time.
    pub async fn find_coordinator(
        &self,
        group: &str,
        deadline: Instant,
    ) -> Result<(PartitionId, LeaderAt), Error> {
        let (target, leader) = self.route.find(group, deadline).await?;
        Ok((target.key.partition, leader))
    }

    /// A membership of a group; answered when the member is in the group. `host`: the address that the member came from.
    /// The member is away when either stream is dropped. `forwarded`: another node sent it here.
    ///
    /// # Errors
    /// Those of the group's coordinator, before anything of the membership came to be.
    pub async fn run_member(
        &self,
        host: String,
        requests: Requests,
        forwarded: bool,
    ) -> Result<Answers, Error> {
        run_member(&self.route, host, requests, forwarded).await
    }

    /// # Errors
    /// `GROUP_NOT_FOUND`.
    pub async fn describe(
        &self,
        group: &str,
        call: Call,
    ) -> Result<pb::DescribeGroupResponse, Error> {
        self.check_exists(group, call).await?;
        self.route.describe(group, call).await
    }

    /// # Errors
    /// `GROUP_NOT_FOUND`, `GROUP_NOT_EMPTY`.
    pub async fn delete(&self, group: &str, call: Call) -> Result<(), Error> {
        self.check_exists(group, call).await?;
        self.route.delete(group, call).await
    }

    /// # Errors
    /// `GROUP_NOT_FOUND`, `INVALID_TOPIC`.
    pub async fn delete_offsets(
        &self,
        request: &pb::DeleteGroupOffsetsRequest,
        call: Call,
    ) -> Result<pb::DeleteGroupOffsetsResponse, Error> {
        check_topic_names(request.partitions.iter().map(|named| &named.topic))?;
        self.check_exists(&request.group_id, call).await?;
        self.route.delete_offsets(request, call).await
    }

    /// # Errors
    /// `GROUP_NOT_FOUND` if there are no groups at all.
    async fn check_exists(&self, group: &str, call: Call) -> Result<(), Error> {
        check_group_id(group)?;
        if call.forwarded || self.route.is_in_use().await {
            return Ok(());
        }
        let message = format!("group `{group}` does not exist; `troupe group list` shows all");
        Err(Error::new(ErrorCode::GroupNotFound, message).with("group", group))
    }
}

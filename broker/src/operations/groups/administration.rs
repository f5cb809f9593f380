//! What administrators ask a group's coordinator.

use super::coordination::Groups;
use crate::forward::Call;
use troupe_machines::cluster::check_topic_names;
use troupe_machines::group::check_group_id;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

impl Groups {
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
    /// `GROUP_NOT_FOUND`, `UNKNOWN_MEMBER`, `INVALID_REQUEST`.
    pub async fn expel(
        &self,
        request: &pb::RemoveGroupMembersRequest,
        call: Call,
    ) -> Result<pb::RemoveGroupMembersResponse, Error> {
        self.check_exists(&request.group_id, call).await?;
        self.route.expel(request, call).await
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

//! Consumer groups as an administrator sees them: what there is, what they have committed, and changes to
//! groups that nobody is a member of.
//!
//! Any node takes these calls and asks the group's coordinator. That one is not there for a moment, loads, or
//! moves, is waited out here, up to the request timeout.

use super::{Admin, all_pages};
use crate::client::MAX_ANSWER;
use crate::error::ClientError;
use tokio::time::{Duration, Instant, sleep};
use tonic::transport::Channel;
use tonic::{Response, Status};
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{
    CommitOffsetsRequest, CommittedOffset, DeleteGroupOffsetsRequest, DeleteGroupRequest,
    DescribeGroupRequest, DescribeGroupResponse, FetchOffsetsRequest, FindCoordinatorRequest,
    FindCoordinatorResponse, GroupListing, GroupState, ListGroupsRequest, OffsetReset,
    PartitionCommit, PartitionCommitResult, RemoveGroupMembersRequest, ResetGroupOffsetsRequest,
    TopicPartitions,
};

/// Before a coordinator that was not there is asked again; doubles up to the maximum.
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

impl Admin {
    /// The node that coordinates a group, whether the group exists or not (G1).
    ///
    /// # Errors
    /// INVALID_GROUP_ID, COORDINATOR_NOT_AVAILABLE.
    pub async fn find_coordinator(
        &self,
        group_id: &str,
    ) -> Result<FindCoordinatorResponse, ClientError> {
        self.coordinator_call(true, |channel| {
            let request = FindCoordinatorRequest { group_id: group_id.to_owned() };
            async move { groups(channel).find_coordinator(request).await }
        })
        .await
    }

    /// The groups of all coordinators, by name: those in one of these states, or all if none is named.
    ///
    /// # Errors
    /// COORDINATOR_LOADING and COORDINATOR_NOT_AVAILABLE if one does not answer in time; those of any
    /// control call.
    pub async fn list_groups(
        &self,
        states: &[GroupState],
    ) -> Result<Vec<GroupListing>, ClientError> {
        all_pages(|page_token| async move {
            let states = states.iter().map(|&state| state.into()).collect();
            let request = ListGroupsRequest { page_size: 0, page_token, states };
            let page = self
                .coordinator_call(true, |channel| {
                    let request = request.clone();
                    async move { groups(channel).list_groups(request).await }
                })
                .await?;
            Ok((page.groups, page.next_page_token))
        })
        .await
    }

    /// A group's state and members.
    ///
    /// # Errors
    /// GROUP_NOT_FOUND.
    pub async fn describe_group(
        &self,
        group_id: &str,
    ) -> Result<DescribeGroupResponse, ClientError> {
        self.coordinator_call(true, |channel| {
            let request = DescribeGroupRequest { group_id: group_id.to_owned() };
            async move { groups(channel).describe_group(request).await }
        })
        .await
    }

    /// Deletes a group with its offsets (G28).
    ///
    /// # Errors
    /// GROUP_NOT_FOUND, GROUP_NOT_EMPTY.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), ClientError> {
        let deleted = self.coordinator_call(false, |channel| {
            let request = DeleteGroupRequest { group_id: group_id.to_owned() };
            async move { groups(channel).delete_group(request).await }
        });
        deleted.await.map(drop)
    }

    /// Lets members leave a group at once, all that are named or none: for static members that are away and do not come
    /// back. One that is connected may join again.
    ///
    /// # Errors
    /// GROUP_NOT_FOUND, UNKNOWN_MEMBER, INVALID_REQUEST.
    pub async fn remove_group_members(
        &self,
        request: RemoveGroupMembersRequest,
    ) -> Result<Vec<String>, ClientError> {
        let removed = self.coordinator_call(false, |channel| {
            let request = request.clone();
            async move { groups(channel).remove_group_members(request).await }
        });
        Ok(removed.await?.member_ids)
    }

    /// Forgets what a group has committed for these partitions. Twice is as good as once.
    ///
    /// # Errors
    /// GROUP_NOT_FOUND; those of a partition are in its result: GROUP_SUBSCRIBED_TO_TOPIC.
    pub async fn delete_group_offsets(
        &self,
        group_id: &str,
        partitions: Vec<TopicPartitions>,
    ) -> Result<Vec<PartitionCommitResult>, ClientError> {
        let request = DeleteGroupOffsetsRequest { group_id: group_id.to_owned(), partitions };
        let answer = self
            .coordinator_call(true, |channel| {
                let request = request.clone();
                async move { groups(channel).delete_group_offsets(request).await }
            })
            .await?;
        Ok(answer.results)
    }

    /// Moves the committed offsets of a group without members (G29); with `validate_only` it tells what would
    /// be done. Makes the group if there is none.
    ///
    /// # Errors
    /// GROUP_NOT_EMPTY, INVALID_REQUEST; those of a partition are in its reset: UNKNOWN_TOPIC,
    /// UNKNOWN_PARTITION, NO_COMMITTED_OFFSET.
    pub async fn reset_group_offsets(
        &self,
        request: ResetGroupOffsetsRequest,
    ) -> Result<Vec<OffsetReset>, ClientError> {
        let repeatable = request.validate_only;
        let answer = self
            .coordinator_call(repeatable, |channel| {
                let request = request.clone();
                async move { groups(channel).reset_group_offsets(request).await }
            })
            .await?;
        Ok(answer.resets)
    }

    /// What a group has committed for these partitions, or for all if none is named. A group that does not
    /// exist has committed nothing.
    ///
    /// # Errors
    /// Those of any control call.
    pub async fn list_group_offsets(
        &self,
        group_id: &str,
        partitions: Vec<TopicPartitions>,
    ) -> Result<Vec<CommittedOffset>, ClientError> {
        let request =
            FetchOffsetsRequest { group_id: group_id.to_owned(), partitions, ..Default::default() };
        let answer = self
            .coordinator_call(true, |channel| {
                let request = request.clone();
                async move { groups(channel).fetch_offsets(request).await }
            })
            .await?;
        Ok(answer.offsets)
    }

    /// Commits offsets of a group that has no members, as they are given. Twice is as good as once.
    ///
    /// # Errors
    /// Those of a partition are in its result: GROUP_NOT_EMPTY, UNKNOWN_TOPIC, UNKNOWN_PARTITION,
    /// OFFSET_METADATA_TOO_LARGE.
    pub async fn alter_group_offsets(
        &self,
        group_id: &str,
        commits: Vec<PartitionCommit>,
    ) -> Result<Vec<PartitionCommitResult>, ClientError> {
        let request =
            CommitOffsetsRequest { group_id: group_id.to_owned(), commits, ..Default::default() };
        let answer = self
            .coordinator_call(true, |channel| {
                let request = request.clone();
                async move { groups(channel).commit_offsets(request).await }
            })
            .await?;
        Ok(answer.results)
    }

    /// A call that a coordinator answers, once there is one.
    pub(super) async fn coordinator_call<T, F>(
        &self,
        repeatable: bool,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.inner.connections.config().request_timeout;
        let mut backoff = BACKOFF;
        loop {
            match self.call(repeatable, &call).await {
                Err(error)
                    if is_coordinator_away(&error) && Instant::now() + backoff < deadline =>
                {
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                answer => return answer,
            }
        }
    }
}

/// The coordinator is elsewhere, not there, or not ready: nothing was done, and a moment mends it.
pub(crate) fn is_coordinator_away(error: &ClientError) -> bool {
    matches!(
        error.reason(),
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoading
            | ErrorCode::CoordinatorNotAvailable
    )
}

pub(crate) fn groups(channel: Channel) -> GroupServiceClient<Channel> {
    GroupServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

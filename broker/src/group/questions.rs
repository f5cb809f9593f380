//! What a group's coordinator is asked, wherever it is: one request and one answer.

use super::aliases::GroupRoute;
use super::commit::commit_here;
use crate::coordinator::{Question, outcome_unknown};
use crate::forward::Call;
use tonic::transport::Channel;
use troupe_proto::error::Error;
use troupe_proto::internal::v1::commit_service_client::CommitServiceClient;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;

impl GroupRoute {
    pub fn client(&self, channel: Channel) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(channel).max_decoding_message_size(self.calls.max_answer_bytes)
    }

    pub fn commit_client(&self, channel: Channel) -> CommitServiceClient<Channel> {
        CommitServiceClient::new(channel).max_decoding_message_size(self.calls.max_answer_bytes)
    }

    pub async fn describe(
        &self,
        group: &str,
        call: Call,
    ) -> Result<pb::DescribeGroupResponse, Error> {
        let question =
            Question { key: group, call, may_repeat: true, creates: false, changes: false };
        self.ask_with(
            &question,
            &pb::DescribeGroupRequest { group_id: group.to_owned() },
            |handle, request| async move { handle.describe(request.group_id).await },
            |channel, request| async move { self.client(channel).describe_group(request).await },
        )
        .await
    }

    pub async fn delete(&self, group: &str, call: Call) -> Result<(), Error> {
        let question =
            Question { key: group, call, may_repeat: false, creates: false, changes: true };
        self.ask_with(
            &question,
            &pb::DeleteGroupRequest { group_id: group.to_owned() },
            |handle, request| async move {
                handle.delete(request.group_id, call.into()).await?;
                Ok(pb::DeleteGroupResponse::default())
            },
            |channel, request| async move { self.client(channel).delete_group(request).await },
        )
        .await
        .map(drop)
    }

    pub async fn expel(
        &self,
        request: &pb::RemoveGroupMembersRequest,
        call: Call,
    ) -> Result<pb::RemoveGroupMembersResponse, Error> {
        // Who was removed may have come back since.
        let key = &request.group_id;
        let question = Question { key, call, may_repeat: false, creates: false, changes: true };
        self.ask_with(
            &question,
            request,
            |handle, request| async move { handle.expel(request).await },
            |channel, request| async move {
                self.client(channel).remove_group_members(request).await
            },
        )
        .await
    }

    pub async fn delete_offsets(
        &self,
        request: &pb::DeleteGroupOffsetsRequest,
        call: Call,
    ) -> Result<pb::DeleteGroupOffsetsResponse, Error> {
        // What is deleted twice is deleted.
        let key = &request.group_id;
        let question = Question { key, call, may_repeat: true, creates: false, changes: true };
        self.ask_with(
            &question,
            request,
            |handle, request| async move { handle.delete_offsets(request, call.into()).await },
            |channel, request| async move {
                self.client(channel).delete_group_offsets(request).await
            },
        )
        .await
    }

    pub async fn fetch(
        &self,
        request: &pb::FetchOffsetsRequest,
        call: Call,
    ) -> Result<pb::FetchOffsetsResponse, Error> {
        let key = &request.group_id;
        let question = Question { key, call, may_repeat: true, creates: false, changes: false };
        self.ask_with(
            &question,
            request,
            |handle, request| async move { handle.fetch(request).await },
            |channel, request| async move { self.client(channel).fetch_offsets(request).await },
        )
        .await
    }

    pub async fn commit(
        &self,
        request: &pb::CommitOffsetsRequest,
        call: Call,
    ) -> Result<pb::CommitOffsetsResponse, Error> {
        self.ask_with(
            &committing(&request.group_id, call),
            request,
            |handle, request| async move {
                let asked = vec![(request, call.into())];
                let mut answers = commit_here(&self.metadata, &handle, asked).await;
                answers.pop().unwrap_or_else(|| Err(outcome_unknown()))
            },
            |channel, request| async move { self.client(channel).commit_offsets(request).await },
        )
        .await
    }
}

pub fn committing(key: &str, call: Call) -> Question<'_> {
    Question { key, call, may_repeat: false, creates: true, changes: true }
}

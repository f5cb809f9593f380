//! What a coordinator of groups is asked by those who are no member.

use super::aliases::GroupHandle;
use super::message::{Commit, CommitAll, Delete, DeleteOffsets, Describe, Expel, Fetch, List};
use crate::coordinator::{RequestTime, outcome_unknown};
use tokio::sync::oneshot;
use troupe_proto::error::Error;
use troupe_proto::log::v1 as pb;

impl GroupHandle {
    /// Commits what several have brought together, each judged by itself. The answers, in their order, come when
    /// all that were taken are on every in-sync replica: `OUTCOME_UNKNOWN` for those that may be committed, or may
    /// be later.
    pub async fn commit(
        &self,
        asked: Vec<(pb::CommitOffsetsRequest, RequestTime)>,
    ) -> Vec<Result<pb::CommitOffsetsResponse, Error>> {
        let count = asked.len();
        let (commits, answers): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .map(|(request, time)| {
                let (reply, answer) = oneshot::channel();
                (Commit { request, time, reply }, answer)
            })
            .unzip();
        if let Err(error) = self.send(CommitAll(commits)) {
            return vec![Err(error); count];
        }
        let answers = futures::future::join_all(answers).await;
        let answers =
            answers.into_iter().map(|answer| answer.unwrap_or_else(|_| Err(outcome_unknown())));
        self.all_told(answers.collect(), |answer| are_refused(&answer.results)).await
    }

    /// What is committed.
    pub async fn fetch(
        &self,
        request: pb::FetchOffsetsRequest,
    ) -> Result<pb::FetchOffsetsResponse, Error> {
        self.of_now(self.ask(|reply| Fetch { request, reply })).await
    }

    /// The groups of this coordinator, by name.
    pub async fn list(&self) -> Result<Vec<pb::GroupListing>, Error> {
        self.of_now(self.ask(|reply| List { reply })).await
    }

    /// # Errors
    /// Among others `GROUP_NOT_FOUND`.
    pub async fn describe(&self, group: String) -> Result<pb::DescribeGroupResponse, Error> {
        self.of_now(self.ask(|reply| Describe { group, reply })).await
    }

    /// Deletes a group without members, and its offsets.
    ///
    /// # Errors
    /// Among others `GROUP_NOT_FOUND`, `GROUP_NOT_EMPTY`; `OUTCOME_UNKNOWN` as for commits.
    pub async fn delete(&self, group: String, time: RequestTime) -> Result<(), Error> {
        let answer = self.ask(|reply| Delete { group, time, reply }).await?;
        self.told(answer).await
    }

    /// Lets members leave.
    ///
    /// # Errors
    /// Among others `GROUP_NOT_FOUND`, `UNKNOWN_MEMBER`; `OUTCOME_UNKNOWN` as for commits.
    pub async fn expel(
        &self,
        request: pb::RemoveGroupMembersRequest,
    ) -> Result<pb::RemoveGroupMembersResponse, Error> {
        let answer = self.ask(|reply| Expel { request, reply }).await?;
        self.told(answer).await
    }

    /// Deletes committed offsets.
    ///
    /// # Errors
    /// Among others `GROUP_NOT_FOUND`; `OUTCOME_UNKNOWN` as for commits.
    pub async fn delete_offsets(
        &self,
        request: pb::DeleteGroupOffsetsRequest,
        time: RequestTime,
    ) -> Result<pb::DeleteGroupOffsetsResponse, Error> {
        let answer = self.ask(|reply| DeleteOffsets { request, time, reply }).await?;
        self.told_if(answer, |answer| are_refused(&answer.results)).await
    }
}

/// Whether none of it was done: whoever wrote any of it did so as the coordinator of now.
pub(super) fn are_refused(results: &[pb::PartitionCommitResult]) -> bool {
    results.iter().all(|result| result.error.is_some())
}

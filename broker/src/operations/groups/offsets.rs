//! Committed offsets of a group.

use super::handles::Groups;
use crate::forward::Call;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use troupe_machines::cluster::{check_topic_name, check_topic_names};
use troupe_machines::group::check_group_id;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

impl Groups {
    /// Commits offsets; answered when they are on every in-sync replica.
    ///
    /// # Errors
    /// `OUTCOME_UNKNOWN` if they may be committed: to commit the same again does no harm.
    pub async fn commit(
        &self,
        mut request: pb::CommitOffsetsRequest,
        call: Call,
    ) -> Result<pb::CommitOffsetsResponse, Error> {
        check_group_id(&request.group_id)?;
        let mut refused = take_impossible(&mut request.commits);
        if request.commits.is_empty() && !refused.is_empty() {
            return Ok(pb::CommitOffsetsResponse { results: refused.into_values().collect() });
        }
        let mut answer = self.route.commit(&request, call).await.map_err(harmless)?;
        let mut possible = answer.results.into_iter();
        let count = possible.len() + refused.len();
        answer.results = (0..count)
            .filter_map(|place| refused.remove(&place).or_else(|| possible.next()))
            .collect();
        Ok(answer)
    }

    /// Commits what a member of this node has read: in one call with what others of them commit at the same
    /// coordinator, for whom it lingers so long at most.
    ///
    /// # Errors
    /// As of [`Groups::commit`].
    pub async fn commit_of_member(
        &self,
        request: pb::CommitOffsetsRequest,
        deadline: Instant,
        linger: Duration,
    ) -> Result<pb::CommitOffsetsResponse, Error> {
        self.batches.commit(request, deadline, linger).await.map_err(harmless)
    }

    /// What is committed. An unknown group has no offsets.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER`, `STALE_MEMBER_EPOCH`, `INVALID_TOPIC`.
    pub async fn fetch(
        &self,
        request: &pb::FetchOffsetsRequest,
        call: Call,
    ) -> Result<pb::FetchOffsetsResponse, Error> {
        check_group_id(&request.group_id)?;
        check_topic_names(request.partitions.iter().map(|named| &named.topic))?;
        if !call.forwarded && !self.route.is_in_use().await {
            if request.member_id.is_empty() {
                return Ok(pb::FetchOffsetsResponse::default());
            }
            let message = format!("group `{}` has no members", request.group_id);
            return Err(Error::new(ErrorCode::UnknownMember, message));
        }
        self.route.fetch(request, call).await
    }
}

/// Takes out commits of topics that nothing can be, by their places, with their refusals: nobody is asked about them.
fn take_impossible(
    commits: &mut Vec<pb::PartitionCommit>,
) -> BTreeMap<usize, pb::PartitionCommitResult> {
    let mut refused = BTreeMap::new();
    for (place, commit) in std::mem::take(commits).into_iter().enumerate() {
        let named = commit.partition.as_ref();
        match named.map_or(Ok(()), |named| check_topic_name(&named.topic)) {
            Ok(()) => commits.push(commit),
            Err(error) => {
                let error = Some(Error::from(error).into());
                let result = pb::PartitionCommitResult { partition: commit.partition, error };
                refused.insert(place, result);
            }
        }
    }
    refused
}

fn harmless(error: Error) -> Error {
    match error.code {
        ErrorCode::OutcomeUnknown | ErrorCode::RequestTimedOut => Error {
            code: ErrorCode::OutcomeUnknown,
            message: format!(
                "{}; the offsets may be committed, and to commit them again does no harm",
                error.message
            ),
            ..error
        },
        _ => error,
    }
}

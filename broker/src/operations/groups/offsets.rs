//! Committed offsets of a group.

use super::coordination::Groups;
use crate::coordinator::{RequestTime, check_meant, outcome_unknown};
use crate::forward::Call;
use crate::group::commit_here;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use troupe_machines::cluster::{check_topic_name, check_topic_names};
use troupe_machines::group::check_group_id;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
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
        let refused = take_impossible(&mut request.commits);
        if request.commits.is_empty() && !refused.is_empty() {
            return Ok(pb::CommitOffsetsResponse { results: refused.into_values().collect() });
        }
        let mut answer = self.route.commit(&request, call).await.map_err(harmless)?;
        answer.results = put_back(refused, answer.results);
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

    /// Commits what members of another node have brought together, at the coordinator of this one that `call` means,
    /// each for itself: the answers, in their order.
    ///
    /// # Errors
    /// Why nothing of it was done.
    pub async fn commit_together(
        &self,
        partition: PartitionId,
        commits: Vec<(pb::CommitOffsetsRequest, RequestTime)>,
        call: Call,
    ) -> Result<Vec<Result<pb::CommitOffsetsResponse, Error>>, Error> {
        let handle = self.route.coordinators.find(partition)?;
        check_meant(call, &handle)?;
        let (mut asked, mut refused) = (Vec::with_capacity(commits.len()), Vec::new());
        for (request, time) in commits {
            match self.check_place(&request.group_id, partition) {
                Ok(()) => {
                    asked.push((request, time));
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        let mut answers = commit_here(&self.route.metadata, &handle, asked).await.into_iter();
        let answer = |refused: Option<Error>| {
            let answer = refused.map(Err).or_else(|| answers.next());
            answer.unwrap_or_else(|| Err(outcome_unknown()))
        };
        Ok(refused.into_iter().map(answer).collect())
    }

    /// Whether a group is kept in that partition.
    fn check_place(&self, group: &str, partition: PartitionId) -> Result<(), Error> {
        check_group_id(group)?;
        match self.route.partition_of(group) {
            Some(target) if target.key.partition == partition => Ok(()),
            _ => {
                let message =
                    format!("group `{group}` is kept in another partition than {partition}");
                Err(Error::new(ErrorCode::NotCoordinator, message))
            }
        }
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

/// By their places.
pub(in crate::operations) type Refused = BTreeMap<usize, pb::PartitionCommitResult>;

/// The results of what was asked, and those of what was taken out, in the order of the commits.
pub(in crate::operations) fn put_back(
    mut refused: Refused,
    asked: Vec<pb::PartitionCommitResult>,
) -> Vec<pb::PartitionCommitResult> {
    let mut asked = asked.into_iter();
    let count = asked.len() + refused.len();
    (0..count).filter_map(|place| refused.remove(&place).or_else(|| asked.next())).collect()
}

/// Takes out commits of topics that nothing can be, by their places, with their refusals: nobody is asked about them.
pub(in crate::operations) fn take_impossible(commits: &mut Vec<pb::PartitionCommit>) -> Refused {
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

//! Commits, one after another on a task of their own.
//!
//! Promises: they reach the coordinator in the order in which they were asked for, and their callbacks run in
//! that order; one that is waited for comes after all that were not (C15). What a member that is no more
//! wanted to commit is refused, and never sent in the name of its successor (C18).
//! Never here: which offsets.

use super::assigned::{Due, Offsets};
use super::coordinator::{Backoff, Coordinator};
use super::interceptor::Interceptors;
use crate::admin::groups::groups;
use crate::error::ClientError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep, timeout_at};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::log::v1 as wire;

/// In whose name is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Of somebody who is no member, of a group that has none.
    Nobody,
    Member {
        id: Arc<str>,
        epoch: u32,
    },
    /// Of a member that is none any more, or not yet.
    Gone,
}

impl Identity {
    fn is_same(&self, other: &Identity) -> bool {
        match (self, other) {
            (Self::Nobody, Self::Nobody) => true,
            (Self::Member { id, .. }, Self::Member { id: other, .. }) => id == other,
            _ => false,
        }
    }
}

pub(super) type Callback = Box<dyn FnOnce(Result<(), ClientError>) + Send>;

struct Commit {
    due: Due,
    identity: Identity,
    /// Tried again until then. None: one attempt.
    until: Option<Instant>,
    done: Callback,
}

/// What the task and the consumer share.
#[derive(Default)]
pub(super) struct Outcomes {
    /// Committed since the consumer looked last.
    committed: Mutex<Offsets>,
    /// An automatic commit is under way.
    pub automatic: AtomicBool,
    pub commits: AtomicU64,
    pub failures: AtomicU64,
}

/// The consumer's side.
pub(super) struct Commits {
    queue: mpsc::UnboundedSender<Commit>,
    pub identity: Arc<Mutex<Identity>>,
    pub outcomes: Arc<Outcomes>,
}

impl Commits {
    pub(super) fn start(
        coordinator: Arc<Coordinator>,
        interceptors: Interceptors,
        request_timeout: Duration,
    ) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        let identity = Arc::new(Mutex::new(Identity::Nobody));
        let outcomes = Arc::new(Outcomes::default());
        let worker = Worker {
            coordinator,
            interceptors,
            request_timeout,
            identity: identity.clone(),
            outcomes: outcomes.clone(),
            committer_id: format!("{:016x}", rand::random::<u64>()),
            last_sequence: AtomicU64::new(0),
        };
        tokio::spawn(worker.run(waiting));
        Self { queue, identity, outcomes }
    }

    /// One attempt; the callback runs when it is answered.
    pub(super) fn asynchronous(&self, due: Due, done: Callback) {
        self.send(due, None, done);
    }

    /// Tried until the deadline; resolves when it is answered, behind all that were asked for before.
    pub(super) async fn synchronous(&self, due: Due, deadline: Instant) -> Result<(), ClientError> {
        let (answer, answered) = oneshot::channel();
        self.send(due, Some(deadline), Box::new(|result| drop(answer.send(result))));
        match timeout_at(deadline, answered).await {
            Ok(answered) => answered.unwrap_or(Err(ClientError::Closed { sent: true })),
            // Earlier commits may take longer than that.
            Err(_) => Err(late()),
        }
    }

    /// What was committed since this was asked last.
    pub(super) fn take_committed(&self) -> Offsets {
        std::mem::take(&mut self.outcomes.committed.lock())
    }

    fn send(&self, due: Due, until: Option<Instant>, done: Callback) {
        let identity = self.identity.lock().clone();
        if let Err(refused) = self.queue.send(Commit { due, identity, until, done }) {
            (refused.0.done)(Err(ClientError::Closed { sent: false }));
        }
    }
}

struct Worker {
    coordinator: Arc<Coordinator>,
    interceptors: Interceptors,
    request_timeout: Duration,
    identity: Arc<Mutex<Identity>>,
    outcomes: Arc<Outcomes>,
    /// Who numbers commits while it is no member, and the number of the last one.
    committer_id: String,
    last_sequence: AtomicU64,
}

impl Worker {
    async fn run(self, mut waiting: mpsc::UnboundedReceiver<Commit>) {
        while let Some(commit) = waiting.recv().await {
            let Commit { due, identity, until, done } = commit;
            if due.offsets.is_empty() {
                done(Ok(()));
                continue;
            }
            let result = self.commit(&due, &identity, until).await;
            let counter = match &result {
                Ok(()) => &self.outcomes.commits,
                Err(_) => &self.outcomes.failures,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            if result.is_ok() {
                self.interceptors.on_commit(&due.offsets);
                self.outcomes.committed.lock().extend(due.offsets);
            }
            done(result);
        }
    }

    async fn commit(
        &self,
        due: &Due,
        identity: &Identity,
        until: Option<Instant>,
    ) -> Result<(), ClientError> {
        // Nobody waits for it any more.
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(late());
        }
        let deadline = until.unwrap_or_else(|| Instant::now() + self.request_timeout);
        let mut open = due.clone();
        let mut backoff = Backoff::default();
        loop {
            let error = match self.attempt(&open, identity, deadline).await {
                Ok(results) => match sort_out(&mut open.offsets, results) {
                    None => return Ok(()),
                    Some(error) => error,
                },
                Err(error) => error,
            };
            self.coordinator.note(&error);
            let pause = backoff.next();
            let again = until.is_some() && Instant::now() + pause < deadline;
            if !error.is_retriable() || !again {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        due: &Due,
        identity: &Identity,
        deadline: Instant,
    ) -> Result<Vec<wire::PartitionCommitResult>, ClientError> {
        let current = self.identity.lock().clone();
        let (member_id, member_epoch) = match current {
            Identity::Nobody if identity.is_same(&current) => (String::new(), 0),
            Identity::Member { ref id, epoch } if identity.is_same(&current) => {
                (id.to_string(), epoch)
            }
            _ => return Err(gone()),
        };
        let request = wire::CommitOffsetsRequest {
            group_id: self.coordinator.group_id.clone(),
            member_id,
            member_epoch,
            commits: to_commits(due).collect(),
            // Another one for each try: of those that are still on their way none is taken after this.
            sequence: self.last_sequence.fetch_add(1, Ordering::Relaxed) + 1,
            committer_id: self.committer_id.clone(),
        };
        let call = self.coordinator.call_once(deadline, |channel| {
            let request = request.clone();
            async move { groups(channel).commit_offsets(request).await }
        });
        Ok(call.await?.results)
    }
}

fn late() -> ClientError {
    let message = "the coordinator did not commit in time";
    ClientError::Refused(Refusal::new(ErrorCode::RequestTimedOut, message))
}

pub(super) fn gone() -> ClientError {
    ClientError::Refused(Refusal::new(
        ErrorCode::UnknownMember,
        "the commit failed: this consumer is not a member of the group; its partitions may be another's",
    ))
}

pub(crate) fn to_commits(due: &Due) -> impl Iterator<Item = wire::PartitionCommit> {
    due.offsets.iter().map(|(at, offset)| wire::PartitionCommit {
        partition: Some(wire::TopicPartition {
            topic: at.topic.to_string(),
            topic_id: due.topic_ids.get(&at.topic).map(|id| id.to_wire()).unwrap_or_default(),
            partition: at.partition.0 as i32,
        }),
        offset: Some(wire::OffsetAndMetadata {
            offset: offset.offset.to_wire(),
            leader_epoch: offset.leader_epoch.map(|epoch| epoch.0),
            metadata: offset.metadata.clone(),
        }),
    })
}

/// Leaves open what was not done, and says why: an error that lasts before one that a moment mends.
pub(crate) fn sort_out(
    open: &mut Offsets,
    results: Vec<wire::PartitionCommitResult>,
) -> Option<ClientError> {
    let mut refused = BTreeMap::new();
    if results.len() != open.len() {
        let what = format!("{} answers to {} commits", results.len(), open.len());
        return Some(ClientError::Protocol { server: "the coordinator".to_owned(), what });
    }
    for ((at, _), result) in open.iter().zip(results) {
        if let Some(detail) = result.error {
            let refusal = Refusal::from(detail);
            let refusal = refusal.with("topic", &at.topic).with("partition", at.partition);
            refused.insert(at.clone(), refusal);
        }
    }
    open.retain(|at, _| refused.contains_key(at));
    let lasting = refused.values().find(|refusal| !refusal.is_retriable());
    lasting.or_else(|| refused.values().next()).cloned().map(ClientError::from)
}

#[cfg(test)]
mod tests {
    use super::super::assigned::OffsetAndMetadata;
    use super::*;
    use crate::topic_partition::TopicPartition;

    fn result(code: Option<ErrorCode>) -> wire::PartitionCommitResult {
        let error = code.map(|code| Refusal::new(code, "as the test wants").into());
        wire::PartitionCommitResult { partition: None, error }
    }

    fn offsets(count: u32) -> Offsets {
        let partitions = (0..count).map(|n| TopicPartition::new("t", n));
        partitions.map(|at| (at, OffsetAndMetadata::new(7))).collect()
    }

    /// C15: only what was refused is asked for again, and what lasts ends it.
    #[test]
    fn what_is_committed_is_not_committed_again() {
        let mut open = offsets(3);
        let loading = Some(ErrorCode::CoordinatorLoading);
        let error = sort_out(&mut open, vec![result(None), result(loading), result(None)]);
        assert!(error.unwrap().is_retriable());
        assert_eq!(open.keys().collect::<Vec<_>>(), [&TopicPartition::new("t", 1)]);
        assert_eq!(sort_out(&mut open, vec![result(None)]), None);
        let mut open = offsets(2);
        let lasting = Some(ErrorCode::NotAssigned);
        let error = sort_out(&mut open, vec![result(loading), result(lasting)]).unwrap();
        assert_eq!(error.reason(), ErrorCode::NotAssigned);
        let error = sort_out(&mut open, vec![result(None)]);
        assert!(matches!(error, Some(ClientError::Protocol { .. })), "one is not answered");
    }

    /// C18.
    #[test]
    fn nobody_commits_in_the_name_of_another_member() {
        let member = |id: &str, epoch| Identity::Member { id: id.into(), epoch };
        assert!(member("a", 1).is_same(&member("a", 2)));
        assert!(!member("a", 1).is_same(&member("b", 1)));
        assert!(!member("a", 1).is_same(&Identity::Gone));
        assert!(!Identity::Gone.is_same(&Identity::Gone));
        assert!(Identity::Nobody.is_same(&Identity::Nobody));
    }
}

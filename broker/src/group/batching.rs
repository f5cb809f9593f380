//! What the members of this node commit at one coordinator travels together.
//!
//! ```text
//!  member ─ commit ─┐
//!  member ─ commit ─┼─► a batch ─► one call ─► the coordinator: each is judged by itself, what stands is one append
//!  member ─ commit ─┘
//! ```
//!
//! A batch begins with the first commit, and is sent when that one has lingered long enough, or another comes that
//! cannot wait.
//! Promises: each commit gets its own answer; one whose caller has given up before the batch is sent is not in it.
//! Order: a member commits again when its last commit is answered. Among members there is none to keep.
//! Mixed versions: a node of an earlier version answers UNIMPLEMENTED, which says that nothing was done. Then each
//! commit is sent by itself, and so are later ones until that node has started anew.
//! Never here: whether a commit stands, and where the coordinator is.

use super::aliases::{GroupHandle, GroupRoute};
use super::commit::commit_here;
use super::message::Commit;
use super::questions::committing;
use crate::coordinator::{RequestTime, no_coordinator, outcome_unknown};
use crate::forward::Call;
use crate::metadata_cache::LeaderAt;
use futures::future::join_all;
use prost::Message;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use tonic::{Code, Response};
use troupe_machines::group::Groups;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::member_commit_result::Of;
use troupe_proto::log::v1 as log;

/// Of one call. What is more goes in further ones, at the same time.
const CALL_COMMITS: usize = 500;
const CALL_BYTES: usize = 1 << 20;

type Answer = Result<log::CommitOffsetsResponse, Error>;
type Asked = (log::CommitOffsetsRequest, RequestTime);

/// Where a coordinator is.
#[derive(Clone)]
enum Destination {
    Here(Arc<GroupHandle>),
    There(PartitionId, LeaderAt),
}

/// Which coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Of `__consumer_offsets`.
    partition: PartitionId,
    leader_epoch: LeaderEpoch,
    node: NodeId,
}

impl Destination {
    fn place(&self) -> Place {
        match self {
            Destination::Here(handle) => Place {
                partition: handle.partition(),
                leader_epoch: handle.leader_epoch,
                node: handle.node_id(),
            },
            Destination::There(partition, leader) => Place {
                partition: *partition,
                leader_epoch: leader.leader_epoch,
                node: leader.node_id,
            },
        }
    }
}

struct CommitBatch {
    commits: Vec<Commit>,
    /// Told when it cannot wait any longer.
    is_due: Arc<Notify>,
}

/// What has not been sent yet.
pub struct CommitBatches {
    route: Arc<GroupRoute>,
    batches: Mutex<BTreeMap<Place, CommitBatch>>,
    /// Nodes that do not know the call, each in its life of that broker epoch.
    singly: Mutex<BTreeMap<NodeId, BrokerEpoch>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CommitBatches {
    pub fn new(route: Arc<GroupRoute>) -> Self {
        Self { route, batches: Mutex::default(), singly: Mutex::default() }
    }

    /// Commits what a member of this node has read, in one call with what others of them commit at the same
    /// coordinator, for whom it lingers so long at most.
    ///
    /// # Errors
    /// Those of the group's coordinator.
    pub async fn commit(
        self: &Arc<Self>,
        request: log::CommitOffsetsRequest,
        deadline: Instant,
        linger: Duration,
    ) -> Answer {
        let question = committing(&request.group_id, Call::until(deadline));
        let request = &request;
        let join = |to: Destination| async move {
            // The member has nothing else under way, so each try begins anew: whoever coordinates since the last one
            // would take that one for overtaken by what stands in its log.
            let time = RequestTime { came: Instant::now(), until: deadline };
            let (reply, answer) = oneshot::channel();
            self.join(to, Commit { request: request.clone(), time, reply }, linger);
            // Who carries it always answers, unless the node is gone.
            answer.await.unwrap_or_else(|_| Err(outcome_unknown()))
        };
        let there = |leader| async move {
            let target =
                self.route.partition_of(question.key).ok_or_else(no_coordinator::<Groups>)?;
            join(Destination::There(target.key.partition, leader)).await
        };
        self.route.ask(&question, |handle| join(Destination::Here(handle)), there).await
    }

    fn join(self: &Arc<Self>, to: Destination, commit: Commit, linger: Duration) {
        let place = to.place();
        match locked(&self.batches).entry(place) {
            Entry::Occupied(mut begun) => {
                begun.get_mut().commits.push(commit);
                if linger.is_zero() {
                    begun.get().is_due.notify_one();
                }
            }
            Entry::Vacant(none) => {
                let is_due = Arc::new(Notify::new());
                none.insert(CommitBatch { commits: vec![commit], is_due: Arc::clone(&is_due) });
                tokio::spawn(Arc::clone(self).send(to, is_due, linger));
            }
        }
    }

    async fn send(self: Arc<Self>, to: Destination, is_due: Arc<Notify>, linger: Duration) {
        if linger.is_zero() {
            // Those that are about to come do so first.
            tokio::task::yield_now().await;
        } else {
            // Either is a reason to go.
            let _ = timeout(linger, is_due.notified()).await;
        }
        let batch = locked(&self.batches).remove(&to.place());
        let commits = batch.map(|batch| batch.commits).unwrap_or_default();
        join_all(parts(commits).into_iter().map(|part| self.carry(&to, part))).await;
    }

    /// Brings them to the coordinator, and the answers back, as long as anybody waits for one.
    async fn carry(&self, to: &Destination, commits: Vec<Commit>) {
        let awaited = commits.into_iter().filter(|commit| !commit.reply.is_closed());
        let (asked, mut replies): (Vec<Asked>, Vec<_>) =
            awaited.map(|Commit { request, time, reply }| ((request, time), reply)).unzip();
        if asked.is_empty() {
            return;
        }
        let answers = async {
            match to {
                Destination::Here(handle) => commit_here(&self.route.metadata, handle, asked).await,
                Destination::There(partition, leader) => {
                    self.commit_there(*partition, leader, asked).await
                }
            }
        };
        let answers = tokio::select! {
            answers = answers => answers,
            _ = join_all(replies.iter_mut().map(oneshot::Sender::closed)) => return,
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
    }

    /// At a coordinator of another node: the answers, in their order.
    async fn commit_there(
        &self,
        partition: PartitionId,
        leader: &LeaderAt,
        asked: Vec<Asked>,
    ) -> Vec<Answer> {
        let node = leader.node_id;
        if !self.goes_singly(node) {
            match self.call(partition, leader, &asked).await {
                Ok(Some(answers)) => return answers,
                Ok(None) => self.note_singly(node),
                Err(error) => return vec![Err(error); asked.len()],
            }
        }
        let singly = asked.into_iter().map(|(request, time)| {
            self.route.calls.change(leader, request, time, |channel, request| async move {
                self.route.client(channel).commit_offsets(request).await
            })
        });
        join_all(singly).await
    }

    /// None: the node does not know the call.
    async fn call(
        &self,
        partition: PartitionId,
        leader: &LeaderAt,
        asked: &[Asked],
    ) -> Result<Option<Vec<Answer>>, Error> {
        let came = asked.iter().map(|(_, time)| time.came).max().unwrap_or_else(Instant::now);
        let until = asked.iter().map(|(_, time)| time.until).max().unwrap_or_else(Instant::now);
        let earlier = |whole: Instant, own: Instant| {
            u64::try_from(whole.saturating_duration_since(own).as_micros()).unwrap_or(u64::MAX)
        };
        let commits = asked.iter().map(|(request, time)| pb::MemberCommit {
            request: Some(request.clone()),
            came_earlier_us: earlier(came, time.came),
            ends_earlier_us: earlier(until, time.until),
        });
        let request = pb::CommitTogetherRequest {
            partition: i32::try_from(partition.0).unwrap_or(i32::MAX),
            leader_epoch: leader.leader_epoch.0,
            commits: commits.collect(),
        };
        let time = RequestTime { came, until };
        let answer =
            self.route.calls.change(leader, request, time, |channel, request| async move {
                match self.route.commit_client(channel).commit_together(request).await {
                    Err(status) if status.code() == Code::Unimplemented => Ok(Response::new(None)),
                    answer => answer.map(|answer| answer.map(Some)),
                }
            });
        let Some(answer) = answer.await? else { return Ok(None) };
        if answer.results.len() != asked.len() {
            let message = "the coordinator's node did not answer each commit";
            return Err(Error::new(ErrorCode::OutcomeUnknown, message));
        }
        let answers = answer.results.into_iter().map(|result| match result.of {
            Some(Of::Response(response)) => Ok(response),
            Some(Of::Error(error)) => Err(error.into()),
            None => Err(outcome_unknown()),
        });
        Ok(Some(answers.collect()))
    }

    /// Whether the node does not know the call, as far as it was asked since it started.
    fn goes_singly(&self, node: NodeId) -> bool {
        let epoch = self.epoch_of(node);
        epoch.is_some() && locked(&self.singly).get(&node).copied() == epoch
    }

    fn note_singly(&self, node: NodeId) {
        if let Some(epoch) = self.epoch_of(node) {
            locked(&self.singly).insert(node, epoch);
        }
    }

    fn epoch_of(&self, node: NodeId) -> Option<BrokerEpoch> {
        self.route.metadata.image.borrow().broker(node).map(|broker| broker.epoch)
    }
}

/// What goes in one call each.
fn parts(commits: Vec<Commit>) -> Vec<Vec<Commit>> {
    let (mut parts, mut bytes) = (Vec::<Vec<Commit>>::new(), 0);
    for commit in commits {
        let len = commit.request.encoded_len();
        match parts.last_mut() {
            Some(part) if part.len() < CALL_COMMITS && bytes + len <= CALL_BYTES => {
                bytes += len;
                part.push(commit);
            }
            _ => {
                bytes = len;
                parts.push(vec![commit]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(group_bytes: usize) -> Commit {
        let request =
            log::CommitOffsetsRequest { group_id: "g".repeat(group_bytes), ..Default::default() };
        let time = RequestTime { came: Instant::now(), until: Instant::now() };
        Commit { request, time, reply: oneshot::channel().0 }
    }

    #[test]
    fn no_call_is_too_large_and_every_commit_is_in_one() {
        let lens = |commits: Vec<Commit>| parts(commits).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(Vec::new()), Vec::<usize>::new());
        assert_eq!(lens((0..1_100).map(|_| commit(10)).collect()), [500, 500, 100]);
        let large = CALL_BYTES / 2 - 100;
        assert_eq!(lens((0..5).map(|_| commit(large)).collect()), [2, 2, 1]);
        assert_eq!(lens(vec![commit(10), commit(2 * CALL_BYTES), commit(10)]), [1, 1, 1]);
    }
}

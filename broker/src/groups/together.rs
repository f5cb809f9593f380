//! What the members of this node commit at one coordinator travels together.
//!
//! ```text
//!  member ─ commit ─┐
//!  member ─ commit ─┼─► a gathering ─► one call ─► the coordinator: each is judged by itself, what stands is one append
//!  member ─ commit ─┘
//! ```
//!
//! A gathering begins with the first commit, and leaves when that one has waited long enough, or another comes that
//! cannot wait.
//! Promises: each commit gets its own answer; one whose caller has given up before the gathering leaves is not sent.
//! Order: a member commits again when its last commit is answered. Among members there is none to keep.
//! Mixed versions: a node of an earlier version answers UNIMPLEMENTED, which says that nothing was done. Then each
//! commit is sent by itself, and so are later ones until that node has started anew.
//! Never here: whether a commit stands, and where the coordinator is.

use super::handle::{CoordinatorHandle, outcome_unknown};
use super::message::{Commit, Order};
use super::offsets::commit_here;
use super::route::{call_there, check_group_id, check_meant, client_on, partition_of};
use crate::context::Context;
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
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::commit_service_client::CommitServiceClient;
use troupe_proto::internal::v1::member_commit_result::Of;
use troupe_proto::log::v1 as log;

/// Of one call. What is more goes in further ones, at the same time.
const CALL_COMMITS: usize = 500;
const CALL_BYTES: usize = 1 << 20;

type Answer = Result<log::CommitOffsetsResponse, Error>;
type Asked = (log::CommitOffsetsRequest, Order);

/// The way to a coordinator.
pub(super) enum Way {
    Here(Arc<CoordinatorHandle>),
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

impl Way {
    fn place(&self) -> Place {
        match self {
            Way::Here(handle) => Place {
                partition: handle.partition(),
                leader_epoch: handle.leader_epoch,
                node: handle.node_id,
            },
            Way::There(partition, leader) => Place {
                partition: *partition,
                leader_epoch: leader.leader_epoch,
                node: leader.node_id,
            },
        }
    }
}

struct Gathering {
    commits: Vec<Commit>,
    /// Told when it cannot wait any longer.
    leaves: Arc<Notify>,
}

/// What has not left yet.
#[derive(Default)]
pub struct Together {
    gatherings: Mutex<BTreeMap<Place, Gathering>>,
    /// Nodes that do not know the call, each in its life of that broker epoch.
    singly: Mutex<BTreeMap<NodeId, BrokerEpoch>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Together {
    /// Commits at that coordinator, with what others commit there. Waits so long for others at most.
    pub(super) async fn commit(
        &self,
        context: &Arc<Context>,
        way: Way,
        (request, order): Asked,
        patience: Duration,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.join(context, way, Commit { request, order, reply }, patience);
        // Who carries it always answers, unless the node is gone.
        answer.await.unwrap_or_else(|_| Err(outcome_unknown()))
    }

    fn join(&self, context: &Arc<Context>, way: Way, commit: Commit, patience: Duration) {
        let place = way.place();
        match locked(&self.gatherings).entry(place) {
            Entry::Occupied(mut begun) => {
                begun.get_mut().commits.push(commit);
                if patience.is_zero() {
                    begun.get().leaves.notify_one();
                }
            }
            Entry::Vacant(none) => {
                let leaves = Arc::new(Notify::new());
                none.insert(Gathering { commits: vec![commit], leaves: Arc::clone(&leaves) });
                tokio::spawn(leave(Arc::clone(context), way, leaves, patience));
            }
        }
    }

    fn take(&self, place: Place) -> Vec<Commit> {
        let gathering = locked(&self.gatherings).remove(&place);
        gathering.map(|gathering| gathering.commits).unwrap_or_default()
    }

    /// Whether the node does not know the call, as far as it was asked since it started.
    fn goes_singly(&self, context: &Context, node: NodeId) -> bool {
        let epoch = epoch_of(context, node);
        epoch.is_some() && locked(&self.singly).get(&node).copied() == epoch
    }

    fn note_singly(&self, context: &Context, node: NodeId) {
        if let Some(epoch) = epoch_of(context, node) {
            locked(&self.singly).insert(node, epoch);
        }
    }
}

fn epoch_of(context: &Context, node: NodeId) -> Option<BrokerEpoch> {
    context.metadata.image.borrow().broker(node).map(|broker| broker.epoch)
}

async fn leave(context: Arc<Context>, way: Way, leaves: Arc<Notify>, patience: Duration) {
    if patience.is_zero() {
        // Those that are about to come do so first.
        tokio::task::yield_now().await;
    } else {
        // Either is a reason to go.
        let _ = timeout(patience, leaves.notified()).await;
    }
    let commits = context.groups.together.take(way.place());
    join_all(parts(commits).into_iter().map(|part| carry(&context, &way, part))).await;
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

/// Brings them to the coordinator, and the answers back, as long as anybody waits for one.
async fn carry(context: &Context, way: &Way, commits: Vec<Commit>) {
    let awaited = commits.into_iter().filter(|commit| !commit.reply.is_closed());
    let (asked, mut replies): (Vec<Asked>, Vec<_>) =
        awaited.map(|Commit { request, order, reply }| ((request, order), reply)).unzip();
    if asked.is_empty() {
        return;
    }
    let answers = async {
        match way {
            Way::Here(handle) => commit_here(context, handle, asked).await,
            Way::There(partition, leader) => commit_there(context, *partition, leader, asked).await,
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
    context: &Context,
    partition: PartitionId,
    leader: &LeaderAt,
    asked: Vec<Asked>,
) -> Vec<Answer> {
    let (together, node) = (&context.groups.together, leader.node_id);
    if !together.goes_singly(context, node) {
        match call_together(context, partition, leader, &asked).await {
            Ok(Some(answers)) => return answers,
            Ok(None) => together.note_singly(context, node),
            Err(error) => return vec![Err(error); asked.len()],
        }
    }
    let singly = asked.into_iter().map(|(request, order)| {
        call_there(context, leader, request, order, |channel, request| async move {
            client_on(context, channel).commit_offsets(request).await
        })
    });
    join_all(singly).await
}

/// None: the node does not know the call.
async fn call_together(
    context: &Context,
    partition: PartitionId,
    leader: &LeaderAt,
    asked: &[Asked],
) -> Result<Option<Vec<Answer>>, Error> {
    let came = asked.iter().map(|(_, order)| order.came).max().unwrap_or_else(Instant::now);
    let until = asked.iter().map(|(_, order)| order.until).max().unwrap_or_else(Instant::now);
    let earlier = |whole: Instant, own: Instant| {
        u64::try_from(whole.saturating_duration_since(own).as_micros()).unwrap_or(u64::MAX)
    };
    let commits = asked.iter().map(|(request, order)| pb::MemberCommit {
        request: Some(request.clone()),
        came_earlier_us: earlier(came, order.came),
        ends_earlier_us: earlier(until, order.until),
    });
    let request = pb::CommitTogetherRequest {
        partition: i32::try_from(partition.0).unwrap_or(i32::MAX),
        leader_epoch: leader.leader_epoch.0,
        commits: commits.collect(),
    };
    let max_answer = context.config.max_request_bytes.0 as usize;
    let order = Order { came, until };
    let answer = call_there(context, leader, request, order, |channel, request| async move {
        let mut client = CommitServiceClient::new(channel).max_decoding_message_size(max_answer);
        match client.commit_together(request).await {
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

/// What members of another node commit at a coordinator of this one.
///
/// # Errors
/// Why nothing of it was done.
pub async fn commit_together(
    context: &Context,
    request: pb::CommitTogetherRequest,
    call: Call,
) -> Result<pb::CommitTogetherResponse, Error> {
    let partition = u32::try_from(request.partition).map(PartitionId).map_err(|_| {
        Error::new(ErrorCode::InvalidRequest, "the partition of the groups is negative")
    })?;
    let handle = context.groups.find(partition)?;
    check_meant(Call { meant_epoch: Some(request.leader_epoch), ..call }, &handle)?;
    let (mut asked, mut refused) = (Vec::with_capacity(request.commits.len()), Vec::new());
    for commit in request.commits {
        let earlier = |at: Instant, us| at.checked_sub(Duration::from_micros(us)).unwrap_or(at);
        let order = Order {
            came: earlier(call.came, commit.came_earlier_us),
            until: earlier(call.deadline, commit.ends_earlier_us),
        };
        let request = commit.request.unwrap_or_default();
        match check_place(context, &request.group_id, partition) {
            Ok(()) => {
                asked.push((request, order));
                refused.push(None);
            }
            Err(error) => refused.push(Some(error)),
        }
    }
    let mut answers = commit_here(context, &handle, asked).await.into_iter();
    let result = |refused: Option<Error>| {
        let answer = refused.map(Err).or_else(|| answers.next());
        let of = match answer.unwrap_or_else(|| Err(outcome_unknown())) {
            Ok(response) => Of::Response(response),
            Err(error) => Of::Error(error.into()),
        };
        pb::MemberCommitResult { of: Some(of) }
    };
    Ok(pb::CommitTogetherResponse { results: refused.into_iter().map(result).collect() })
}

/// Whether a group is kept in that partition.
fn check_place(context: &Context, group: &str, partition: PartitionId) -> Result<(), Error> {
    check_group_id(group)?;
    match partition_of(context, group) {
        Some(target) if target.key.partition == partition => Ok(()),
        _ => {
            let message = format!("group `{group}` is kept in another partition than {partition}");
            Err(Error::new(ErrorCode::NotCoordinator, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(group_bytes: usize) -> Commit {
        let request =
            log::CommitOffsetsRequest { group_id: "g".repeat(group_bytes), ..Default::default() };
        let order = Order { came: Instant::now(), until: Instant::now() };
        Commit { request, order, reply: oneshot::channel().0 }
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

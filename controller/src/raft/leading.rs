//! What goes from the node to Raft, and what Raft says of itself: proposals, and who leads.

use super::types::{RaftNodeId, Verdict};
use super::{Proposals, Raft};
use crate::metadata_log::{Leadership, ProposeError};
use futures::StreamExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal};
use std::time::Duration;
use tokio::sync::watch;
use troupe_proto::ids::NodeId;

/// Decisions that go to Raft, and so to disk, together.
const PROPOSALS_AT_ONCE: usize = 64;

/// Among the other voters the one that was heard last, and of those the one that has most of the log.
pub(super) fn successor(raft: &Raft) -> Option<RaftNodeId> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    if !metrics.state.is_leader() {
        return None;
    }
    let replication = metrics.replication.as_ref()?;
    let others = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
    others.max_by_key(|id| {
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(id).copied().flatten());
        let matched = replication.get(id).copied().flatten();
        (matched, heard.map(|heard| *heard))
    })
}

/// Hands proposals to Raft in the order they came, those that have gathered at once.
pub(super) async fn propose_in_order(raft: &Raft, waiting: &mut Proposals) {
    let mut gathered = Vec::with_capacity(PROPOSALS_AT_ONCE);
    while waiting.recv_many(&mut gathered, PROPOSALS_AT_ONCE).await > 0 {
        let (proposals, replies): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        // If this fails the replies are dropped: whether anything was written is not known.
        let Ok(mut results) = raft.client_write_many(proposals.into_iter().map(Into::into)).await
        else {
            continue;
        };
        actix_rt::spawn(async move {
            for reply in replies {
                let Some(Ok(result)) = results.next().await else { return };
                let _ = reply.send(match result {
                    Ok(written) => match written.response {
                        Verdict::Applied => Ok(()),
                        Verdict::Superseded => Err(ProposeError::Superseded),
                    },
                    Err(ClientWriteError::ForwardToLeader(to)) => {
                        Err(ProposeError::NotLeader { leader: to.leader_id.and_then(node_id) })
                    }
                    Err(_) => Err(ProposeError::OutcomeUnknown),
                });
            }
        });
    }
}

/// Tells who leads, and has a snapshot made when `due` says that the log has grown large. A leader that no
/// majority has answered for as long as the others' patience lasts leads nobody: they have another by now, or
/// are not there. Ends with Raft, and nobody tells of a leader any more.
pub(super) async fn follow_metrics(
    raft: &Raft,
    tell: &watch::Sender<Leadership>,
    patience: Option<Duration>,
    due: impl Fn() -> bool,
) {
    let mut metrics = raft.metrics();
    loop {
        let (now, look_again) = {
            let metrics = metrics.borrow_watched();
            if let Err(fatal) = &metrics.running_state {
                if !matches!(fatal, Fatal::Stopped) {
                    tracing::error!(%fatal, "the metadata log has failed");
                }
                break;
            }
            let leads = metrics.state.is_leader();
            let acked = metrics.last_quorum_acked.as_ref().filter(|_| leads);
            let left = acked.zip(patience).map(|(acked, patience)| {
                patience.saturating_sub(openraft::Instant::elapsed(&**acked))
            });
            let followed = left.is_none_or(|left| !left.is_zero());
            let leader = metrics.current_leader.and_then(node_id);
            let leadership = Leadership {
                leader: leader.filter(|_| followed),
                term: metrics.current_term,
                here: leads && followed,
            };
            (leadership, left.filter(|_| followed))
        };
        tell.send_if_modified(|told| std::mem::replace(told, now) != now);
        if due() && raft.trigger().snapshot().await.is_err() {
            break;
        }
        let changed = match look_again {
            Some(left) => tokio::time::timeout(left, metrics.changed()).await,
            None => Ok(metrics.changed().await),
        };
        if matches!(changed, Ok(Err(_))) {
            break;
        }
    }
    tell.send_replace(Leadership::default());
}

fn node_id(id: RaftNodeId) -> Option<NodeId> {
    i32::try_from(id).ok().map(NodeId)
}

//! Being filled again: what this voter asks the others, and when it may vote as before.
//!
//! [`VoterRecovery`] decides, and says why nothing is lost by it; here the others are asked, and what was learned is
//! made durable before it is acted on. Promises: until it is over, this voter gives no vote and stands for nothing,
//! also if it is started again meanwhile; nobody is told that its log is whole before it is, and the image that the
//! node goes by is not seen to go back.

use super::Raft;
use super::endpoint::RaftEndpoint;
use super::entries::EntryLog;
use super::network::Peers;
use super::publication::Publication;
use super::quorum_state::{QuorumStateFile, Recovering};
use super::storage::Flusher;
use super::types::{RaftNodeId, TypeConfig, question};
use openraft::alias::{LogIdOf, VoteOf};
use openraft::async_runtime::WatchReceiver;
use openraft::impls::BasicNode;
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::storage::RaftLogStorage;
use openraft::vote::RaftLeaderId;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use troupe_machines::voter_recovery::{Candidacy, LogPosition, VoterRecovery, VoterStanding};

/// Between two questions, or two looks at how far the log is.
const PAUSE: Duration = Duration::from_millis(100);
/// An answer is waited for this long.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two lines in the log about what is waited for.
const REMINDER: Duration = Duration::from_secs(10);

/// A voter that recovers, and whom it may ask.
pub(super) struct Recovery {
    decides: VoterRecovery,
    node_id: RaftNodeId,
    others: Vec<RaftNodeId>,
    peers: Peers,
    state: Arc<QuorumStateFile>,
    flusher: Flusher,
}

impl Recovery {
    pub fn new(
        node_id: RaftNodeId,
        others: Vec<RaftNodeId>,
        peers: Peers,
        state: Arc<QuorumStateFile>,
        flusher: Flusher,
    ) -> Recovery {
        let written = state.wanted();
        let is_known = written.recovering.is_none_or(|recovering| recovering.vote_known);
        let vote = is_known.then(|| written.vote.map(|vote| candidacy(&vote)));
        let decides = VoterRecovery::new(node_id, others.len() + 1, vote);
        Recovery { decides, node_id, others, peers, state, flusher }
    }

    /// Returns when it is known, and written down, which votes were given at most. Before, nobody may be followed.
    pub async fn learn_vote(&mut self, entries: &mut EntryLog) -> io::Result<()> {
        let mut reminder =
            Reminder::new("the vote was lost too, and has to be heard from all other voters");
        let floor = loop {
            if let Some(floor) = self.decides.floor() {
                break floor;
            }
            reminder.say();
            for other in self.others.clone() {
                self.ask(other).await;
            }
            tokio::time::sleep(PAUSE).await;
        };
        if let Some(floor) = floor {
            let leader_id = RaftLeaderId::new(floor.term, floor.node_id);
            entries.save_vote(&VoteOf::<TypeConfig> { leader_id, committed: false }).await?;
        }
        let known = Recovering { begun: true, vote_known: true };
        self.state.change(|state| state.recovering = state.recovering.map(|_| known));
        self.flusher.flush().await
    }

    async fn ask(&mut self, other: RaftNodeId) {
        let mut peer = self.peers.new_client(other, &BasicNode::default()).await;
        let asked = peer.pre_vote(question(self.node_id), RPCOption::new(ANSWER));
        match asked.await {
            Ok(answer) => {
                let vote = candidacy(&answer.vote);
                let last = answer.last_log_id.as_ref().map(position);
                let standing = VoterStanding { vote, elected: answer.vote.committed, last };
                self.decides.answered(other, standing);
            }
            Err(error) => tracing::debug!(voter = other, %error, "does not answer"),
        }
    }

    /// Returns when this voter may vote again, and does, and the image is that of now.
    pub async fn run(
        mut self,
        raft: Raft,
        endpoint: RaftEndpoint,
        publication: Arc<Publication>,
    ) -> io::Result<()> {
        let mut reminder = Reminder::new("no leader has filled the metadata log again yet");
        let mut metrics = raft.metrics();
        loop {
            let leader = {
                let metrics = metrics.borrow_watched();
                let elected = Some(metrics.vote).filter(|vote| vote.committed);
                elected.map(|vote| candidacy(&vote)).filter(|vote| vote.node_id != self.node_id)
            };
            if let Some(leader) = leader {
                if self.decides.has_to_ask(leader) {
                    self.ask(leader.node_id).await;
                }
                let last = self.state.durable().last;
                if self.decides.is_over(leader, last.as_ref().map(position)) {
                    break;
                }
            }
            reminder.say();
            let _ = tokio::time::timeout(PAUSE, metrics.changed()).await;
        }
        self.state.change(|state| state.recovering = None);
        self.flusher.flush().await?;
        endpoint.vote_again();
        raft.runtime_config().elect(true);
        tracing::info!("the metadata log is whole again, and this voter votes as before");
        loop {
            let applied = {
                let metrics = metrics.borrow_watched();
                metrics.cluster_committed.is_some()
                    && metrics.last_applied >= metrics.cluster_committed
            };
            if applied {
                break;
            }
            let _ = tokio::time::timeout(PAUSE, metrics.changed()).await;
        }
        publication.release();
        Ok(())
    }
}

/// What is waited for, said from time to time.
struct Reminder {
    words: &'static str,
    next: tokio::time::Instant,
}

impl Reminder {
    fn new(words: &'static str) -> Reminder {
        Reminder { words, next: tokio::time::Instant::now() + REMINDER }
    }

    fn say(&mut self) {
        let now = tokio::time::Instant::now();
        if now >= self.next {
            self.next = now + REMINDER;
            tracing::warn!(
                "{}; a majority of voters with whole logs has to run. If more have lost theirs, restore the metadata \
                 directories of enough of them from a backup: what was set aside is beside them",
                self.words
            );
        }
    }
}

fn candidacy(vote: &VoteOf<TypeConfig>) -> Candidacy {
    Candidacy { term: vote.leader_id.term, node_id: vote.leader_id.node_id }
}

fn position(id: &LogIdOf<TypeConfig>) -> LogPosition {
    let leader = id.committed_leader_id();
    let leader = Candidacy { term: leader.term, node_id: leader.node_id };
    LogPosition { leader, index: id.index }
}

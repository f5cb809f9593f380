//! A leader that is gone is followed by another at once, and not after its lease.
//!
//! A follower attends its leader: a call that stays open for as long as that one leads. When it ends, and the
//! leader says itself that it does not lead any more, or nothing listens at its address, the other followers are
//! asked whether they find the same. A majority of the voters that does has nothing to wait for: the one that has
//! most of the log stands for election as if the leader had asked it to.
//!
//! Promises: a leader that a majority can reach is not disturbed, whatever one voter finds; silence proves nothing,
//! so one that is stopped or cut off is replaced when its lease is over, as ever. A voter that alone cannot reach it
//! looks less and less often, and at once when another finds the same. Nothing hangs on a finding that
//! was wrong but a change of leader: who is elected has what was committed, and who led before is refused from then
//! on (Raft's own rules, which need no lease).
//! Never here: what a vote is.

use super::Raft;
use super::endpoint::RaftEndpoint;
use super::network::{Attended, Peers};
use super::types::{RaftNodeId, TypeConfig, leader_vote};
use crate::metadata_log::Leadership;
use crate::probe;
use futures::future::join_all;
use openraft::alias::{LogIdOf, VoteOf};
use openraft::raft::TransferLeaderRequest;
use std::cmp::Reverse;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// Before the leader is attended again: its process may be dying just now.
const PAUSE: Duration = Duration::from_millis(20);
/// So often; from then on each pause is twice as long as the one before: if it were dying, others would find that too.
const SHORT_PAUSES: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that is neither taken nor refused in this time proves nothing.
const PROBE_PATIENCE: Duration = Duration::from_millis(200);
/// Each that is better placed has this long to be elected, before the next stands.
const TURN: Duration = Duration::from_millis(100);

/// How far a voter's log goes, and who it is: the greatest is to lead.
type Claim = (Option<LogIdOf<TypeConfig>>, Reverse<RaftNodeId>);

/// Between two looks at a leader that this voter cannot reach.
#[derive(Debug, Default)]
struct Pauses {
    count: u32,
    /// The last one was cut short.
    cut_short: bool,
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let doublings = self.count.saturating_sub(SHORT_PAUSES).min(16);
        self.count = self.count.saturating_add(1);
        (PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
    }

    /// Lasts one, unless another voter finds the leader gone meanwhile: then there may be a majority by now. But not two
    /// in a row, or two voters that cannot reach it would keep each other from resting.
    async fn last(&mut self, asked: impl Future<Output = ()>) {
        let over = tokio::time::sleep(self.next());
        let may_cut = !std::mem::take(&mut self.cut_short);
        tokio::select! {
            () = over => {}
            () = asked, if may_cut => self.cut_short = true,
        }
    }
}

pub(super) struct Succession {
    id: RaftNodeId,
    peers: Peers,
    endpoint: RaftEndpoint,
}

impl Succession {
    pub fn new(id: RaftNodeId, peers: Peers, endpoint: RaftEndpoint) -> Succession {
        Succession { id, peers, endpoint }
    }

    /// For as long as Raft lives, and longer.
    pub async fn run(mut self, raft: &Raft, mut leadership: watch::Receiver<Leadership>) {
        loop {
            let now = *leadership.borrow_and_update();
            let changed = leadership.changed();
            let changed = match followed(now).filter(|_| !self.peers.is_empty()) {
                None => changed.await,
                Some(leader) => tokio::select! {
                    changed = changed => changed,
                    () = self.attend(raft, leader) => Ok(()),
                },
            };
            if changed.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Returns when this voter has stood for election.
    async fn attend(&mut self, raft: &Raft, leader: VoteOf<TypeConfig>) {
        let (id, term) = (leader.leader_id.node_id, leader.leader_id.term);
        let mut pauses = Pauses::default();
        loop {
            let mut attended = self.peers.attend(id, term).await;
            if let Attended::Leads(over) = attended {
                pauses = Pauses::default();
                over.await;
                // Its connection may have broken, and no more.
                attended = self.peers.attend(id, term).await;
            }
            if matches!(attended, Attended::Unknown) {
                // It answers, and knows nothing of all this: its lease has to do.
                return std::future::pending().await;
            }
            if means_loss(attended, self.peers.address(id)).await && self.stand(raft, &leader).await
            {
                return;
            }
            pauses.last(self.endpoint.asked_of_loss()).await;
        }
    }

    /// Whether it has stood for election.
    async fn stand(&mut self, raft: &Raft, leader: &VoteOf<TypeConfig>) -> bool {
        let Some(own) = self.endpoint.claim(raft, leader).await else { return false };
        let own: Claim = (own, Reverse(self.id));
        let gone = leader.leader_id.node_id;
        let voters = self.peers.ids().count() + 1;
        let others = self.peers.ids().filter(|id| *id != gone);
        let asked = others.map(|id| {
            let mut peers = self.peers.clone();
            async move { Some((peers.confirm_leader_loss(id, leader).await?, Reverse(id))) }
        });
        let others: Vec<Claim> = join_all(asked).await.into_iter().flatten().collect();
        if 2 * (others.len() + 1) <= voters {
            return false;
        }
        let better = others.iter().filter(|other| **other > own).count();
        // Whoever is elected meanwhile ends this.
        tokio::time::sleep(TURN * u32::try_from(better).unwrap_or(u32::MAX)).await;
        tracing::info!(leader = gone, "the leader of the metadata quorum is gone");
        let request = TransferLeaderRequest::new(*leader, self.id, None);
        // Refused, or Raft has ended: somebody else has stood meanwhile, or this node is stopping.
        matches!(raft.handle_transfer_leader(request).await, Ok(Ok(())))
    }
}

/// The vote of the leader that this node follows.
fn followed(Leadership { leader, term, here }: Leadership) -> Option<VoteOf<TypeConfig>> {
    let node_id = RaftNodeId::try_from(leader?.0).ok().filter(|_| !here)?;
    Some(leader_vote(term, node_id))
}

/// Whether the leader says itself that it does not lead, or nothing listens where it was.
pub(super) async fn is_lost(peers: &mut Peers, leader: &VoteOf<TypeConfig>) -> bool {
    let (id, term) = (leader.leader_id.node_id, leader.leader_id.term);
    let attended = peers.attend(id, term).await;
    means_loss(attended, peers.address(id)).await
}

async fn means_loss(attended: Attended, address: Option<&str>) -> bool {
    match (attended, address) {
        (Attended::LeadsNot, _) => true,
        (Attended::Unreachable, Some(address)) => probe::is_refused(address, PROBE_PATIENCE).await,
        (Attended::Leads(_) | Attended::Unknown | Attended::Unreachable, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::time::Instant;

    fn ms(pause: Duration) -> u128 {
        pause.as_millis()
    }

    /// A process that dies is gone soon; a wire that is cut may be cut for long.
    #[test]
    fn a_leader_that_one_voter_alone_cannot_reach_is_looked_at_less_and_less_often() {
        let mut pauses = Pauses::default();
        let soon: Vec<_> = (0..=SHORT_PAUSES).map(|_| ms(pauses.next())).collect();
        assert!(soon.iter().all(|pause| *pause == 20), "{soon:?}");
        let later: Vec<_> = (0..7).map(|_| ms(pauses.next())).collect();
        assert_eq!(later, [40, 80, 160, 320, 640, 1000, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_another_voter_finds_the_leader_gone_but_not_two_in_a_row() {
        let mut pauses = Pauses { count: 100, cut_short: false };
        let begun = Instant::now();
        pauses.last(ready(())).await;
        assert_eq!(ms(begun.elapsed()), 0);
        pauses.last(ready(())).await;
        assert_eq!(ms(begun.elapsed()), 1000);
        pauses.last(ready(())).await;
        assert_eq!(ms(begun.elapsed()), 1000);
        pauses.last(pending()).await;
        assert_eq!(ms(begun.elapsed()), 2000);
    }
}

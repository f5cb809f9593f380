//! Reading from a follower in the client's own rack (KIP-392): which one, for how long, and when not. Pure.
//!
//! The leader names it. It is read from until the leader's epoch is over, the metadata is as old as it may become, it
//! refuses, or it is no in-sync replica of the rack any more; then the leader is asked, and may name it, or another,
//! again.
//! Promise: who goes between the two asks either of them from behind what was received, so nothing is lost or doubled.
//! What a follower refuses ends no partition and resets no position: the leader is asked.

use crate::metadata::Leadership;
use tokio::time::{Duration, Instant};
use troupe_proto::ids::NodeId;

/// After a follower has failed, the leader is read from, and asked for no other; doubles up to the maximum.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// From which replica a partition is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nearby {
    follower: Option<Follower>,
    /// Before this, only the leader is asked, for whatever it names.
    leader_until: Option<Instant>,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Follower {
    node: NodeId,
    /// The leader that named it.
    by: Leadership,
    until: Instant,
}

impl Nearby {
    /// The leader has named a follower to be read from, for so long.
    pub fn turn_to(&mut self, node: NodeId, by: Leadership, until: Instant) {
        self.follower = Some(Follower { node, by, until });
    }

    /// Whom to read from now in place of this leader, if anybody.
    pub fn follower(&self, leader: Leadership, now: Instant) -> Option<NodeId> {
        let follower = self.follower?;
        (follower.by == leader && now < follower.until).then_some(follower.node)
    }

    pub fn is_follower(&self) -> bool {
        self.follower.is_some()
    }

    /// The node that was named last.
    pub fn node(&self) -> Option<NodeId> {
        self.follower.map(|follower| follower.node)
    }

    /// On to the leader, which may name a follower again.
    pub fn leave(&mut self) {
        self.follower = None;
    }

    /// On to the leader, because the follower does not serve.
    pub fn failed(&mut self, now: Instant) {
        self.follower = None;
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures += 1;
        self.leader_until = Some(now + pause);
    }

    /// The follower has handed something out.
    pub fn served(&mut self) {
        if self.is_follower() {
            self.failures = 0;
        }
    }

    /// Whether the leader is asked whom to read from.
    pub fn may_be_sent_on(&mut self, now: Instant) -> bool {
        if self.leader_until.is_some_and(|until| until <= now) {
            self.leader_until = None;
        }
        self.leader_until.is_none()
    }

    /// When to ask the leader again, though what is read from serves.
    pub fn review_at(&self) -> Option<Instant> {
        self.follower.map_or(self.leader_until, |follower| Some(follower.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::LeaderEpoch;

    const AGE: Duration = Duration::from_secs(300);

    fn leader(epoch: u32) -> Leadership {
        Leadership { node: NodeId(1), epoch: LeaderEpoch(epoch) }
    }

    #[test]
    fn a_follower_is_read_from_until_the_metadata_is_as_old_as_it_may_become() {
        let (now, mut nearby) = (Instant::now(), Nearby::default());
        assert_eq!((nearby.follower(leader(3), now), nearby.review_at()), (None, None));
        nearby.turn_to(NodeId(2), leader(3), now + AGE);
        assert_eq!(nearby.follower(leader(3), now), Some(NodeId(2)));
        assert_eq!(nearby.review_at(), Some(now + AGE));
        assert_eq!(nearby.follower(leader(3), now + AGE), None);
    }

    #[test]
    fn whom_a_leader_has_named_counts_for_that_leader_alone() {
        let (now, mut nearby) = (Instant::now(), Nearby::default());
        nearby.turn_to(NodeId(2), leader(3), now + AGE);
        assert_eq!(nearby.follower(leader(4), now), None);
    }

    #[test]
    fn after_a_follower_has_failed_the_leader_is_read_from_for_ever_longer_until_one_serves() {
        let (now, mut nearby) = (Instant::now(), Nearby::default());
        let mut pause = PAUSE;
        for _ in 0..10 {
            assert!(nearby.may_be_sent_on(now), "the pause is over");
            nearby.turn_to(NodeId(2), leader(3), now + AGE);
            nearby.failed(now);
            assert_eq!(nearby.follower(leader(3), now), None);
            assert!(!nearby.may_be_sent_on(now));
            assert_eq!(nearby.review_at(), Some(now + pause));
            assert!(nearby.may_be_sent_on(now + pause));
            pause = (2 * pause).min(PAUSE_MAX);
        }
        nearby.served();
        nearby.failed(now);
        assert_eq!(nearby.review_at(), Some(now + PAUSE_MAX), "the leader has served");
        nearby.turn_to(NodeId(2), leader(3), now + AGE);
        nearby.served();
        nearby.failed(now);
        assert_eq!(nearby.review_at(), Some(now + PAUSE));
    }
}

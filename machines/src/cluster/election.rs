//! Who leads a partition, and who is in sync, when brokers come and go (R12, R14–R16, K15, K16).
//!
//! ```text
//! replicas ⊇ ISR ∪ ELR      ISR ∩ ELR = ∅      leader ∈ ISR      |ISR| ≥ min.insync.replicas ⇒ ELR = ∅
//! last in sync ∩ (ISR ∪ ELR) = ∅
//! ```
//!
//! The ELR (KIP-966) are replicas that left the ISR while it was, or became, smaller than
//! `min.insync.replicas`. From then on the high watermark stands still (R3), so they keep every committed
//! record and may lead without loss once the ISR is empty.
//!
//! After a blackout all brokers register again, one after the other, and each leaves the ISR: the last one alone
//! would be eligible, although nothing can have been committed since the first was gone. So who leaves while the
//! leader is silent is remembered as *last in sync*, until a leader is heard. If the eligible ones turn out to lack
//! what they had acknowledged, one of those leads; who lacks something does not, as long as there are any. But a leader
//! that was not heard may have heard: of who left, if only its own words were lost, and then it has committed without
//! them. So whoever leads as last in sync is taken for one that may lack committed records, like any that was not in
//! sync.

use super::image::Partition;
use crate::config::TopicConfig;
use std::collections::BTreeSet;
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionEpoch};

/// By what a partition is settled anew after something has changed.
pub(super) struct Rules<'a, F> {
    pub is_active: F,
    /// Who is not heard just now; `None`: nobody knows.
    pub silent: Option<&'a BTreeSet<NodeId>>,
    /// `min.insync.replicas`.
    pub min_isr: u32,
    /// R15: whether a replica may lead that may lack committed records.
    pub unclean: bool,
}

impl<'a, F: Fn(NodeId) -> bool> Rules<'a, F> {
    pub fn of(config: &TopicConfig, is_active: F) -> Rules<'a, F> {
        Rules {
            is_active,
            silent: None,
            min_isr: config.min_insync_replicas,
            unclean: config.unclean_leader_election,
        }
    }

    /// The partition after `node` has gone; `None` if nothing changes. If `lost`, what it had on its disk
    /// may be gone too.
    pub fn without(&self, partition: &Partition, node: NodeId, lost: bool) -> Option<Partition> {
        let isr = partition.isr.iter().copied().filter(|other| *other != node).collect();
        let is_active = |other: NodeId| other != node && (self.is_active)(other);
        let Rules { silent, min_isr, unclean, .. } = *self;
        let rules = Rules { is_active, silent, min_isr, unclean };
        rules.settle(partition, isr, lost.then_some(node))
    }

    /// The partition after a broker has come (back); `None` if nothing changes.
    pub fn with(&self, partition: &Partition) -> Option<Partition> {
        self.settle(partition, partition.isr.clone(), None)
    }

    /// The partition once `isr` is in sync; `None` if nothing changes.
    pub fn settle(
        &self,
        before: &Partition,
        isr: Vec<NodeId>,
        lost: Option<NodeId>,
    ) -> Option<Partition> {
        let eligible = self.eligible(before, &isr, lost);
        let (leader, isr, elected) = self.elect(before, isr, &eligible, lost);
        let elr = match elected {
            Elected::Unclean => Vec::new(),
            Elected::Clean | Elected::Nobody => self.eligible(before, &isr, lost),
        };
        let last_in_sync = match elected {
            Elected::Unclean => Vec::new(),
            Elected::Clean | Elected::Nobody => self.last_in_sync(before, leader, lost, |node| {
                isr.contains(&node) || elr.contains(&node)
            }),
        };
        let last_known_leader =
            if isr.is_empty() { before.leader.or(before.last_known_leader) } else { None };
        let recovering = match elected {
            Elected::Unclean => true,
            Elected::Clean | Elected::Nobody => before.recovering,
        };
        let after = Partition {
            isr,
            elr,
            leader,
            last_known_leader,
            last_in_sync,
            recovering,
            ..before.clone()
        };
        let after = after.with_reassignment_completed(self.min_isr, &self.is_active);
        let again = elected == Elected::Unclean;
        (again || after != *before).then(|| after.succeeding(before, again))
    }

    /// R16: who has every committed record without being in `isr`.
    fn eligible(&self, before: &Partition, isr: &[NodeId], lost: Option<NodeId>) -> Vec<NodeId> {
        let effective_min = (self.min_isr as usize).clamp(1, before.least_replicas().max(1));
        if isr.len() >= effective_min {
            return Vec::new();
        }
        let had_all = |node: &NodeId| before.isr.contains(node) || before.elr.contains(node);
        let left = |node: &NodeId| !isr.contains(node) && Some(*node) != lost;
        before.replicas.iter().copied().filter(|node| had_all(node) && left(node)).collect()
    }

    /// Who leaves while no leader is heard stays known; a leader that is heard goes on without them.
    fn last_in_sync(
        &self,
        before: &Partition,
        leader: Option<NodeId>,
        lost: Option<NodeId>,
        counts_already: impl Fn(NodeId) -> bool,
    ) -> Vec<NodeId> {
        let (adds, keeps) = match (self.silent, leader) {
            (None, _) => (false, true),
            (Some(silent), Some(leader)) => (silent.contains(&leader), silent.contains(&leader)),
            (Some(_), None) => (true, true),
        };
        let belongs = |node: &NodeId| {
            let was_known = keeps && before.last_in_sync.contains(node);
            let leaves = adds && (before.isr.contains(node) || before.elr.contains(node));
            (was_known || leaves) && Some(*node) != lost && !counts_already(*node)
        };
        before.replicas.iter().copied().filter(belongs).collect()
    }

    /// R12: the current leader if it is in sync and active; else the first in replica order that is. With
    /// nobody in sync: the first of the ELR (R16). With nobody there either: the first of those that were in sync
    /// last, which may lack what a leader that was not heard has committed since; without any, the last known leader. Or if unclean elections are allowed the first that is active
    /// (R15), each alone. Else nobody.
    fn elect(
        &self,
        before: &Partition,
        isr: Vec<NodeId>,
        eligible: &[NodeId],
        lost: Option<NodeId>,
    ) -> (Option<NodeId>, Vec<NodeId>, Elected) {
        let first = |may: &dyn Fn(NodeId) -> bool| {
            before.replicas.iter().copied().find(|node| (self.is_active)(*node) && may(*node))
        };
        let in_sync = |node: NodeId| isr.contains(&node);
        let kept = before.leader.filter(|leader| (self.is_active)(*leader) && in_sync(*leader));
        if let Some(leader) = kept.or_else(|| first(&in_sync)) {
            return (Some(leader), isr, Elected::Clean);
        }
        if isr.is_empty() {
            if let Some(leader) = first(&|node| eligible.contains(&node)) {
                return (Some(leader), vec![leader], Elected::Clean);
            }
            let last = before.leader.or(before.last_known_leader);
            let others = before.last_in_sync.iter().any(|node| Some(*node) != lost);
            let was_in_sync = |node| Some(node) != lost && before.last_in_sync.contains(&node);
            if eligible.is_empty()
                && let Some(leader) = first(&was_in_sync)
            {
                return (Some(leader), vec![leader], Elected::Unclean);
            }
            if eligible.is_empty()
                && !others
                && let Some(leader) = first(&|node| Some(node) == last)
            {
                return (Some(leader), vec![leader], Elected::Unclean);
            }
        }
        match first(&|_| self.unclean) {
            Some(leader) => (Some(leader), vec![leader], Elected::Unclean),
            None => (None, isr, Elected::Nobody),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Elected {
    Clean,
    /// Committed records may be missing.
    Unclean,
    Nobody,
}

/// R17: the preferred leader in place of the current one, if it may lead and does not yet.
pub(super) fn prefer(
    before: &Partition,
    is_active: impl Fn(NodeId) -> bool,
) -> Result<Option<Partition>, NodeId> {
    let Some(preferred) = before.replicas.first().copied() else { return Ok(None) };
    if before.leader == Some(preferred) {
        return Ok(None);
    }
    if !before.isr.contains(&preferred) || !is_active(preferred) {
        return Err(preferred);
    }
    Ok(Some(Partition {
        leader: Some(preferred),
        leader_epoch: LeaderEpoch(before.leader_epoch.0 + 1),
        partition_epoch: PartitionEpoch(before.partition_epoch.0 + 1),
        ..before.clone()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn partition(replicas: &[i32], isr: &[i32], leader: Option<i32>) -> Partition {
        Partition {
            replicas: nodes(replicas),
            adding: Vec::new(),
            removing: Vec::new(),
            original: Vec::new(),
            isr: nodes(isr),
            elr: Vec::new(),
            leader: leader.map(NodeId),
            last_known_leader: None,
            last_in_sync: Vec::new(),
            recovering: false,
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(7),
        }
    }

    fn rules(
        active: &[i32],
        min_isr: u32,
        unclean: bool,
    ) -> Rules<'static, impl Fn(NodeId) -> bool> {
        let active = nodes(active);
        let is_active = move |node: NodeId| active.contains(&node);
        Rules { is_active, silent: None, min_isr, unclean }
    }

    const ALL: &[i32] = &[0, 1, 2, 3];

    /// R13.
    #[test]
    fn replica_order_decides_and_a_returned_broker_does_not_take_over() {
        let before = partition(&[1, 2, 3, 0], &[0, 1, 2, 3], Some(1));
        let rules = rules(ALL, 1, false);
        let after = rules.without(&before, NodeId(1), false).unwrap();
        assert_eq!(after.leader, Some(NodeId(2)));
        assert_eq!(after.isr, nodes(&[0, 2, 3]));
        assert_eq!(after.leader_epoch, LeaderEpoch(5));
        assert_eq!(after.partition_epoch, PartitionEpoch(8));
        assert_eq!(rules.with(&after), None);
    }

    #[test]
    fn a_follower_that_goes_leaves_the_leader_and_its_epoch_alone() {
        let before = partition(&[1, 2], &[1, 2], Some(1));
        let after = rules(ALL, 1, false).without(&before, NodeId(2), false).unwrap();
        assert_eq!((after.leader, after.leader_epoch), (Some(NodeId(1)), LeaderEpoch(4)));
        assert_eq!(after.isr, nodes(&[1]));
    }

    /// R14, R16, K16: only those who have every committed record lead again.
    #[test]
    fn the_last_in_sync_replica_stays_eligible_and_leads_again_when_it_is_back() {
        let before = partition(&[1, 2], &[1], Some(1));
        let gone = rules(ALL, 1, false).without(&before, NodeId(1), false).unwrap();
        assert_eq!((gone.leader, &gone.isr, &gone.elr), (None, &nodes(&[]), &nodes(&[1])));
        assert_eq!(rules(&[2], 1, false).with(&gone), None, "2 was not in sync");
        let back = rules(ALL, 1, false).with(&gone).unwrap();
        assert_eq!((back.leader, back.leader_epoch), (Some(NodeId(1)), LeaderEpoch(6)));
        assert_eq!((back.isr, back.elr, back.recovering), (nodes(&[1]), nodes(&[]), false));
    }

    /// R14: an image from before there was an ELR keeps the last member in the ISR.
    #[test]
    fn a_leaderless_isr_of_one_waits_for_that_one() {
        let before = partition(&[1, 2], &[1], None);
        assert_eq!(rules(&[2], 1, false).with(&before), None);
        assert_eq!(rules(ALL, 1, false).with(&before).unwrap().leader, Some(NodeId(1)));
    }

    /// R15.
    #[test]
    fn only_an_unclean_election_makes_a_replica_lead_that_is_not_in_sync() {
        let before = partition(&[1, 2], &[1], Some(1));
        let after = rules(ALL, 1, true).without(&before, NodeId(1), false).unwrap();
        assert_eq!((after.leader, &after.isr), (Some(NodeId(2)), &nodes(&[2])));
        assert_eq!((&after.elr, after.recovering), (&nodes(&[]), true));
    }

    #[test]
    fn a_broker_that_is_not_active_is_never_elected() {
        let before = partition(&[1, 2, 3], &[1, 2, 3], Some(1));
        let after = rules(&[3], 1, false).without(&before, NodeId(1), false).unwrap();
        assert_eq!(after.leader, Some(NodeId(3)));
    }

    /// R16, in its order: ISR, then ELR, then the last known leader.
    #[test]
    fn below_min_isr_those_who_leave_stay_eligible_until_enough_are_in_sync() {
        let before = partition(&[1, 2, 3], &[1, 2, 3], Some(1));
        let two = rules(&[1, 2], 2, false).without(&before, NodeId(3), false).unwrap();
        assert_eq!((&two.isr, &two.elr), (&nodes(&[1, 2]), &nodes(&[])), "2 are enough");
        let one = rules(&[1], 2, false).without(&two, NodeId(2), false).unwrap();
        assert_eq!((&one.isr, &one.elr), (&nodes(&[1]), &nodes(&[2])));
        let none = rules(&[], 2, false).without(&one, NodeId(1), false).unwrap();
        assert_eq!((&none.isr, &none.elr), (&nodes(&[]), &nodes(&[1, 2])));
        assert_eq!(none.last_known_leader, Some(NodeId(1)));
        assert_eq!(rules(&[3], 2, false).with(&none), None, "3 lacks what 1 and 2 committed");
        let led = rules(&[2, 3], 2, false).with(&none).unwrap();
        assert_eq!((led.leader, &led.isr, &led.elr), (Some(NodeId(2)), &nodes(&[2]), &nodes(&[1])));
        assert!(!led.recovering);
        let full = rules(ALL, 2, false).settle(&led, nodes(&[2, 3]), None).unwrap();
        assert_eq!((full.elr, full.leader_epoch), (nodes(&[]), led.leader_epoch));
    }

    /// R16.
    #[test]
    fn who_lost_its_disk_is_eligible_no_more_and_the_last_known_leader_comes_last() {
        let before = partition(&[1, 2], &[1], Some(1));
        let lost = rules(&[], 1, false).without(&before, NodeId(1), true).unwrap();
        assert_eq!((&lost.isr, &lost.elr), (&nodes(&[]), &nodes(&[])));
        assert_eq!(lost.last_known_leader, Some(NodeId(1)));
        assert_eq!(rules(&[2], 1, false).with(&lost), None);
        let back = rules(&[1, 2], 1, false).with(&lost).unwrap();
        assert_eq!((back.leader, back.isr, back.recovering), (Some(NodeId(1)), nodes(&[1]), true));
        assert_eq!(back.last_known_leader, None);
    }

    /// All three lose power, and register again one after the other.
    #[test]
    fn after_a_blackout_a_damaged_replica_does_not_lead_while_another_that_was_in_sync_lives() {
        let everybody = ALL.iter().copied().map(NodeId).collect();
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            for damaged in order {
                let mut state = partition(&[1, 2, 3], &[1, 2, 3], Some(1));
                for node in order {
                    let rules = Rules { silent: Some(&everybody), ..rules(ALL, 1, false) };
                    state = rules.without(&state, NodeId(node), false).unwrap_or(state);
                }
                let nobody: &[i32] = &[];
                state =
                    rules(nobody, 1, false).without(&state, NodeId(damaged), true).unwrap_or(state);
                let alone = rules(&[damaged], 1, false).with(&state);
                assert_eq!(alone.and_then(|after| after.leader), None, "{damaged} of {order:?}");
                let led = rules(ALL, 1, false).with(&state).unwrap();
                let leader = led.leader.unwrap();
                assert_ne!(leader, NodeId(damaged), "{order:?}: {state:?}");
                // Who left last is eligible; the others may have been gone on without.
                assert_eq!((led.isr, led.recovering), (vec![leader], state.elr.is_empty()));
            }
        }
    }

    /// What the leader commits from then on, who is gone does not have.
    #[test]
    fn who_left_while_the_leader_was_heard_is_not_last_in_sync() {
        let silent = [NodeId(1)].into();
        let before = partition(&[1, 2], &[1, 2], Some(2));
        let heard = Rules { silent: Some(&silent), ..rules(ALL, 1, false) };
        let after = heard.without(&before, NodeId(1), false).unwrap();
        assert!(after.last_in_sync.is_empty());
        // and alone it leads, whatever it lacks
        let lost = rules(&[], 1, false).without(&after, NodeId(2), true).unwrap();
        assert_eq!(rules(&[1], 1, false).with(&lost), None);
        let led = rules(ALL, 1, false).with(&lost).unwrap();
        assert_eq!((led.leader, led.recovering), (Some(NodeId(2)), true));
    }

    /// R17.
    #[test]
    fn the_preferred_leader_leads_if_it_is_in_sync_and_active() {
        let before = partition(&[1, 2], &[1, 2], Some(2));
        let after = prefer(&before, |_| true).unwrap().unwrap();
        assert_eq!((after.leader, after.leader_epoch), (Some(NodeId(1)), LeaderEpoch(5)));
        assert_eq!(prefer(&after, |_| true), Ok(None));
        assert_eq!(prefer(&before, |node| node != NodeId(1)), Err(NodeId(1)));
        let behind = partition(&[1, 2], &[2], Some(2));
        assert_eq!(prefer(&behind, |_| true), Err(NodeId(1)));
    }
}

//! Who leads a partition when brokers come and go (R12, R14–R16, K15, K16).

use super::image::Partition;
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionEpoch};

/// The partition after `node` has gone; `None` if nothing changes. The last in-sync member stays in the
/// ISR (R14): it alone has every committed record.
pub(super) fn without(
    partition: &Partition,
    node: NodeId,
    is_active: impl Fn(NodeId) -> bool,
    unclean: bool,
) -> Option<Partition> {
    let mut isr: Vec<_> = partition.isr.iter().copied().filter(|other| *other != node).collect();
    if isr.is_empty() {
        isr.clone_from(&partition.isr);
    }
    let remaining = |other: NodeId| other != node && is_active(other);
    elect(partition, isr, remaining, unclean)
}

/// The partition after a broker has come (back); `None` if nothing changes.
pub(super) fn with(
    partition: &Partition,
    is_active: impl Fn(NodeId) -> bool,
    unclean: bool,
) -> Option<Partition> {
    elect(partition, partition.isr.clone(), is_active, unclean)
}

/// R12: the current leader if it is in sync and active; else the first in replica order that is; else,
/// if unclean elections are allowed, the first that is active, alone (R15); else nobody.
fn elect(
    before: &Partition,
    isr: Vec<NodeId>,
    is_active: impl Fn(NodeId) -> bool,
    unclean: bool,
) -> Option<Partition> {
    let eligible = |node: &NodeId| isr.contains(node) && is_active(*node);
    let kept = before.leader.filter(eligible);
    let clean = kept.or_else(|| before.replicas.iter().copied().find(eligible));
    let forced = || before.replicas.iter().copied().find(|node| unclean && is_active(*node));
    let (leader, isr) = match (clean, clean.is_none().then(forced).flatten()) {
        (Some(leader), _) => (Some(leader), isr),
        (None, Some(leader)) => (Some(leader), vec![leader]),
        (None, None) => (None, isr),
    };
    if leader == before.leader && isr == before.isr {
        return None;
    }
    let leader_epoch = before.leader_epoch.0 + u32::from(leader != before.leader);
    Some(Partition {
        replicas: before.replicas.clone(),
        isr,
        leader,
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch: PartitionEpoch(before.partition_epoch.0 + 1),
    })
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
            isr: nodes(isr),
            leader: leader.map(NodeId),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(7),
        }
    }

    /// R13.
    #[test]
    fn replica_order_decides_and_a_returned_broker_does_not_take_over() {
        let before = partition(&[1, 2, 3, 0], &[0, 1, 2, 3], Some(1));
        let after = without(&before, NodeId(1), |_| true, false).unwrap();
        assert_eq!(after.leader, Some(NodeId(2)));
        assert_eq!(after.isr, nodes(&[0, 2, 3]));
        assert_eq!(after.leader_epoch, LeaderEpoch(5));
        assert_eq!(after.partition_epoch, PartitionEpoch(8));
        assert_eq!(with(&after, |_| true, false), None);
    }

    #[test]
    fn a_follower_that_goes_leaves_the_leader_and_its_epoch_alone() {
        let before = partition(&[1, 2], &[1, 2], Some(1));
        let after = without(&before, NodeId(2), |_| true, false).unwrap();
        assert_eq!((after.leader, after.leader_epoch), (Some(NodeId(1)), LeaderEpoch(4)));
        assert_eq!(after.isr, nodes(&[1]));
    }

    /// R14, K16.
    #[test]
    fn the_last_in_sync_replica_stays_in_the_isr_and_leads_again_when_it_is_back() {
        let before = partition(&[1, 2], &[1], Some(1));
        let gone = without(&before, NodeId(1), |_| true, false).unwrap();
        assert_eq!((gone.leader, &gone.isr), (None, &nodes(&[1])));
        assert_eq!(with(&gone, |node| node == NodeId(2), false), None, "2 is not in sync");
        let back = with(&gone, |_| true, false).unwrap();
        assert_eq!((back.leader, back.leader_epoch), (Some(NodeId(1)), LeaderEpoch(6)));
    }

    /// R15.
    #[test]
    fn only_an_unclean_election_makes_a_replica_lead_that_is_not_in_sync() {
        let before = partition(&[1, 2], &[1], Some(1));
        let after = without(&before, NodeId(1), |_| true, true).unwrap();
        assert_eq!((after.leader, after.isr), (Some(NodeId(2)), nodes(&[2])));
    }

    #[test]
    fn a_broker_that_is_not_active_is_never_elected() {
        let before = partition(&[1, 2, 3], &[1, 2, 3], Some(1));
        let after = without(&before, NodeId(1), |node| node == NodeId(3), false).unwrap();
        assert_eq!(after.leader, Some(NodeId(3)));
    }
}

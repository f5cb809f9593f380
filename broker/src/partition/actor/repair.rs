//! Damage that was found in the log: what the controller knows of it, and what was done to have it filled again.

use troupe_machines::replica::PartitionState;
use troupe_proto::ids::{NodeId, PartitionEpoch};

/// What the controller knows of damage that was found in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Report {
    /// There is nothing to report.
    #[default]
    Needless,
    /// It was sent, or is about to be.
    Owed,
    /// From this partition epoch on, what the controller says of the partition goes by it.
    KnownFrom(PartitionEpoch),
    /// The controller has answered, and is of a version that may not have understood.
    Heard,
}

impl Report {
    /// Whether a replica with this report outstanding must keep still when it is told of `state`: neither lead, as
    /// others would truncate what it lacks, nor follow, as it counts for in sync.
    pub fn withholds(self, state: &PartitionState, node_id: NodeId) -> bool {
        match self {
            Report::Needless => false,
            Report::Owed => true,
            Report::KnownFrom(epoch) => state.partition_epoch < epoch,
            Report::Heard => state.leader == Some(node_id) && has_others(state, node_id),
        }
    }

    /// Whether who is in sync by `state` has been filled again, or is the best that there is.
    pub fn is_over(self, state: &PartitionState, node_id: NodeId) -> bool {
        match self {
            Report::KnownFrom(epoch) => {
                state.partition_epoch >= epoch && state.isr.contains(&node_id)
            }
            Report::Needless | Report::Owed | Report::Heard => false,
        }
    }
}

pub fn has_others(state: &PartitionState, node_id: NodeId) -> bool {
    state.isr.iter().any(|node| *node != node_id)
}

#[derive(Default)]
pub struct Repair {
    pub report: Report,
    /// A leader has sent something since the log was opened.
    pub followed: bool,
    /// What is lacking is lost for good, and that was said.
    pub lost: bool,
    /// What stood behind a gap was dropped.
    pub gap_truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::{BrokerEpoch, LeaderEpoch};

    const ME: NodeId = NodeId(1);

    fn state(partition_epoch: u32, leader: i32, isr: &[i32]) -> PartitionState {
        let isr: Vec<_> = isr.iter().copied().map(NodeId).collect();
        PartitionState {
            leader: Some(NodeId(leader)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(partition_epoch),
            replicas: [1, 2, 3].map(NodeId).to_vec(),
            eligible: isr.iter().map(|node| (*node, BrokerEpoch(0))).collect(),
            isr,
        }
    }

    #[test]
    fn whose_damage_is_not_known_yet_neither_leads_nor_follows() {
        let (before, after) = (state(6, 1, &[1, 3]), state(7, 3, &[3]));
        assert!(!Report::Needless.withholds(&before, ME));
        for told in [&before, &after] {
            assert!(Report::Owed.withholds(told, ME));
        }
        let known = Report::KnownFrom(PartitionEpoch(7));
        assert!(known.withholds(&before, ME), "the news overtook the state");
        assert!(!known.withholds(&after, ME));
        assert!(!known.withholds(&state(8, 1, &[1]), ME), "nobody has more");
    }

    #[test]
    fn damage_is_not_forgotten_by_a_state_from_before_it_was_known() {
        let known = Report::KnownFrom(PartitionEpoch(7));
        assert!(!known.is_over(&state(6, 3, &[1, 3]), ME));
        assert!(!known.is_over(&state(7, 3, &[3]), ME));
        assert!(known.is_over(&state(8, 3, &[1, 3]), ME), "filled again");
        assert!(known.is_over(&state(7, 1, &[1]), ME), "nobody has more");
        assert!(!Report::Owed.is_over(&state(8, 3, &[1, 3]), ME));
    }

    /// A controller of an earlier version leaves it in the ISR.
    #[test]
    fn where_the_controller_may_not_have_understood_another_leads_and_damage_stays_noted() {
        assert!(Report::Heard.withholds(&state(7, 1, &[1, 3]), ME));
        assert!(!Report::Heard.withholds(&state(7, 1, &[1]), ME));
        assert!(!Report::Heard.withholds(&state(7, 3, &[1, 3]), ME));
        assert!(!Report::Heard.is_over(&state(9, 3, &[1, 3]), ME));
    }
}

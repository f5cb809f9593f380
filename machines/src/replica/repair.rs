//! Damage that was found in a replica's log: what the controller knows of it, and how the replica is filled again.
//!
//! ```text
//!   found ──► Owed ──► KnownFrom: out of ISR and ELR ──► drops what lies behind the gap ──► follows ──► in sync: forgotten
//!                          └─► leads, as nobody has more: kept in mind until it is given up, or another is in sync
//! ```
//!
//! Promises: until the controller knows, the replica neither leads nor follows; what it lacks is forgotten only when it
//! has been filled again, or is lost; who leads although it lacks something hands over to the first that is in sync.
//! Never here: files, and what exactly is damaged.

use super::PartitionState;
use super::planted::{Bug, Bugs};
use std::ops::Range;
use troupe_proto::ids::{NodeId, Offset, PartitionEpoch};

/// What the controller knows of damage that was found in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Report {
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

/// What is to become of the note of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// It stays as it is.
    Keep,
    /// It stays: nobody reads over what is damaged before somebody has given it up. Said once.
    KeepInMind,
    /// Another replica is in sync by now, and has what is damaged here: the controller is to be told again.
    HandOver,
    /// It goes: the replica was filled again.
    Filled,
    /// It goes: the log is sound as it is, and what it lacks at its end is lost for good, or was deleted since.
    Lost,
}

/// Of one life of a replica.
#[derive(Clone, Debug)]
pub struct Repair {
    report: Report,
    /// A leader has sent something since the log was opened.
    followed: bool,
    /// What is lacking at the end is lost for good, and that was said.
    lost: bool,
    /// What is damaged within the log is kept in mind, and that was said.
    kept: bool,
    /// What stood behind a gap was dropped, or there was nothing: a stream was opened.
    gap_dropped: bool,
    bugs: Bugs,
}

impl Default for Repair {
    fn default() -> Self {
        let bugs = Bugs::NONE;
        Repair {
            report: Report::default(),
            followed: false,
            lost: false,
            kept: false,
            gap_dropped: false,
            bugs,
        }
    }
}

impl Repair {
    /// The controller is to be told. Before the machine hears anything of the controller.
    pub fn owe(&mut self) {
        self.report = Report::Owed;
    }

    /// The controller has answered. `from`: the partition epoch of an image that goes by it; `None`: it does not say
    /// whether it has understood.
    pub fn hear_known(&mut self, from: Option<PartitionEpoch>) {
        self.report = from.map_or(Report::Heard, Report::KnownFrom);
    }

    /// A leader has sent something.
    pub fn note_followed(&mut self) {
        self.followed = true;
    }

    /// Whether the replica must keep still when it is told of `state`: neither lead, as others would truncate what it
    /// lacks, nor follow, as it counts for in sync.
    pub fn withholds(&self, state: &PartitionState, node_id: NodeId) -> bool {
        if self.bugs.has(Bug::IgnoreDamage) {
            return false;
        }
        match self.report {
            Report::Needless => false,
            Report::Owed => true,
            Report::KnownFrom(epoch) => state.partition_epoch < epoch,
            Report::Heard => state.leader == Some(node_id) && has_others(state, node_id),
        }
    }

    /// Whether who is in sync by `state` has been filled again, or is the best that there is.
    fn is_over(&self, state: &PartitionState, node_id: NodeId) -> bool {
        match self.report {
            Report::KnownFrom(epoch) => {
                state.partition_epoch >= epoch && state.isr.contains(&node_id)
            }
            Report::Needless | Report::Owed | Report::Heard => false,
        }
    }

    /// Of a replica that is noted to be damaged, after it has learned of `state`. Once the controller has heard of the
    /// damage, who is in sync has been filled again; and whoever leads has all that there is. `damaged_from`: where what
    /// is damaged begins, if it lies within the log.
    pub fn conclude(
        &mut self,
        state: &PartitionState,
        node_id: NodeId,
        leads: bool,
        damaged_from: Option<Offset>,
    ) -> Conclusion {
        let alone = state.replicas.len() == 1;
        if !(alone && leads || self.is_over(state, node_id)) {
            return Conclusion::Keep;
        }
        if self.followed || state.leader != Some(node_id) {
            return Conclusion::Filled;
        }
        if !leads {
            // It is to lead and cannot yet: nobody has filled it.
            return Conclusion::Keep;
        }
        if damaged_from.is_some() && has_others(state, node_id) {
            self.report = Report::Owed;
            return Conclusion::HandOver;
        }
        let (said, conclusion) = match damaged_from {
            Some(_) => (&mut self.kept, Conclusion::KeepInMind),
            None => (&mut self.lost, Conclusion::Lost),
        };
        if std::mem::replace(said, true) { Conclusion::Keep } else { conclusion }
    }

    /// Before a damaged replica opens a stream: from where on it is to drop its log, which is whole below
    /// `complete_below`. What it has behind a gap is sent again by a leader: the gap cannot be filled where it is. If it
    /// is compacted, all of it: what it has could lack tombstones that the leader has dropped, since this replica had
    /// them. Once, before the first stream.
    pub fn drop_behind_gap(
        &mut self,
        complete_below: Offset,
        log: Range<Offset>,
        compacts: bool,
    ) -> Option<Offset> {
        // Also where there is none: what the log has behind from then on is what a leader has sent.
        let had_stream = std::mem::replace(&mut self.gap_dropped, true);
        let has_gap = complete_below < log.end || compacts && log.start < log.end;
        if had_stream || !has_gap || self.bugs.has(Bug::FillFromOldEnd) {
            return None;
        }
        Some(if compacts { log.start } else { complete_below.max(log.start) })
    }
}

#[cfg(any(test, feature = "planted-bugs"))]
impl Repair {
    /// It has the bug from now on.
    pub fn plant(&mut self, bug: Bug) {
        self.bugs = Bugs::with(bug);
    }
}

/// Whether anybody else is in sync.
pub fn has_others(state: &PartitionState, node_id: NodeId) -> bool {
    state.isr.iter().any(|node| *node != node_id)
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
            least_replicas: 3,
            eligible: isr.iter().map(|node| (*node, BrokerEpoch(0))).collect(),
            isr,
        }
    }

    fn owed() -> Repair {
        let mut repair = Repair::default();
        repair.owe();
        repair
    }

    fn known_from(epoch: u32) -> Repair {
        let mut repair = owed();
        repair.hear_known(Some(PartitionEpoch(epoch)));
        repair
    }

    /// A controller of an earlier version has answered.
    fn heard() -> Repair {
        let mut repair = owed();
        repair.hear_known(None);
        repair
    }

    #[test]
    fn whose_damage_is_not_known_yet_neither_leads_nor_follows() {
        let (before, after) = (state(6, 1, &[1, 3]), state(7, 3, &[3]));
        assert!(!Repair::default().withholds(&before, ME));
        for told in [&before, &after] {
            assert!(owed().withholds(told, ME));
        }
        let known = known_from(7);
        assert!(known.withholds(&before, ME), "the news overtook the state");
        assert!(!known.withholds(&after, ME));
        assert!(!known.withholds(&state(8, 1, &[1]), ME), "nobody has more");
    }

    #[test]
    fn damage_is_not_forgotten_by_a_state_from_before_it_was_known() {
        let known = known_from(7);
        assert!(!known.is_over(&state(6, 3, &[1, 3]), ME));
        assert!(!known.is_over(&state(7, 3, &[3]), ME));
        assert!(known.is_over(&state(8, 3, &[1, 3]), ME), "filled again");
        assert!(known.is_over(&state(7, 1, &[1]), ME), "nobody has more");
        assert!(!owed().is_over(&state(8, 3, &[1, 3]), ME));
    }

    /// A controller of an earlier version leaves it in the ISR.
    #[test]
    fn where_the_controller_may_not_have_understood_another_leads_and_damage_stays_noted() {
        assert!(heard().withholds(&state(7, 1, &[1, 3]), ME));
        assert!(!heard().withholds(&state(7, 1, &[1]), ME));
        assert!(!heard().withholds(&state(7, 3, &[1, 3]), ME));
        assert!(!heard().is_over(&state(9, 3, &[1, 3]), ME));
    }

    #[test]
    fn who_was_filled_by_a_leader_forgets_its_damage_also_when_it_leads_by_then() {
        let damaged = Some(Offset(4));
        let mut repair = known_from(7);
        assert_eq!(repair.conclude(&state(7, 3, &[3]), ME, false, damaged), Conclusion::Keep);
        repair.note_followed();
        let filled = state(9, 1, &[1, 3]);
        assert_eq!(repair.conclude(&filled, ME, true, None), Conclusion::Filled);
    }

    #[test]
    fn what_nobody_else_has_is_lost_at_the_end_and_kept_in_mind_within_the_log_and_both_are_said_once()
     {
        let alone = state(7, 1, &[1]);
        for (damaged_from, expected) in
            [(None, Conclusion::Lost), (Some(Offset(4)), Conclusion::KeepInMind)]
        {
            let mut repair = known_from(7);
            assert_eq!(repair.conclude(&alone, ME, true, damaged_from), expected);
            assert_eq!(repair.conclude(&alone, ME, true, damaged_from), Conclusion::Keep);
        }
    }

    #[test]
    fn what_is_kept_in_mind_is_forgotten_once_it_was_deleted() {
        let mut repair = known_from(7);
        let alone = state(7, 1, &[1]);
        assert_eq!(repair.conclude(&alone, ME, true, Some(Offset(4))), Conclusion::KeepInMind);
        assert_eq!(repair.conclude(&alone, ME, true, None), Conclusion::Lost);
    }

    /// It was rebuilt in the epoch that it is to lead in, and waits for the next one.
    #[test]
    fn who_is_to_lead_and_does_not_yet_was_not_filled_by_anybody() {
        let mut repair = known_from(7);
        let alone = state(7, 1, &[1]);
        assert_eq!(repair.conclude(&alone, ME, false, Some(Offset(4))), Conclusion::Keep);
        assert_eq!(repair.conclude(&alone, ME, true, Some(Offset(4))), Conclusion::KeepInMind);
    }

    /// Another one had all of the log, and was not in sync when the damage was found.
    #[test]
    fn who_leads_by_a_damaged_log_hands_over_to_the_first_that_is_in_sync() {
        let mut repair = known_from(7);
        let damaged = Some(Offset(4));
        assert_eq!(repair.conclude(&state(7, 1, &[1]), ME, true, damaged), Conclusion::KeepInMind);
        let (joined, moved) = (state(8, 1, &[1, 3]), state(9, 3, &[3]));
        assert_eq!(repair.conclude(&joined, ME, true, damaged), Conclusion::HandOver);
        assert!(repair.withholds(&moved, ME), "it has not heard yet that the controller knows");
        assert_eq!(repair.conclude(&joined, ME, true, damaged), Conclusion::Keep, "once");
        repair.hear_known(Some(PartitionEpoch(9)));
        assert!(!repair.withholds(&moved, ME));
        assert_eq!(repair.drop_behind_gap(Offset(4), Offset(0)..Offset(9), false), Some(Offset(4)));
    }

    /// It may count for in sync by then.
    #[test]
    fn what_a_leader_has_sent_to_one_that_lacked_nothing_but_its_end_is_not_dropped() {
        for compacts in [false, true] {
            let mut repair = known_from(7);
            let empty = Offset(0)..Offset(0);
            assert_eq!(repair.drop_behind_gap(Offset(4), empty, compacts), None);
            let filled = Offset(0)..Offset(9);
            assert_eq!(repair.drop_behind_gap(Offset(4), filled, compacts), None, "{compacts}");
        }
    }

    #[test]
    fn what_lies_behind_a_gap_is_dropped_once_and_all_of_a_compacted_log() {
        let log = Offset(2)..Offset(9);
        let drop = |below, compacts| known_from(7).drop_behind_gap(below, log.clone(), compacts);
        assert_eq!(drop(Offset(5), false), Some(Offset(5)));
        assert_eq!(drop(Offset(0), false), Some(Offset(2)), "not below its start");
        assert_eq!(drop(Offset(9), false), None, "its end is missing, and nothing else");
        assert_eq!(drop(Offset(9), true), Some(Offset(2)));
        let mut repair = known_from(7);
        assert!(repair.drop_behind_gap(Offset(5), log.clone(), false).is_some());
        assert_eq!(repair.drop_behind_gap(Offset(5), log, false), None);
    }
}

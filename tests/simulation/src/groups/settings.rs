//! What differs from run to run, for groups.

use super::storm::GroupFault;
use crate::chance::Chance;
use crate::settings::{Bug, Fault, Settings};
use troupe_machines::group::planted::Bug as GroupBug;

/// Bugs of the one who carries out what the machine of groups decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupHostBug {
    /// Answers and assignments are given out before what they rest on is committed.
    AnswerBeforeCommitted,
    /// A coordinator reads its partition to the high watermark that it finds, and does not wait for the rest.
    LoadTooEarly,
}

#[derive(Clone, Debug)]
pub struct GroupSettings {
    pub groups: usize,
    pub members: usize,
    /// Second processes under the instance id of a member.
    pub twins: usize,
    pub assignor: &'static str,
    pub initial_rebalance_delay_ms: u64,
    pub fault_interval_ms: u64,
    pub faults: Vec<GroupFault>,
}

impl GroupSettings {
    /// Short sessions, so that much happens.
    pub fn machine(&self) -> troupe_machines::group::Settings {
        troupe_machines::group::Settings {
            min_session_timeout_ms: 500,
            initial_rebalance_delay_ms: self.initial_rebalance_delay_ms,
            ..Default::default()
        }
    }
}

impl Settings {
    /// A world of groups: no producers but the coordinators, and nothing that may lose what is committed.
    pub fn draw_groups(chance: &mut Chance, bug: Option<Bug>) -> Settings {
        let mut settings = Settings::draw(0, chance, bug);
        settings.compaction = None;
        let all_kinds = chance.one_in(3);
        let faults =
            GroupFault::ALL.into_iter().filter(|_| all_kinds || chance.one_in(2)).collect();
        let assignors = ["", "range", "roundrobin", "sticky", "cooperative-sticky"];
        settings.groups = Some(GroupSettings {
            groups: chance.between(1, 2) as usize,
            members: chance.between(2, 5) as usize,
            twins: chance.below(3) as usize,
            assignor: assignors[chance.index(assignors.len())],
            fault_interval_ms: chance.between(100, 800),
            faults,
            // As long as some sessions last, so that both end at the same time.
            initial_rebalance_delay_ms: if chance.one_in(3) {
                chance.between(1, 4) * 500
            } else {
                0
            },
        });
        if let (Some(Bug::Group(GroupBug::CommitByStaleMember)), Some(groups)) =
            (bug, &mut settings.groups)
        {
            // that bug takes these as well, and is to be found by what members commit
            groups.faults.retain(|fault| *fault != GroupFault::Reset);
        }
        let loses = [Fault::UncleanElection, Fault::DeleteRecords, Fault::Retention];
        settings.faults.retain(|fault| !loses.contains(fault));
        settings.unclean = false;
        settings.producers = 0;
        settings.segment_bytes = chance.between(3_000, 20_000);
        // groups take longer to do what they do, so faults are rarer
        settings.fault_interval_ms = chance.between(200, 1_500);
        settings
    }

    pub fn has_group_bug(&self, bug: GroupHostBug) -> bool {
        self.bug == Some(Bug::GroupHost(bug))
    }
}

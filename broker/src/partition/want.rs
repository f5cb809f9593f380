//! What the machine lacks for the moment: space, descriptors, memory. Work is put off and tried again; it is said
//! once, not with every try.

use super::actor::PartitionActor;
use super::message::LossKnown;
use crate::clock::{now, wall_clock};
use actix::{Context, Handler};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use troupe_log::LogError;
use troupe_machines::replica::{Effects, PartitionState, Role, Session};
use troupe_machines::time::Time;
use troupe_proto::batch::BatchHeader;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionEpoch};
use troupe_proto::rope::Rope;

/// Before work that was put off is tried again.
pub const WANT_RETRY: Duration = Duration::from_millis(100);
/// How often a replica with a full disk asks for another leader at most: the other's may be as full, and each
/// election is written to disks of which some are full.
const PASS_ON_EVERY_MS: u64 = 60_000;

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
    /// others would cut off what it lacks, nor follow, as it counts for in sync.
    fn withholds(self, state: &PartitionState, node_id: NodeId) -> bool {
        match self {
            Report::Needless => false,
            Report::Owed => true,
            Report::KnownFrom(epoch) => state.partition_epoch < epoch,
            Report::Heard => state.leader == Some(node_id) && has_others(state, node_id),
        }
    }

    /// Whether who is in sync by `state` has been filled again, or is the best that there is.
    fn is_over(self, state: &PartitionState, node_id: NodeId) -> bool {
        match self {
            Report::KnownFrom(epoch) => {
                state.partition_epoch >= epoch && state.isr.contains(&node_id)
            }
            Report::Needless | Report::Owed | Report::Heard => false,
        }
    }
}

fn has_others(state: &PartitionState, node_id: NodeId) -> bool {
    state.isr.iter().any(|node| *node != node_id)
}

#[derive(Default)]
pub struct Want {
    /// It was said, and is not over yet.
    told: bool,
    /// The disk is full, as far as is known.
    full: bool,
    /// The epoch in which another leader was asked for, and when.
    passed_on: Option<(LeaderEpoch, Time)>,
    /// The inventory knows that the partition has a directory.
    registered: bool,
    report: Report,
    /// A leader has sent something since the log was opened.
    followed: bool,
    /// What is lacking is lost for good, and that was said.
    lost: bool,
    /// What stood behind a gap was dropped.
    gap_cut: bool,
    /// It was said that segments are judged by their files' time.
    pub told_file_time: bool,
}

impl Want {
    /// Something worked again.
    pub fn over(&mut self) {
        (self.told, self.full) = (false, false);
    }

    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether another leader is to be asked for, who leads in this epoch being full. Once in an epoch, and not
    /// again and again when leadership comes back.
    fn passes_on(&mut self, leader_epoch: LeaderEpoch, now: Time) -> bool {
        let passes = self.passed_on.is_none_or(|(epoch, at)| {
            epoch < leader_epoch && now.0.saturating_sub(at.0) >= PASS_ON_EVERY_MS
        });
        if passes {
            self.passed_on = Some((leader_epoch, now));
        }
        passes
    }
}

impl Handler<LossKnown> for PartitionActor {
    type Result = ();

    fn handle(&mut self, LossKnown { from }: LossKnown, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.want.report = from.map_or(Report::Heard, Report::KnownFrom);
        let mut effects = Effects::new();
        self.learn_state(&mut effects);
        self.perform(effects, ctx);
        self.forget_damage_if_filled();
    }
}

impl PartitionActor {
    /// Something was appended, perhaps for the first time.
    pub(super) fn note_appended(&mut self) {
        self.want.over();
        self.board.set_dirty();
        if !std::mem::replace(&mut self.want.registered, true) {
            let (inventory, topic_id) =
                (Arc::clone(&self.shared.inventory), self.board.key.topic_id);
            if let Err(error) = inventory.add(self.log().dir(), topic_id) {
                // Should it vanish before the next start, nobody would notice.
                tracing::debug!(partition = %self.board, %error, "its directory was not registered");
            }
        }
    }

    /// Before the machine hears anything of the controller.
    pub(super) fn note_report_owed(&mut self) {
        if self.board.owes_report() {
            self.want.report = Report::Owed;
        }
    }

    /// The machine hears what the controller says of the partition, unless that does not go by a damage yet that
    /// was found here: then the replica keeps still, and somebody else is to lead.
    pub(super) fn learn_state(&mut self, effects: &mut Effects) {
        let (state, node_id) = (Arc::clone(&self.state), self.shared.node_id);
        if !self.want.report.withholds(&state, node_id) {
            self.replica.on_partition_state(now(), &state, effects);
        } else if state.leader == Some(node_id) && has_others(&state, node_id) {
            self.shared.wishes.elect_another(self.board.key, state.leader_epoch);
        }
    }

    /// Once the controller has heard of it, who is in sync has been filled again; and whoever leads has all that
    /// there is. What a leader lacks that nobody has sent anything is lost: then the log is sound as it is, and the
    /// loss stays on the board for as long as this process lives, because no repair will ever end it.
    pub(super) fn forget_damage_if_filled(&mut self) {
        if !self.board.is_damaged() || self.want.lost {
            return;
        }
        let alone = self.state.replicas.len() == 1;
        let is_over = self.want.report.is_over(&self.state, self.shared.node_id);
        if !(alone && self.replica.role() == Role::Leader || is_over) {
            return;
        }
        match self.log().forget_damage() {
            Ok(()) if self.replica.role() == Role::Leader && !self.want.followed => {
                self.want.lost = true;
                tracing::error!(partition = %self.board, "what its log lacks no other replica has: it is lost");
            }
            Ok(()) => {
                tracing::info!(partition = %self.board, "filled again");
                if self.board.set_damaged(false) {
                    self.shared.metrics.damaged_replicas.decrement(1);
                }
            }
            Err(error) => tracing::warn!(partition = %self.board, %error, "its damage stays noted"),
        }
    }

    /// What this log has behind a gap is sent again by a leader: the gap cannot be filled where it is.
    pub(super) fn has_gap_to_cut(&mut self) -> bool {
        let end = self.log().log_end();
        let gap = self.log().damage().is_some_and(|damage| damage.complete_below < end);
        gap && !self.want.gap_cut
    }

    pub(super) fn cut_off_gap(&mut self) -> Result<(), LogError> {
        let Some(complete) = self.log().damage().map(|damage| damage.complete_below) else {
            return Ok(());
        };
        self.want.gap_cut = true;
        let (from, to) = (complete.max(self.log().log_start()), self.log().log_end());
        let board = &self.board;
        tracing::warn!(partition = %board, %from, %to, "drops what lies behind a gap, to be filled again");
        let high_watermark = self.replica.high_watermark();
        self.cut_to(from, high_watermark)
    }

    /// On a disk that is low, what little there is belongs to others.
    pub(super) fn try_append(
        &mut self,
        header: &BatchHeader,
        payload: &Rope,
    ) -> Result<troupe_log::Appended, LogError> {
        if self.shared.space.is_low() {
            return Err(LogError::DiskFull { path: self.log().dir().to_owned() });
        }
        self.log().append(header, payload, wall_clock().as_timestamp())
    }

    pub(super) fn try_append_frames(
        &mut self,
        slice: Bytes,
    ) -> Result<troupe_log::Appended, LogError> {
        if self.shared.space.is_low() {
            return Err(LogError::DiskFull { path: self.log().dir().to_owned() });
        }
        self.want.followed = true;
        self.log().append_frames(slice, wall_clock().as_timestamp())
    }

    /// The machine lacks what it takes to follow: the stream is closed, and opened again in a while. The leader
    /// goes on without this replica meanwhile.
    pub(super) fn fall_behind(
        &mut self,
        session: Session,
        error: &LogError,
        effects: &mut Effects,
    ) -> Result<(), LogError> {
        self.put_off(error);
        // Some of the slice may stand in the log, and the machine has not heard of it.
        let (end, known) = (self.log().log_end(), self.replica.log_end());
        if end != known {
            let high_watermark = self.replica.high_watermark();
            self.log().truncate_to(known, high_watermark)?;
        }
        self.shared.replicator.close(self.board.key, session);
        self.replica.on_stream_closed(now(), session, effects);
        Ok(())
    }

    pub(super) fn put_off(&mut self, error: &LogError) {
        self.shared.metrics.storage_waits.increment(1);
        self.want.full |= error.code() == ErrorCode::DiskFull;
        if !std::mem::replace(&mut self.want.told, true) {
            tracing::warn!(partition = %self.board, %error, "put off; it is tried again until it can be done");
        }
    }

    /// On a full disk nothing can be appended here until somebody makes room: whoever is in sync on another disk
    /// had better lead.
    pub(super) fn pass_on_if_full(&mut self, error: &LogError) {
        let Some(leader_epoch) = self.replica.leader_epoch() else { return };
        let others = self.replica.isr().is_some_and(|isr| isr.len() > 1);
        if error.code() == ErrorCode::DiskFull && others && self.want.passes_on(leader_epoch, now())
        {
            self.shared.wishes.elect_another(self.board.key, leader_epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::BrokerEpoch;

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

    #[test]
    fn a_full_leader_asks_for_another_once_in_an_epoch_and_once_in_a_while() {
        let mut want = Want::default();
        assert!(want.passes_on(LeaderEpoch(1), Time(0)));
        assert!(!want.passes_on(LeaderEpoch(1), Time(PASS_ON_EVERY_MS)));
        assert!(!want.passes_on(LeaderEpoch(3), Time(PASS_ON_EVERY_MS - 1)), "it came back");
        assert!(want.passes_on(LeaderEpoch(3), Time(PASS_ON_EVERY_MS)));
        assert!(!want.passes_on(LeaderEpoch(5), Time(PASS_ON_EVERY_MS + 1)));
    }
}

//! What the machine lacks for the moment: space, descriptors, memory. Work is put off and tried again; it is said
//! once, not with every try.

use super::actor::PartitionActor;
use super::message::LossKnown;
use super::opening::{now, wall_clock};
use actix::{Context, Handler};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use troupe_log::LogError;
use troupe_machines::replica::{Effects, Role, Session};
use troupe_proto::batch::BatchHeader;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{LeaderEpoch, PartitionEpoch};
use troupe_proto::rope::Rope;

/// Before work that was put off is tried again.
pub const WANT_RETRY: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Want {
    /// It was said, and is not over yet.
    told: bool,
    /// The disk is full, as far as is known.
    full: bool,
    /// The epoch in which another leader was asked for.
    passed_on: Option<LeaderEpoch>,
    /// The inventory knows that the partition has a directory.
    registered: bool,
    /// The partition epoch in which the controller heard of the damage.
    loss_known: Option<PartitionEpoch>,
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
}

impl Handler<LossKnown> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: LossKnown, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        self.want.loss_known = Some(self.state.partition_epoch);
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

    /// Once the controller has heard of it, who is in sync has been filled again; and whoever leads has all that
    /// there is. What a leader lacks that nobody has sent anything is lost: then the log is sound as it is, and the
    /// loss stays on the board for as long as this process lives, because no repair will ever end it.
    pub(super) fn forget_damage_if_filled(&mut self) {
        if !self.board.is_damaged() || self.want.lost {
            return;
        }
        let alone = self.state.replicas.len() == 1;
        let known = self.want.loss_known.is_some_and(|known| known < self.state.partition_epoch);
        let in_sync = self.state.isr.contains(&self.shared.node_id);
        if !(alone && self.replica.role() == Role::Leader || known && in_sync) {
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
    /// had better lead. Asked for once in an epoch.
    pub(super) fn pass_on_if_full(&mut self, error: &LogError) {
        let Some(leader_epoch) = self.replica.leader_epoch() else { return };
        let others = self.replica.isr().is_some_and(|isr| isr.len() > 1);
        if error.code() == ErrorCode::DiskFull && others && self.want.passed_on < Some(leader_epoch)
        {
            self.want.passed_on = Some(leader_epoch);
            self.shared.wishes.elect_another(self.board.key, leader_epoch);
        }
    }
}

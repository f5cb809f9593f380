//! Writing to the log where the machine may lack what it takes: space, descriptors, memory. Work is put off and tried
//! again; it is said once, not with every try.

use super::actor::PartitionActor;
use crate::clock::{now, wall_clock};
use actix::Context;
use bytes::Bytes;
use std::sync::Arc;
use troupe_log::LogError;
use troupe_machines::replica::{Effects, FollowSession};
use troupe_proto::batch::BatchHeader;
use troupe_proto::error::ErrorCode;
use troupe_proto::rope::Rope;

impl PartitionActor {
    /// So many bytes were appended, perhaps for the first time.
    pub(super) fn note_appended(&mut self, bytes: usize) {
        self.shortage.over();
        self.note_to_clean(bytes as u64);
        self.board.set_dirty();
        if !std::mem::replace(&mut self.is_registered, true) {
            let (directories, topic_id) =
                (Arc::clone(&self.shared.directories), self.board.key.topic_id);
            if let Err(error) = directories.inventory.add(&self.board.to_string(), topic_id) {
                // Should it vanish before the next start, nobody would notice.
                tracing::debug!(partition = %self.board, %error, "its directory was not registered");
            }
        }
    }

    /// On a disk that is low, what little there is belongs to others.
    pub(super) fn try_append(
        &mut self,
        header: &BatchHeader,
        payload: &Rope,
    ) -> Result<troupe_log::Appended, LogError> {
        self.check_room()?;
        self.log().append(header, payload, wall_clock().as_timestamp())
    }

    pub(super) fn try_append_frames(
        &mut self,
        slice: Bytes,
    ) -> Result<troupe_log::Appended, LogError> {
        self.check_room()?;
        self.repair.note_followed();
        self.log().append_frames(slice, wall_clock().as_timestamp())
    }

    /// A leader could not append.
    pub(super) fn after_failed_append(&mut self, error: LogError, ctx: &mut Context<Self>) {
        if self.log().is_poisoned() {
            self.go_offline(error, ctx);
        } else if error.is_temporary() {
            self.put_off(&error);
            self.pass_on_if_full(&error);
        } else if matches!(error, LogError::CorruptLog { .. }) {
            self.explain(error.into(), ctx);
        }
    }

    fn check_room(&mut self) -> Result<(), LogError> {
        if self.home.is_beside_metadata() && self.shared.space.is_low() {
            return Err(LogError::DiskFull { path: self.log().dir().to_owned() });
        }
        Ok(())
    }

    /// The machine lacks what it takes to follow: the stream is closed, and opened again in a while. The leader
    /// goes on without this replica meanwhile.
    pub(super) fn fall_behind(
        &mut self,
        session: FollowSession,
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
        self.shared.leader_streams.close(self.board.key, session);
        self.replica.on_stream_closed(now(), session, effects);
        Ok(())
    }

    pub(super) fn put_off(&mut self, error: &LogError) {
        self.shared.metrics.storage_waits.increment(1);
        if self.shortage.note(error.code() == ErrorCode::DiskFull) {
            tracing::warn!(partition = %self.board, %error, "put off; it is tried again until it can be done");
        }
    }

    /// On a full disk nothing can be appended here until somebody makes room: whoever is in sync on another disk
    /// had better lead.
    pub(super) fn pass_on_if_full(&mut self, error: &LogError) {
        let Some(leader_epoch) = self.replica.leader_epoch() else { return };
        let others = self.replica.isr().is_some_and(|isr| isr.len() > 1);
        if error.code() == ErrorCode::DiskFull
            && others
            && self.shortage.passes_on(leader_epoch, now())
        {
            self.shared.controller.report_failed_leader(self.board.key, leader_epoch);
        }
    }
}

//! What the machine lacks for the moment: space, descriptors, memory. Work is put off and tried again; it is said
//! once, not with every try.

use super::actor::PartitionActor;
use std::time::Duration;
use troupe_log::LogError;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::LeaderEpoch;

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

impl PartitionActor {
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
        if error.code() == ErrorCode::DiskFull
            && others
            && self.want.passed_on < Some(leader_epoch)
        {
            self.want.passed_on = Some(leader_epoch);
            self.shared.wishes.elect_another(self.board.key, leader_epoch);
        }
    }
}

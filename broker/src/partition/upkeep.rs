//! What a partition's actor does beside serving: shorten the next recovery, give
//! back what nobody uses, delete what need not be kept, and close.

use super::actor::PartitionActor;
use super::messages::{Checkpoint, DirectoryFailed, EnforceRetention, Rest, Retire, Retirement};
use crate::clock::{now, wall_clock};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use troupe_log::disk::FileDisk;
use troupe_log::{Judged, LogError, Removal, RetentionPolicy};
use troupe_machines::replica::Effects;

const BY_FILE_TIME: &str = "records have no timestamp, one before 1970 or one more than an hour ahead: retention.ms goes \
                            by the time of their segment's file";
const OLD_DATES: &str = "records came with dates older than retention.ms and were deleted at the next look: to have such \
                         records refused, set message.timestamp.before.max.ms";

impl Handler<Checkpoint> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Checkpoint, ctx: &mut <Self as Actor>::Context) {
        self.take_turn(ctx);
        self.board.clear_dirty();
        let high_watermark = self.replica.high_watermark();
        // A checkpoint only shortens the next recovery; without it, more is scanned.
        if let Err(error) = self.log().checkpoint(high_watermark) {
            tracing::warn!(partition = %self.board, %error, "no checkpoint was written");
        }
    }
}

impl Handler<DirectoryFailed> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: DirectoryFailed, ctx: &mut <Self as Actor>::Context) {
        self.take_turn(ctx);
        self.resign_if_disk_failed(ctx);
    }
}

impl PartitionActor {
    pub(super) fn resign_if_disk_failed(&mut self, ctx: &mut Context<Self>) {
        if let Err(error) = self.home.check() {
            self.go_offline(error, ctx);
        }
    }
}

impl Handler<Rest> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Rest, ctx: &mut <Self as Actor>::Context) {
        self.take_turn(ctx);
        self.log().release_files();
    }
}

impl Handler<EnforceRetention> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: EnforceRetention, ctx: &mut <Self as Actor>::Context) {
        self.take_turn(ctx);
        // A topic that is only compacted keeps all that compaction leaves, whatever its age or size; but nothing below
        // a log start that was moved (S26).
        let deletes = self.config.cleanup.delete;
        let policy = RetentionPolicy {
            retention_ms: self.config.retention_ms.filter(|_| deletes),
            retention_bytes: self.config.retention_bytes.filter(|_| deletes),
        };
        let (time, high_watermark) = (wall_clock().as_timestamp(), self.replica.high_watermark());
        let retained = self.log().apply_retention(&policy, time, high_watermark);
        self.note_judged(retained.judged);
        if !retained.removals.is_empty() || retained.failure.is_some() {
            // What was deleted before it failed stays deleted.
            self.after_removal(retained.removals, ctx);
        }
        if let Some(error) = retained.failure {
            tracing::warn!(partition = %self.board, %error, "retention failed");
            if self.log().is_poisoned() {
                self.go_offline(error, ctx);
            } else if matches!(error, LogError::CorruptLog { .. }) {
                self.explain(error.into(), ctx);
            }
        }
    }
}

impl PartitionActor {
    /// Says it once, and keeps it for who asks.
    fn note_judged(&mut self, judged: Judged) {
        let told = self.judged;
        self.judged = Judged {
            by_file_time: told.by_file_time || judged.by_file_time,
            old_dates: told.old_dates || judged.old_dates,
        };
        if judged.by_file_time && !told.by_file_time {
            tracing::warn!(partition = %self.board, "{BY_FILE_TIME}");
        }
        if judged.old_dates && !told.old_dates {
            tracing::warn!(partition = %self.board, "{OLD_DATES}");
        }
    }

    /// What operators should know of how old records are found to be; empty: nothing.
    pub(super) fn retention_notice(&self) -> String {
        let notices =
            [(self.judged.by_file_time, BY_FILE_TIME), (self.judged.old_dates, OLD_DATES)];
        let given: Vec<_> =
            notices.iter().filter(|(is_so, _)| *is_so).map(|(_, text)| *text).collect();
        given.join("; ")
    }

    /// The log begins later now, and files are left over.
    pub(super) fn after_removal(
        &mut self,
        removals: Vec<Removal<FileDisk>>,
        ctx: &mut Context<Self>,
    ) {
        let log_start = self.log().log_start();
        let mut effects = Effects::new();
        self.replica.on_log_start(now(), log_start, &mut effects);
        self.perform(effects, ctx);
        self.board.set_dirty();
        let snapshot = self.log().producer_snapshots().last().copied();
        if snapshot.is_none_or(|offset| offset < log_start) {
            // What recovery would replay on top of an older one is gone.
            self.snapshot_producers(self.replica.log_end());
        }
        self.forget_damage_if_filled();
        self.remove_later(removals, ctx);
    }

    /// Files that are not part of the log any more, and that readers may still look into.
    pub(super) fn remove_later(
        &mut self,
        removals: Vec<Removal<FileDisk>>,
        ctx: &mut Context<Self>,
    ) {
        if removals.is_empty() {
            return;
        }
        let delay = match self.shortage.is_full() {
            true => Duration::ZERO,
            false => Duration::from_millis(self.config.file_delete_delay_ms),
        };
        let moves = self.moving.count;
        ctx.run_later(delay, move |actor, _| {
            if actor.moving.count != moves {
                // They went with the directory that they were in.
                return;
            }
            let is_full = actor.shortage.is_full();
            for removal in removals {
                let (board, space) = (Arc::clone(&actor.board), Arc::clone(&actor.shared.space));
                actor.shared.flusher.remove(move |rest| {
                    // What is given back is wanted at once where there is none.
                    let rest = || match is_full || space.is_low() {
                        true => {}
                        false => rest(),
                    };
                    if let Err(error) = removal.run_with_rests(rest) {
                        tracing::warn!(partition = %board, %error, "left for the next start to remove");
                    }
                });
            }
        });
    }
}

impl Handler<Retire> for PartitionActor {
    type Result = ();

    /// The last message. A flush that is under way is waited for: of an error only the first who asks the
    /// disk is told, and that must not be the one whose answer nobody hears any more.
    fn handle(&mut self, Retire { why, done }: Retire, ctx: &mut <Self as Actor>::Context) {
        self.take_turn(ctx);
        let board = Arc::clone(&self.board);
        let idle = async move { board.flushes.idle().await };
        ctx.wait(idle.into_actor(self).map(move |(), actor, ctx| actor.retire(why, done, ctx)));
    }
}

impl PartitionActor {
    /// Whatever is parked is answered, the log is closed, the actor stops.
    fn retire(&mut self, why: Retirement, done: oneshot::Sender<()>, ctx: &mut Context<Self>) {
        let (mut effects, delete) = (Effects::new(), why.deletes());
        if !delete && let Ok(flushed_end) = self.log().flush() {
            self.replica.on_flushed(now(), flushed_end, &mut effects);
        }
        self.replica.resign(&mut effects);
        self.perform(effects, ctx);
        let log_end = self.replica.log_end();
        let is_written = self.log().size_bytes() > 0;
        if !delete && is_written && self.log().producer_snapshots().last() != Some(&log_end) {
            // Without it, the next start replays every header since the last roll.
            self.snapshot_producers(log_end);
        }
        let high_watermark = self.replica.high_watermark();
        if let Some(log) = self.log.take()
            && !delete
            && let Err(error) = log.close_clean(high_watermark)
        {
            tracing::warn!(partition = %self.board, %error, "not closed cleanly");
            if !error.is_temporary() {
                self.board.flushes.note_failure();
            }
        }
        self.board.retire_replica(why);
        let _ = done.send(());
        ctx.stop();
    }
}

//! The actor's part in compaction: how its log stands, a plan for a pass over it, and the exchange of the files that the
//! pass has made. All of it is short; what takes time is done on the cleaner's threads.

use super::actor::PartitionActor;
use super::messages::{BeginCleaning, FinishCleaning, FinishedCleaning, LogLook, LookAtLog};
use super::next_look::NextLook;
use crate::clock::wall_clock;
use actix::{Actor, Context, Handler};
use troupe_log::disk::FileDisk;
use troupe_log::{
    Cleaned, Cleaning, CleaningPolicy, CleaningRequest, CleaningState, Finished, LogError,
};
use troupe_machines::cleaning::{Rules, Standing};
use troupe_machines::config::TopicConfig;
use troupe_machines::time::Time;

impl Handler<LookAtLog> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: LookAtLog, ctx: &mut <Self as Actor>::Context) {
        self.take_turn(ctx);
        let LookAtLog { is_read_whole, reply } = message;
        let looked = match self.config.cleanup.compact {
            true => self.look_at_log(is_read_whole, ctx).map(Some),
            false => Ok(None),
        };
        if let Ok(Some(LogLook { standing, .. })) = &looked {
            let rules = Rules::of(&self.config, is_read_whole);
            self.next_look = NextLook::after(standing.bytes_to_next_look(&rules));
        }
        // Whoever asked may be gone; so below.
        let _ = reply.send(looked);
    }
}

impl Handler<BeginCleaning> for PartitionActor {
    type Result = ();

    fn handle(
        &mut self,
        BeginCleaning { reply }: BeginCleaning,
        ctx: &mut <Self as Actor>::Context,
    ) {
        self.take_turn(ctx);
        let begun = match self.config.cleanup.compact {
            true => self.begin_cleaning(),
            false => Ok(None),
        };
        let _ = reply.send(begun);
    }
}

impl Handler<FinishCleaning> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: FinishCleaning, ctx: &mut <Self as Actor>::Context) {
        self.take_turn(ctx);
        let FinishCleaning { cleaned, reply } = message;
        let finished = self.finish_cleaning(cleaned, ctx);
        let poisoned = self.log().is_poisoned();
        if poisoned && let Err(error) = &finished {
            self.go_offline(error.clone(), ctx);
        }
        let _ = reply.send(finished);
    }
}

impl PartitionActor {
    fn look_at_log(
        &mut self,
        is_read_whole: bool,
        ctx: &mut Context<Self>,
    ) -> Result<LogLook, LogError> {
        let standing = self.standing()?;
        if !standing.must_roll(&Rules::of(&self.config, is_read_whole)) {
            return Ok(LogLook { standing, rolled: false });
        }
        let rolled = self.log().roll(wall_clock().as_timestamp())?;
        if let Some(offset) = rolled {
            self.board.set_dirty();
            self.snapshot_producers(offset);
            // Only what is on disk is cleaned.
            self.start_flush(ctx);
        }
        Ok(LogLook { standing: self.standing()?, rolled: rolled.is_some() })
    }

    fn standing(&mut self) -> Result<Standing, LogError> {
        // Of transactions that are open nobody knows yet whether their records count.
        let (policy, below) = (policy(&self.config), self.replica.last_stable_offset());
        let (everyone_has, now_ms) = (self.replica.everyone_has(), wall_clock().as_timestamp());
        let log = self.log();
        let state = log.cleaning_state(&policy, now_ms, below)?;
        let tombstones_due = state.has_tombstones_due(now_ms, everyone_has);
        Ok(Standing { tombstones_due, ..standing(&state, log.active_bytes()) })
    }

    fn begin_cleaning(&mut self) -> Result<Option<Cleaning<FileDisk>>, LogError> {
        let request = CleaningRequest {
            policy: policy(&self.config),
            now_ms: wall_clock().as_timestamp(),
            below: self.replica.last_stable_offset(),
            tombstones_below: self.replica.everyone_has(),
            keep: self.replica.remembered_batches(),
            hash_key: *uuid::Uuid::new_v4().as_bytes(),
        };
        self.log().begin_cleaning(request)
    }

    fn finish_cleaning(
        &mut self,
        cleaned: Cleaned<FileDisk>,
        ctx: &mut Context<Self>,
    ) -> Result<Option<FinishedCleaning>, LogError> {
        let high_watermark = self.replica.high_watermark();
        let everyone_has = self.replica.everyone_has();
        let finished = self.log().finish_cleaning(cleaned, high_watermark, everyone_has)?;
        let Some(finished) = finished else { return Ok(None) };
        let gone_below = self.log().tombstones_gone_below();
        self.replica.on_tombstones_gone(gone_below);
        let Finished { removals, report, ending } = finished;
        self.board.set_dirty();
        self.remove_later(removals, ctx);
        Ok(Some(FinishedCleaning { report, ending }))
    }

    /// Wakes the cleaner when so much has come since it has looked that it should look again, however long its rest.
    pub(super) fn note_to_clean(&mut self, bytes: u64) {
        if self.config.cleanup.compact && self.next_look.is_due_with(bytes) {
            self.shared.cleaner.has_grown();
        }
    }
}

/// What the log has to know of a topic's settings.
fn policy(config: &TopicConfig) -> CleaningPolicy {
    let unlimited = i64::MAX as u64;
    CleaningPolicy {
        min_lag_ms: config.min_compaction_lag_ms,
        max_lag_ms: Some(config.max_compaction_lag_ms).filter(|lag| *lag < unlimited),
        min_dirty_ratio: config.min_cleanable_dirty_ratio.as_f64(),
        delete_retention_ms: config.delete_retention_ms,
    }
}

fn standing(state: &CleaningState, active_bytes: u64) -> Standing {
    let since = state.oldest_dirty_ms.and_then(|ms| u64::try_from(ms).ok()).map(Time);
    Standing {
        clean_bytes: state.clean_bytes,
        dirty_bytes: state.dirty_bytes,
        active_bytes,
        dirty_since: since,
        roll_due: state.roll_due,
        tombstones_due: false,
    }
}

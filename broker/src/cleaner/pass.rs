//! One pass over one log.

use super::pacer::Pacer;
use super::table::{CleaningPass, Progress};
use super::threads::Worker;
use super::work::Task;
use crate::clock::wall_clock;
use crate::partition::{CleaningTurn, PartitionHandle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use troupe_controller::priority::IdleTime;
use troupe_log::disk::FileDisk;
use troupe_log::{Cleaned, Cleaning, CleaningError, CleaningReport, LogError};
use troupe_machines::cleaning::{Ended, Haste};
use troupe_proto::error::{Error, ErrorCode};

/// Why a pass came to nothing.
enum Failure {
    /// It is of no use any more, or there was nothing to do.
    Void(String),
    /// The log cannot be cleaned.
    Uncleanable(String),
}

impl From<CleaningError> for Failure {
    fn from(error: CleaningError) -> Self {
        match &error {
            CleaningError::Aborted => {
                Self::Void("its replica was closed or built anew while it was cleaned".to_owned())
            }
            CleaningError::Overtaken => {
                Self::Void("its log was cut or shortened while it was cleaned".to_owned())
            }
            CleaningError::Log(log) if log.is_temporary() => Self::Void(error.to_string()),
            CleaningError::Damaged { .. } => Self::Uncleanable(format!(
                "{error}; `troupe actor kill` has the replica look at its whole log again"
            )),
            CleaningError::Log(_) => Self::Uncleanable(format!("{error}; look at the disk")),
        }
    }
}

/// What is asked of an actor that is not there is asked again later.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.code {
            ErrorCode::StorageFailure | ErrorCode::CorruptLog | ErrorCode::CorruptBatch => {
                Self::Uncleanable(format!("{error}; look at the disk"))
            }
            _ => Self::Void(error.to_string()),
        }
    }
}

impl Worker {
    /// Cleans the log and tells what came of it.
    pub fn clean(&mut self, task: &Task) -> Ended {
        let Task { handle, standing, haste } = task;
        let (work, key) = (Arc::clone(&self.work), handle.key());
        let (progress, started) = (work.table.begun(key), Instant::now());
        // What is dirty is read twice, and what is left is written.
        let all = standing.clean_bytes.saturating_add(standing.dirty_bytes);
        progress.set_all(all.saturating_mul(2).saturating_add(standing.dirty_bytes));
        match self.pass(handle, *haste, progress) {
            Ok(report) => {
                let pass = CleaningPass {
                    ended: wall_clock(),
                    took: started.elapsed(),
                    bytes_before: report.bytes_before,
                    bytes_after: report.bytes_after,
                };
                work.table.done(key, pass);
                work.metrics.cleaner.passes.increment(1);
                let saved = report.bytes_before.saturating_sub(report.bytes_after);
                work.metrics.cleaner.saved_bytes.increment(saved);
                tracing::debug!(partition = %handle, ?pass, ?report, "cleaned");
                Ended::Done
            }
            Err(Failure::Void(why)) => {
                tracing::debug!(partition = %handle, why, "a pass came to nothing");
                work.table.void(key, why);
                Ended::Void
            }
            Err(Failure::Uncleanable(why)) => {
                if work.table.failed(key, why.clone()) {
                    tracing::error!(partition = %handle, why, "the log cannot be compacted, and grows until it can");
                }
                Ended::Failed
            }
        }
    }

    fn pass(
        &mut self,
        handle: &PartitionHandle,
        haste: Haste,
        progress: Arc<Progress>,
    ) -> Result<CleaningReport, Failure> {
        // Held to the end: nobody opens the log, or takes its directory away, while this thread works in it.
        let turn = handle.board.cleaning.enter(&self.work.stop);
        let turn = turn.ok_or_else(|| Failure::Void("another pass is not over yet".to_owned()))?;
        let cleaning = self.runtime.block_on(handle.begin_cleaning())?;
        let cleaning =
            cleaning.ok_or_else(|| Failure::Void("there was nothing to clean".to_owned()))?;
        let mut moved = 0;
        let finished = match self.carry_out(handle, cleaning, &turn, (haste, progress), &mut moved)
        {
            Ok(cleaned) => self.hand_over(handle, cleaned),
            Err(failure) => Err(failure),
        };
        // Of a pass that came to nothing, nothing counts as written.
        let written = finished.as_ref().map_or(0, |report| report.bytes_after.min(moved));
        self.work.metrics.cleaner.written_bytes.increment(written);
        self.work.metrics.cleaner.read_bytes.increment(moved - written);
        finished
    }

    fn hand_over(
        &self,
        handle: &PartitionHandle,
        cleaned: Cleaned<FileDisk>,
    ) -> Result<CleaningReport, Failure> {
        let finished = self.runtime.block_on(handle.finish_cleaning(cleaned))?;
        let finished = finished.ok_or(CleaningError::Overtaken)?;
        finished.ending.run().map_err(CleaningError::from)?;
        Ok(finished.report)
    }

    /// Its replica has to know, and has it filled again where there is another; then it can be cleaned.
    fn damaged(&self, handle: &PartitionHandle, error: LogError) -> Failure {
        match self.runtime.block_on(handle.suspect_file(error)) {
            Ok(Some(told)) if told.code == ErrorCode::CorruptLog => {
                Failure::Uncleanable(told.to_string())
            }
            Ok(Some(told)) => Failure::Void(told.to_string()),
            Ok(None) => Failure::Void("its files were not what they are now".to_owned()),
            Err(error) => error.into(),
        }
    }

    fn carry_out(
        &mut self,
        handle: &PartitionHandle,
        cleaning: Cleaning<FileDisk>,
        turn: &CleaningTurn,
        (haste, progress): (Haste, Arc<Progress>),
        moved: &mut u64,
    ) -> Result<Cleaned<FileDisk>, Failure> {
        let work = Arc::clone(&self.work);
        let mut pacer = Pacer {
            runtime: &self.runtime,
            throttle: &work.throttle,
            courteous: (haste == Haste::AfterAll).then(|| work.beside.courteous()),
            idle: IdleTime::default(),
            step: Instant::now(),
            stop: turn.stop(),
            progress,
            moved: 0,
        };
        // A log that makes it panic must not keep others from being cleaned.
        let ran = catch_unwind(AssertUnwindSafe(|| cleaning.run(&mut self.map, &mut pacer)));
        pacer.idle.leave();
        *moved = pacer.moved;
        match ran {
            Ok(Err(CleaningError::Damaged { path, position, cause })) => {
                let error = LogError::CorruptLog { path, position, cause };
                Err(self.damaged(handle, error))
            }
            Ok(cleaned) => Ok(cleaned?),
            Err(_) => Err(Failure::Uncleanable(
                "the cleaner panicked at it: see the node's log".to_owned(),
            )),
        }
    }
}

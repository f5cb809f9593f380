//! A pass that has begun, as the log and the pass both see it: what has become of the segments that it reads, and how far
//! the exchange of files has come.
//!
//! ```text
//!  Making ──► Listed ──► CarriedOut ──► Over
//!     the list has its name   files and memory changed   the list is gone
//! ```
//!
//! As long as there is a list, opening the log would carry it out: so whoever is about to change what it names, takes it
//! back before, or ends what it says. That waits for the disk, and is rare; else only the pass's thread does.

use super::CleaningError;
use super::swap::{SWAP, listed_name, remove_list};
use crate::LogError;
use crate::disk::{Disk, DiskFile};
use crate::flush::Poison;
use crate::place::Place;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use troupe_proto::ids::Offset;

/// See the module. Held by the pass, its result, or its ending, for as long as there is one.
pub(crate) struct UnderWay<D: Disk> {
    place: Place<D>,
    poison: Arc<Poison>,
    /// It may read all below.
    end: Offset,
    overtaken: AtomicBool,
    /// Segments that end here or before are not in the log any more.
    gone_below: AtomicU64,
    stage: Mutex<Stage<D>>,
}

enum Stage<D: Disk> {
    Making,
    Listed,
    /// With the checkpoint that was written then, if it was.
    CarriedOut(Option<(PathBuf, D::File)>),
    Over,
}

impl<D: Disk> UnderWay<D> {
    pub(super) fn below(end: Offset, place: Place<D>, poison: Arc<Poison>) -> Arc<UnderWay<D>> {
        Arc::new(UnderWay {
            place,
            poison,
            end,
            overtaken: AtomicBool::new(false),
            gone_below: AtomicU64::new(0),
            stage: Mutex::new(Stage::Making),
        })
    }

    /// Whether somebody still works on it, and to some use.
    pub(super) fn is_going_on(this: &Arc<UnderWay<D>>) -> bool {
        Arc::strong_count(this) > 1 && !this.is_overtaken()
    }

    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken.load(Ordering::Acquire)
    }

    pub(super) fn gone_below(&self) -> Offset {
        Offset(self.gone_below.load(Ordering::Acquire))
    }

    /// The log is about to be another one, from `from` on.
    pub(super) fn overtake(&self, from: Offset) -> Result<(), LogError> {
        if from >= self.end {
            return Ok(());
        }
        self.overtaken.store(true, Ordering::Release);
        self.settle()
    }

    /// The log is about to lose its first segment, which ends at `end`. A pass that goes on does without.
    pub(super) fn lose_below(&self, end: Offset) -> Result<(), LogError> {
        let mut stage = self.lock();
        match *stage {
            Stage::Making => {
                self.gone_below.fetch_max(end.0, Ordering::AcqRel);
                Ok(())
            }
            Stage::Listed => {
                self.overtaken.store(true, Ordering::Release);
                self.take_back(&mut stage)
            }
            Stage::CarriedOut(_) => self.end_of(&mut stage),
            Stage::Over => Ok(()),
        }
    }

    /// A list that still stands is taken back, or all that it says is done for good.
    pub(super) fn settle(&self) -> Result<(), LogError> {
        let mut stage = self.lock();
        match *stage {
            Stage::Making | Stage::Over => Ok(()),
            Stage::Listed => self.take_back(&mut stage),
            Stage::CarriedOut(_) => self.end_of(&mut stage),
        }
    }

    /// The list takes its name, durably. False: segments have gone from the log since what it says was made.
    pub(super) fn list(&self, gone_below: Offset) -> Result<bool, CleaningError> {
        let mut stage = self.lock();
        if self.is_overtaken() {
            return Err(CleaningError::Overtaken);
        }
        if self.gone_below() != gone_below {
            return Ok(false);
        }
        let (from, to) = (self.place.path(&listed_name()), self.place.path(SWAP));
        self.place.disk.rename(&from, &to).map_err(|e| LogError::io("rename", &from, e))?;
        *stage = Stage::Listed;
        if let Err(error) = self.place.sync_dir() {
            // where it cannot be taken back, it counts as listed: whoever changes the log is told
            let _ = self.take_back(&mut stage);
            return Err(error.into());
        }
        Ok(true)
    }

    /// Of a result that nobody wants.
    pub(super) fn withdraw(&self) {
        let mut stage = self.lock();
        if matches!(*stage, Stage::Listed) {
            let _ = self.take_back(&mut stage);
        }
    }

    /// Files and memory are changed from now on, as the list says.
    pub(super) fn carry_out(&self) {
        *self.lock() = Stage::CarriedOut(None);
    }

    /// They are, and this checkpoint says so.
    pub(super) fn carried_out(&self, checkpoint: Option<(PathBuf, D::File)>) {
        *self.lock() = Stage::CarriedOut(checkpoint);
    }

    fn take_back(&self, stage: &mut Stage<D>) -> Result<(), LogError> {
        remove_list(&self.place)?;
        *stage = Stage::Over;
        Ok(())
    }

    /// The list goes when all that it says is on disk for good, and before anything of that changes: later it would lie.
    fn end_of(&self, stage: &mut Stage<D>) -> Result<(), LogError> {
        let mut ended = || {
            if let Stage::CarriedOut(Some((path, file))) = stage {
                file.sync().map_err(|e| LogError::failed_sync("sync", path, e))?;
            }
            self.place.sync_dir()?;
            remove_list(&self.place)
        };
        match ended() {
            Ok(()) => {
                *stage = Stage::Over;
                Ok(())
            }
            Err(error) => {
                self.poison.add(&error);
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage<D>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

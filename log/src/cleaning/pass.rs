//! One pass over the closed segments of a log.

use super::{CleaningError, CleaningRequest, Finished, OffsetMap, Pace};
use crate::disk::Disk;
use crate::{Log, LogError};
use std::marker::PhantomData;
use troupe_proto::ids::Offset;

/// What a pass will do. Goes to the thread that runs it.
#[must_use]
pub struct Cleaning<D: Disk> {
    disk: PhantomData<D>,
}

/// What a pass has made: files beside the log, which go when this is dropped.
#[must_use]
pub struct Cleaned<D: Disk> {
    disk: PhantomData<D>,
}

impl<D: Disk> Cleaning<D> {
    /// Reads the segments and writes what is left of them, beside the log. Memory: the map, a batch, and buffers.
    ///
    /// # Errors
    /// Nothing has changed, whatever the reason.
    pub fn run(
        self,
        _map: &mut OffsetMap,
        _pace: &mut dyn Pace,
    ) -> Result<Cleaned<D>, CleaningError> {
        Err(CleaningError::Overtaken)
    }
}

impl<D: Disk> Log<D> {
    /// Work for another thread; `None` if there is nothing to clean, or another pass is under way. Cheap, and
    /// touches no file.
    ///
    /// # Errors
    /// As [`Log::cleaning_state`].
    pub fn begin_cleaning(
        &mut self,
        _request: CleaningRequest,
    ) -> Result<Option<Cleaning<D>>, LogError> {
        Ok(None)
    }

    /// Puts what a pass has made in the place of what it was made from, durably. `None`: the log was cut or shortened
    /// meanwhile, nothing has changed, and the files of the pass are gone.
    ///
    /// # Errors
    /// Errors of the disk. Unless the log is poisoned, nothing has changed; if it is, opening it anew finishes what
    /// was begun.
    pub fn finish_cleaning(
        &mut self,
        cleaned: Cleaned<D>,
        _high_watermark: Offset,
    ) -> Result<Option<Finished<D>>, LogError> {
        drop(cleaned);
        Ok(None)
    }
}

//! How far the log was flushed, in a file of its own: so that an end that is missing, or was changed, is told from one
//! that a crash tore off before anybody was promised anything.
//!
//! A checkpoint says the same, but seconds later, and whole logs have been acknowledged by then. This file is written
//! after every flush, before the flush counts, in place, and not synced: after the end of a process all of it is there,
//! after that of the machine what the kernel had written by then, which on Linux is 35 s old at most, and as long as the
//! disk takes (`vm.dirty_expire_centisecs`, `vm.dirty_writeback_centisecs`).
//!
//! It costs a hundredth of what a disk takes for a flush, but as much as all else where a flush is next to nothing. So a
//! few logs of a process keep the file open: then it is one small write.
//!
//! Promise: whatever of it is there is true. It is written after what it vouches for is on disk, and lowered, durably,
//! before anything of that is cut off.

use crate::LogError;
use crate::checkpoint;
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::place::Place;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use troupe_proto::ids::Offset;

/// So many are kept open in a process, by those who come first, until their logs rest. Every other descriptor of a log is
/// counted for each partition (`needed_by` in the broker's `descriptors`); these are few enough not to be.
const MOST_KEPT: usize = 16;
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// What the file says. Shared by a log and its tickets, which run on other threads.
pub(crate) struct FlushedEnd<D: Disk>(Mutex<State<D>>);

struct State<D: Disk> {
    noted: Offset,
    /// How often it was lowered: a ticket from before proves nothing afterwards.
    lowered: u64,
    kept: Option<Kept<D>>,
}

/// The file, one of few.
struct Kept<D: Disk>(D::File);

impl<D: Disk> Drop for Kept<D> {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<D: Disk> FlushedEnd<D> {
    /// As it was found.
    pub(crate) fn found(noted: Option<Offset>) -> FlushedEnd<D> {
        let noted = noted.unwrap_or_default();
        FlushedEnd(Mutex::new(State { noted, lowered: 0, kept: None }))
    }

    /// Nobody uses the log for the moment.
    pub(crate) fn release(&self) {
        self.state().kept = None;
    }

    fn state(&self) -> MutexGuard<'_, State<D>> {
        // a number that was written before whoever held it died is as true as any
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By which [`FlushedEnd::note`] is told from what was cut off meanwhile.
    pub(crate) fn lowered(&self) -> u64 {
        self.state().lowered
    }

    /// All below `end` is on disk. What cannot be written is no loss: less is vouched for.
    pub(crate) fn note(&self, place: &Place<D>, end: Offset, lowered: u64) {
        let mut state = self.state();
        if state.lowered == lowered && end > state.noted && state.write(place, end, false).is_ok() {
            state.noted = end;
        }
    }

    /// Nothing from `end` on is vouched for any more, durably.
    pub(crate) fn lower(&self, place: &Place<D>, end: Offset) -> Result<(), LogError> {
        let mut state = self.state();
        state.lowered += 1;
        if state.noted > end {
            let path = place.path(checkpoint::FLUSHED_END);
            state.write(place, end, true).map_err(|e| LogError::io("write", &path, e))?;
            state.noted = end;
        }
        Ok(())
    }

    /// Writes the file anew if it is damaged; whether it was.
    pub(crate) fn mend(&self, place: &Place<D>) -> Result<bool, LogError> {
        let mut state = self.state();
        let content = place.read(checkpoint::FLUSHED_END)?;
        if content.is_none_or(|content| checkpoint::decode_flushed_end(&content).is_some()) {
            return Ok(false);
        }
        let content = checkpoint::encode_flushed_end(state.noted);
        // of the one that is replaced
        state.kept = None;
        place.replace(checkpoint::FLUSHED_END, &content, true)?;
        Ok(true)
    }
}

impl<D: Disk> State<D> {
    /// The content has always the same length, within a sector, which is written as a whole or not at all.
    fn write(&mut self, place: &Place<D>, end: Offset, durably: bool) -> io::Result<()> {
        let content = checkpoint::encode_flushed_end(end);
        let write = |file: &D::File| {
            write_all_at(file, 0, &mut [IoSlice::new(&content)])?;
            if durably { file.sync() } else { Ok(()) }
        };
        if let Some(Kept(file)) = &self.kept {
            return write(file);
        }
        let path = place.path(checkpoint::FLUSHED_END);
        let file = match place.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => place.disk.create(&path),
            opened => opened,
        }?;
        write(&file)?;
        let more = |kept: usize| (kept < MOST_KEPT).then_some(kept + 1);
        if KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            self.kept = Some(Kept(file));
        }
        Ok(())
    }
}

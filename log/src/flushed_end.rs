//! How far the log was flushed, in a file of its own: so that an end that is missing, or was changed, is told from one
//! that a crash tore off before anybody was promised anything.
//!
//! A checkpoint says the same, but seconds later, and whole logs have been acknowledged by then. This file is written
//! after every flush, before the flush counts, in place, and not synced: after the end of a process all of it is there,
//! after that of the machine what the kernel had written by then, which on Linux is half a minute old at most.
//!
//! The first time behind a closed segment it is synced: what was flushed of a segment that takes no more appends stays
//! known, whatever a power cut takes. That costs a sync a segment.
//!
//! Promise: whatever of it is there is true. It is written after what it vouches for is on disk, and lowered, durably,
//! before anything of that is cut off.

use crate::LogError;
use crate::checkpoint;
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::place::Place;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};
use troupe_proto::ids::Offset;

/// What the file says. Shared by a log and its tickets, which run on other threads.
#[derive(Debug, Default)]
pub(crate) struct FlushedEnd(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    noted: Offset,
    /// As far as it was synced since the log was opened.
    synced: Offset,
    /// How often it was lowered: a ticket from before proves nothing afterwards.
    lowered: u64,
}

impl FlushedEnd {
    /// As it was found.
    pub(crate) fn found(noted: Option<Offset>) -> FlushedEnd {
        FlushedEnd(Mutex::new(State { noted: noted.unwrap_or_default(), ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // a number that was written before whoever held it died is as true as any
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By which [`FlushedEnd::note`] is told from what was cut off meanwhile.
    pub(crate) fn lowered(&self) -> u64 {
        self.state().lowered
    }

    /// All below `end` is on disk, and all segments below `active` are closed. What cannot be written is no loss: less is
    /// vouched for.
    pub(crate) fn note<D: Disk>(
        &self,
        place: &Place<D>,
        end: Offset,
        active: Offset,
        lowered: u64,
    ) {
        let mut state = self.state();
        let durably = state.synced < active;
        let says_more = end > state.noted || durably && end == state.noted;
        if state.lowered != lowered || !says_more {
            return;
        }
        let Ok(file) = write(place, end) else { return };
        state.noted = end;
        // who made the file may have died before its name was on disk
        let owes_name = state.synced == Offset::ZERO;
        drop(state);
        // nobody who looks at what is noted waits for the disk; what was lowered meanwhile is synced as it is
        let sync = || match file.sync() {
            Ok(()) if owes_name => place.disk.sync_dir(&place.dir),
            synced => synced,
        };
        if durably && sync().is_ok() {
            let mut state = self.state();
            state.synced = if state.lowered == lowered { end } else { state.synced };
        }
    }

    /// Nothing from `end` on is vouched for any more, durably.
    pub(crate) fn lower<D: Disk>(&self, place: &Place<D>, end: Offset) -> Result<(), LogError> {
        let mut state = self.state();
        state.lowered += 1;
        state.synced = state.synced.min(end);
        if state.noted > end {
            let path = place.path(checkpoint::FLUSHED_END);
            let synced = write(place, end).and_then(|file| file.sync());
            synced.map_err(|e| LogError::io("write", &path, e))?;
            state.noted = end;
        }
        Ok(())
    }

    /// Writes the file anew if it is damaged; whether it was.
    pub(crate) fn mend<D: Disk>(&self, place: &Place<D>) -> Result<bool, LogError> {
        let state = self.state();
        let content = place.read(checkpoint::FLUSHED_END)?;
        if content.is_none_or(|content| checkpoint::decode_flushed_end(&content).is_some()) {
            return Ok(false);
        }
        let content = checkpoint::encode_flushed_end(state.noted);
        place.replace(checkpoint::FLUSHED_END, &content, true)?;
        Ok(true)
    }
}

/// The content has always the same length, within a sector, which is written as a whole or not at all.
fn write<D: Disk>(place: &Place<D>, end: Offset) -> io::Result<D::File> {
    let path = place.path(checkpoint::FLUSHED_END);
    let file = match place.disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => place.disk.create(&path),
        opened => opened,
    }?;
    let content = checkpoint::encode_flushed_end(end);
    write_all_at(&file, 0, &mut [IoSlice::new(&content)])?;
    Ok(file)
}

//! How dirty a log is, and how far it could be cleaned (S21); and what of that is written down.

use super::{CleaningPolicy, Tombstones};
use crate::checkpoint::{self, CleanerCheckpoint};
use crate::disk::Disk;
use crate::retention::believable;
use crate::segment::Segment;
use crate::{Log, LogError};
use troupe_proto::ids::Offset;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleaningState {
    /// All below was looked at by a pass: of each key it holds one record at most.
    pub first_dirty: Offset,
    /// A pass could come so far now.
    pub first_uncleanable: Offset,
    /// Of segments wholly below `first_dirty`.
    pub clean_bytes: u64,
    /// Of segments from there to `first_uncleanable`.
    pub dirty_bytes: u64,
    /// Of the first dirty batch, in milliseconds since 1970, the segment that takes appends included; by the file's
    /// time, where records do not tell.
    pub oldest_dirty_ms: Option<i64>,
    /// What is dirty and old stands in the segment that takes appends: [`Log::roll`] it, then it can be cleaned.
    pub roll_due: bool,
    /// A dirty record is older than `max.compaction.lag.ms`.
    pub overdue: bool,
    /// What the last pass has left of tombstones; None: nobody knows.
    pub tombstones: Option<Tombstones>,
}

impl CleaningState {
    /// From 0 to 1: what part of what could be cleaned is dirty.
    pub fn dirty_ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            all => self.dirty_bytes as f64 / all as f64,
        }
    }

    /// Whether a pass would remove tombstones though nothing is dirty: the time of all that are left is over, and every
    /// replica has them. Where nobody knows of any, a pass finds out.
    pub fn has_tombstones_due(&self, now_ms: i64, tombstones_below: Offset) -> bool {
        let is_due = |left: Tombstones| {
            left.end > Offset::ZERO && left.due_ms <= now_ms && left.end <= tombstones_below
        };
        self.clean_bytes > 0 && self.tombstones.is_none_or(is_due)
    }

    /// Whether a pass is worth while now.
    pub fn is_due(&self, policy: &CleaningPolicy) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.dirty_ratio() > policy.min_dirty_ratio)
    }
}

impl<D: Disk> Log<D> {
    /// Looks at no more than what is known of segments. `below`: what is committed, [`super::CleaningRequest::below`].
    ///
    /// # Errors
    /// An index that has to be read for a timestamp cannot be.
    pub fn cleaning_state(
        &self,
        policy: &CleaningPolicy,
        now_ms: i64,
        below: Offset,
    ) -> Result<CleaningState, LogError> {
        let first_dirty = self.first_dirty();
        let mut state =
            CleaningState { first_dirty, first_uncleanable: first_dirty, ..Default::default() };
        state.tombstones = self.tombstones;
        let count = self.cleanable_segments(policy, now_ms, below)?;
        for (i, segment) in self.segments.iter().enumerate() {
            if segment.end <= first_dirty {
                state.clean_bytes += segment.size;
                continue;
            }
            if i < count {
                state.dirty_bytes += segment.size;
                state.first_uncleanable = segment.end;
            }
            if state.oldest_dirty_ms.is_none() && !segment.is_empty() {
                state.oldest_dirty_ms = self.written_from(segment, now_ms)?;
                state.overdue = is_older(state.oldest_dirty_ms, now_ms, policy.max_lag_ms);
                state.roll_due = state.overdue && i + 1 == self.segments.len();
            }
        }
        Ok(state)
    }

    /// Where a pass would begin to map keys.
    pub(crate) fn first_dirty(&self) -> Offset {
        self.cleaned_below.clamp(self.oldest(), self.end)
    }

    /// What compaction has looked at, durably.
    pub(crate) fn write_cleaned_below(&mut self, offset: Offset) -> Result<(), LogError> {
        let content = CleanerCheckpoint { first_dirty: offset, tombstones: self.tombstones };
        self.place.replace(checkpoint::CLEANER, &content.encode(), true)?;
        self.place.sync_dir()?;
        self.cleaned_below = offset;
        Ok(())
    }

    /// Before the log is cut at `end`: what comes there next was looked at by nobody. Were it believed to be clean,
    /// a tombstone could go before what it deletes.
    pub(crate) fn lower_cleaned_below(&mut self, end: Offset) -> Result<(), LogError> {
        if self.cleaned_below <= end {
            return Ok(());
        }
        match self.write_cleaned_below(end) {
            Err(LogError::DiskFull { .. }) => {
                self.place.remove(checkpoint::CLEANER)?;
                self.place.sync_dir()?;
                self.cleaned_below = Offset::ZERO;
                Ok(())
            }
            written => written,
        }
    }

    /// How many segments, from the first on, a pass may look at. What counts as flushed within one, or at its end, has
    /// to be found there again: that one stays as it is.
    pub(super) fn cleanable_segments(
        &self,
        policy: &CleaningPolicy,
        now_ms: i64,
        below: Offset,
    ) -> Result<usize, LogError> {
        let (first_dirty, point) = (self.first_dirty(), self.flushing.point);
        let below = below.min(point.offset);
        let mut count = 0;
        for segment in self.segments.iter().take(self.segments.len().saturating_sub(1)) {
            if segment.end > below || segment.base >= point.segment {
                break;
            }
            if segment.end > first_dirty
                && policy.min_lag_ms > 0
                && !is_older(self.written_at(segment, now_ms)?, now_ms, Some(policy.min_lag_ms - 1))
            {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// When the segment's youngest record was written, as far as that can be told.
    fn written_at(&self, segment: &Segment<D>, now_ms: i64) -> Result<Option<i64>, LogError> {
        let summary = self.summary(segment)?;
        match believable(summary.largest_timestamp(), now_ms) {
            Some(written) => Ok(Some(written)),
            None => self.file_time(segment),
        }
    }

    /// When the segment's oldest batch was written, as far as that can be told.
    fn written_from(&self, segment: &Segment<D>, now_ms: i64) -> Result<Option<i64>, LogError> {
        let first = self.summary(segment)?.first;
        match believable(first, now_ms) {
            Some(written) => Ok(Some(written)),
            // its file is written to all the time
            None if self.segments.back().is_some_and(|active| active.base == segment.base) => {
                Ok(Some(self.active_since_ms))
            }
            None => self.file_time(segment),
        }
    }
}

/// Whether more than `limit_ms` have passed since.
fn is_older(written_ms: Option<i64>, now_ms: i64, limit_ms: Option<u64>) -> bool {
    let (Some(written), Some(limit)) = (written_ms, limit_ms) else { return false };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    now_ms.saturating_sub(written) > limit
}

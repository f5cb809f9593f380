//! Answers that wait for an offset to be committed.

use super::append_types::{Appended, Token};
use crate::time::Time;
use std::collections::VecDeque;
use troupe_proto::ids::Offset;

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub token: Token,
    /// Answered when the high watermark reaches `appended.end_offset`, or at this time.
    pub deadline: Time,
    pub appended: Appended,
}

/// Waiting answers, by the offset they wait for; those of one offset in the order they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Parked {
    waiting: VecDeque<Waiting>,
    /// No deadline is before this; it may be too early after an answer, never too late.
    earliest_deadline: Option<Time>,
}

impl Parked {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn park(&mut self, waiting: Waiting) {
        let end = waiting.appended.end_offset;
        let earliest = self.earliest_deadline.map_or(waiting.deadline, |t| t.min(waiting.deadline));
        self.earliest_deadline = Some(earliest);
        // Only a duplicate waits for an offset that others have passed already.
        let at = match self.waiting.back() {
            Some(last) if last.appended.end_offset > end => {
                self.waiting.partition_point(|other| other.appended.end_offset <= end)
            }
            Some(_) | None => self.waiting.len(),
        };
        self.waiting.insert(at, waiting);
    }

    /// The next answer that a high watermark sets free.
    pub fn release(&mut self, high_watermark: Offset) -> Option<Waiting> {
        let free = self.waiting.front()?.appended.end_offset <= high_watermark;
        let released = if free { self.waiting.pop_front() } else { None };
        if self.waiting.is_empty() {
            self.earliest_deadline = None;
        }
        released
    }

    /// All answers whose deadline has come.
    pub fn expire(&mut self, now: Time) -> Vec<Waiting> {
        if self.earliest_deadline.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let (expired, waiting): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|waiting| waiting.deadline <= now);
        self.waiting = waiting.into();
        self.earliest_deadline = self.waiting.iter().map(|waiting| waiting.deadline).min();
        expired
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Waiting> + '_ {
        self.earliest_deadline = None;
        self.waiting.drain(..)
    }

    pub fn earliest_deadline(&self) -> Option<Time> {
        self.earliest_deadline
    }
}

//! What an actor was asked for and has not answered yet: how many bytes, and since when. Kept outside of the actor,
//! which cannot tell while it stands still.
//!
//! Promise: every request that enters leaves, whatever becomes of it, as long as whoever entered it sees to that.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Places that are kept while nothing waits.
const KEPT: usize = 64;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightId(u64);

/// A request that leaves when this is dropped.
pub struct InFlightGuard<'a> {
    requests: &'a InFlightRequests,
    id: InFlightId,
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.requests.leave(self.id);
    }
}

/// All that wait, in the order in which they came.
#[derive(Default)]
pub struct InFlightRequests(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// The number of the front.
    first: u64,
    /// Those in between that have been answered are empty.
    waiting: VecDeque<Option<Waiting>>,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Waiting {
    since: Instant,
    bytes: u64,
}

impl InFlightRequests {
    pub fn enter(&self, now: Instant, bytes: u64) -> InFlightId {
        let mut queue = self.lock();
        queue.bytes += bytes;
        queue.waiting.push_back(Some(Waiting { since: now, bytes }));
        InFlightId(queue.first + queue.waiting.len() as u64 - 1)
    }

    /// The same, until what it returns is dropped.
    pub fn hold(&self, now: Instant, bytes: u64) -> InFlightGuard<'_> {
        InFlightGuard { requests: self, id: self.enter(now, bytes) }
    }

    pub fn leave(&self, InFlightId(number): InFlightId) {
        let mut queue = self.lock();
        let at = number.checked_sub(queue.first).and_then(|at| usize::try_from(at).ok());
        let left = at.and_then(|at| queue.waiting.get_mut(at)).and_then(Option::take);
        queue.bytes -= left.map_or(0, |left| left.bytes);
        while let Some(None) = queue.waiting.front() {
            queue.waiting.pop_front();
            queue.first += 1;
        }
        if queue.waiting.is_empty() && queue.waiting.capacity() > KEPT {
            queue.waiting.shrink_to(KEPT);
        }
    }

    /// Since when the oldest has waited.
    pub fn oldest(&self) -> Option<Instant> {
        self.lock().waiting.front().copied().flatten().map(|waiting| waiting.since)
    }

    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oldest_is_the_first_that_has_not_left_whatever_the_order() {
        let (requests, begin) = (InFlightRequests::default(), Instant::now());
        let at = |n| begin + Duration::from_millis(n);
        let ids: Vec<InFlightId> = (0..1000).map(|n| requests.enter(at(n), 10)).collect();
        assert_eq!((requests.oldest(), requests.bytes()), (Some(at(0)), 10_000));
        requests.leave(ids[1]);
        requests.leave(ids[1]);
        assert_eq!((requests.oldest(), requests.bytes()), (Some(at(0)), 9_990));
        requests.leave(ids[0]);
        assert_eq!(requests.oldest(), Some(at(2)));
        for id in ids.into_iter().rev() {
            requests.leave(id);
        }
        assert_eq!((requests.oldest(), requests.bytes()), (None, 0));
        assert!(requests.lock().waiting.capacity() <= 2 * KEPT);
        let again = requests.enter(at(7), 1);
        assert_eq!((again, requests.oldest()), (InFlightId(1000), Some(at(7))));
    }

    #[test]
    fn who_holds_a_place_leaves_it_however_it_ends() {
        let (requests, now) = (InFlightRequests::default(), Instant::now());
        let held = requests.hold(now, 3);
        assert_eq!((requests.oldest(), requests.bytes()), (Some(now), 3));
        drop(held);
        assert_eq!((requests.oldest(), requests.bytes()), (None, 0));
    }
}

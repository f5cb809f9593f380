//! What an actor was asked for and has not answered yet: how many bytes, and since when. Kept outside of the actor,
//! which cannot tell while it stands still.
//!
//! Promise: every request that enters leaves, whatever becomes of it, as long as whoever entered it sees to that.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Places that are kept while nothing waits.
const KEPT: usize = 64;

/// A place in the queue of those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

/// A place that is left when this is dropped.
pub struct Held<'a> {
    waits: &'a Waits,
    place: Place,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.waits.leave(self.place);
    }
}

#[derive(Default)]
pub struct Waits(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// The number of the front.
    first: u64,
    /// In the order in which they came; those in between that have been answered are empty.
    waiting: VecDeque<Option<Waiting>>,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Waiting {
    since: Instant,
    bytes: u64,
}

impl Waits {
    pub fn enter(&self, now: Instant, bytes: u64) -> Place {
        let mut queue = self.lock();
        queue.bytes += bytes;
        queue.waiting.push_back(Some(Waiting { since: now, bytes }));
        Place(queue.first + queue.waiting.len() as u64 - 1)
    }

    /// The same, until what it returns is dropped.
    pub fn hold(&self, now: Instant, bytes: u64) -> Held<'_> {
        Held { waits: self, place: self.enter(now, bytes) }
    }

    pub fn leave(&self, Place(number): Place) {
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
        let (waits, begin) = (Waits::default(), Instant::now());
        let at = |n| begin + Duration::from_millis(n);
        let places: Vec<Place> = (0..1000).map(|n| waits.enter(at(n), 10)).collect();
        assert_eq!((waits.oldest(), waits.bytes()), (Some(at(0)), 10_000));
        waits.leave(places[1]);
        waits.leave(places[1]);
        assert_eq!((waits.oldest(), waits.bytes()), (Some(at(0)), 9_990));
        waits.leave(places[0]);
        assert_eq!(waits.oldest(), Some(at(2)));
        for place in places.into_iter().rev() {
            waits.leave(place);
        }
        assert_eq!((waits.oldest(), waits.bytes()), (None, 0));
        assert!(waits.lock().waiting.capacity() <= 2 * KEPT);
        let again = waits.enter(at(7), 1);
        assert_eq!((again, waits.oldest()), (Place(1000), Some(at(7))));
    }
    #[test]
    fn who_holds_a_place_leaves_it_however_it_ends() {
        let (waits, now) = (Waits::default(), Instant::now());
        let held = waits.hold(now, 3);
        assert_eq!((waits.oldest(), waits.bytes()), (Some(now), 3));
        drop(held);
        assert_eq!((waits.oldest(), waits.bytes()), (None, 0));
    }
}

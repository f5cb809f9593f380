//! What is to happen, by time, and at one time in the order in which it was scheduled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Only times and places move about when the order changes: what is scheduled may be large.
pub struct Queue<T> {
    /// When, the number among all that were scheduled, and where it stands.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    places: Vec<Option<T>>,
    free: Vec<usize>,
    scheduled: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        let (order, places, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Queue { order, places, free, scheduled: 0 }
    }
}

impl<T> Queue<T> {
    pub fn push(&mut self, at: u64, what: T) {
        self.scheduled += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(what);
        self.order.push(Reverse((at, self.scheduled, place)));
    }

    /// The next of what happens up to `end`, and when.
    pub fn pop_until(&mut self, end: u64) -> Option<(u64, T)> {
        let next = self.order.peek_mut().filter(|next| next.0.0 <= end)?;
        let Reverse((at, _, place)) = std::collections::binary_heap::PeekMut::pop(next);
        self.free.push(place);
        let what = self.places[place].take().expect("a place in the order is taken");
        Some((at, what))
    }
}

#[test]
fn what_is_scheduled_happens_by_time_and_then_in_its_order() {
    let mut queue = Queue::default();
    for (at, what) in [(5, "c"), (3, "a"), (5, "d"), (3, "b"), (9, "e")] {
        queue.push(at, what);
    }
    let early: Vec<_> = std::iter::from_fn(|| queue.pop_until(5)).collect();
    assert_eq!(early, [(3, "a"), (3, "b"), (5, "c"), (5, "d")]);
    queue.push(8, "f");
    let late: Vec<_> = std::iter::from_fn(|| queue.pop_until(u64::MAX)).collect();
    assert_eq!(late, [(8, "f"), (9, "e")]);
}

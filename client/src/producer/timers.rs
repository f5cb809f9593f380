//! When to look at what again: one time for each queue and stream.

use super::queue::StreamId;
use std::collections::{BTreeSet, HashMap};
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    Queue(u64),
    Stream(StreamId),
    /// Somebody waits for buffer memory.
    Pressed,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Instant, Timer)>,
    times: HashMap<Timer, Instant>,
}

impl Timers {
    /// Replaces the time that was set before.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        match self.times.insert(timer, at) {
            Some(before) if before == at => return,
            Some(before) => {
                self.by_time.remove(&(before, timer));
            }
            None => {}
        }
        self.by_time.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.times.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// One whose time has come; it has none any more.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_timer_fires_once_at_the_time_that_was_set_last() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(Timer::Queue(1), at(10));
        timers.set(Timer::Queue(2), at(20));
        timers.set(Timer::Queue(1), at(30));
        timers.set(Timer::Stream(StreamId(1)), at(5));
        timers.cancel(Timer::Stream(StreamId(1)));
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.pop_due(at(19)), None);
        assert_eq!(timers.pop_due(at(40)), Some(Timer::Queue(2)));
        assert_eq!(timers.pop_due(at(40)), Some(Timer::Queue(1)));
        assert_eq!(timers.pop_due(at(40)), None);
    }
}

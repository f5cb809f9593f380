//! The successes of one partition, and how long there were none.
//!
//! ```text
//!    begins       success      success              success     ends
//!      |  gap       |   gap      |      gap            |   gap    |
//! ```
//! A gap counts from the last success, or from the beginning, to the next one; what is open when the run ends counts up to
//! there.

use std::time::Duration;

/// From one success to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    pub from: Duration,
    pub to: Duration,
}

impl Gap {
    pub fn length(self) -> Duration {
        self.to.saturating_sub(self.from)
    }

    /// The longer one; of two that are equal, the first.
    #[must_use]
    pub fn longer(self, other: Gap) -> Gap {
        if other.length() > self.length() { other } else { self }
    }
}

#[derive(Clone, Debug)]
pub struct Lane {
    last: Duration,
    longest: Gap,
    successes: u64,
}

impl Lane {
    pub fn beginning(at: Duration) -> Lane {
        Lane { last: at, longest: Gap { from: at, to: at }, successes: 0 }
    }

    /// The gap that it ends. Successes that come late by a hair, from another thread, end none.
    pub fn success(&mut self, at: Duration) -> Gap {
        self.successes += 1;
        let gap = self.open(at);
        self.longest = self.longest.longer(gap);
        self.last = self.last.max(at);
        gap
    }

    /// The gap that no success has ended yet.
    pub fn open(&self, now: Duration) -> Gap {
        Gap { from: self.last, to: now.max(self.last) }
    }

    /// Including the one that is open.
    pub fn longest(&self, now: Duration) -> Gap {
        self.longest.longer(self.open(now))
    }

    pub fn successes(&self) -> u64 {
        self.successes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn gap(from: u64, to: u64) -> Gap {
        Gap { from: ms(from), to: ms(to) }
    }

    #[test]
    fn a_gap_counts_from_the_last_success_to_the_next() {
        let mut lane = Lane::beginning(ms(100));
        assert_eq!(lane.success(ms(150)), gap(100, 150));
        assert_eq!(lane.success(ms(4_148)), gap(150, 4_148));
        lane.success(ms(4_200));
        assert_eq!(lane.longest(ms(4_210)), gap(150, 4_148));
        assert_eq!(lane.successes(), 3);
    }

    #[test]
    fn a_gap_counts_when_the_run_ends_within_it_and_when_there_never_was_a_success() {
        let mut lane = Lane::beginning(ms(0));
        assert_eq!(lane.longest(ms(900)), gap(0, 900));
        lane.success(ms(10));
        assert_eq!(lane.longest(ms(5_000)), gap(10, 5_000));
    }

    #[test]
    fn time_does_not_run_backwards() {
        let mut lane = Lane::beginning(ms(10));
        lane.success(ms(20));
        assert_eq!(lane.success(ms(15)).length(), Duration::ZERO);
        assert_eq!(lane.open(ms(18)).length(), Duration::ZERO);
        assert_eq!(lane.longest(ms(25)), gap(10, 20));
    }
}

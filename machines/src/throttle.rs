//! How fast new replicas are filled (A13): so many bytes in a second, over all partitions of a broker.
//!
//! Owns what was sent and is not paid for yet. Promises: over a second and more, no more than the rate; and no less, as
//! long as there is something to send, though whoever sends comes late each time: what was not used within the last
//! moment may be used after all. Another rate holds at once, also for what was sent before.
//! Never here: a clock, and which replicas it is for.

use std::time::Duration;

/// What may be sent late.
const SAVED_UP: Duration = Duration::from_millis(250);
/// However long there is to wait: by then the rate may be another one.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// One push, as a part of what a second may have: a rate is not to be one burst after the other, for which those who
/// are not held back wait.
const PUSHES_PER_SECOND: u64 = 200;

/// Time is counted from any moment on.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// `None`: no limit.
    bytes_per_second: Option<u64>,
    /// When all that was sent has been paid for.
    paid: Duration,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { bytes_per_second: None, paid: Duration::ZERO }
    }
}

impl Throttle {
    /// As `leader.replication.throttled.rate` and its brother say it: the largest number is no limit.
    pub fn set_rate(&mut self, now: Duration, bytes_per_second: u64) {
        let rate = (bytes_per_second < i64::MAX as u64).then_some(bytes_per_second.max(1));
        if rate == self.bytes_per_second {
            return;
        }
        let owed = self.paid.saturating_sub(now);
        self.paid = match (self.bytes_per_second, rate) {
            (Some(before), Some(after)) => now + owed.mul_f64(before as f64 / after as f64),
            // What was sent without a limit is not held against anybody.
            _ => now,
        };
        self.bytes_per_second = rate;
    }

    /// How long to wait before something is sent; zero: not at all. After a longer wait it may be as long again.
    pub fn wait(&self, now: Duration) -> Duration {
        match self.bytes_per_second {
            Some(_) => self.paid.saturating_sub(now).min(LONGEST_WAIT),
            None => Duration::ZERO,
        }
    }

    /// How much is sent at once.
    pub fn push_bytes(&self, most: usize) -> usize {
        let share = self.bytes_per_second.map(|rate| (rate / PUSHES_PER_SECOND).max(1));
        share.map_or(most, |share| usize::try_from(share).map_or(most, |share| share.min(most)))
    }

    /// These bytes were sent.
    pub fn sent(&mut self, now: Duration, bytes: usize) {
        if let Some(rate) = self.bytes_per_second {
            let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.paid = self.paid.max(now.saturating_sub(SAVED_UP)) + cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as it may for so long, and comes late each time.
    fn sent(throttle: &mut Throttle, from: Duration, span: Duration, late: Duration) -> u64 {
        let (mut now, mut sent) = (from, 0);
        while now < from + span {
            let wait = throttle.wait(now);
            if !wait.is_zero() {
                now += wait + late;
                continue;
            }
            let bytes = throttle.push_bytes(1 << 20);
            throttle.sent(now, bytes);
            sent += bytes as u64;
        }
        sent
    }

    #[test]
    fn the_rate_is_held_within_a_tenth_however_late_whoever_sends_comes() {
        for rate in [100_000, 5_000_000, 50_000_000, 400_000_000] {
            for late in [0, 1, 15] {
                let mut throttle = Throttle::default();
                throttle.set_rate(Duration::from_secs(3), rate);
                let (from, late) = (Duration::from_secs(9), Duration::from_millis(late));
                let span = Duration::from_secs(10);
                let sent = sent(&mut throttle, from, span, late) as f64 / 10.0;
                let share = sent / rate as f64;
                assert!((0.9..=1.1).contains(&share), "{rate}, {late:?}: {share}");
            }
        }
    }

    #[test]
    fn another_rate_holds_at_once() {
        let mut throttle = Throttle::default();
        let now = Duration::from_secs(5);
        throttle.set_rate(now, 1_000);
        throttle.sent(now, 100_000);
        assert_eq!(throttle.wait(now), LONGEST_WAIT, "a hundred seconds, but the rate may change");
        throttle.set_rate(now, 10_000_000);
        assert!(throttle.wait(now) < Duration::from_millis(20));
        throttle.set_rate(now, i64::MAX as u64);
        assert_eq!((throttle.wait(now), throttle.push_bytes(7)), (Duration::ZERO, 7));
    }

    #[test]
    fn what_was_not_used_is_not_saved_up_for_long() {
        let mut throttle = Throttle::default();
        throttle.set_rate(Duration::ZERO, 1_000_000);
        let at = Duration::from_secs(600);
        let in_a_second = sent(&mut throttle, at, Duration::from_secs(1), Duration::ZERO);
        assert!(in_a_second <= 1_350_000, "{in_a_second}");
    }
}

//! So many bytes in a second, and no more.

use std::time::Duration;

/// What several share that together may not be faster. Time is counted from any moment on.
#[derive(Clone, Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When all that was taken has been paid for.
    paid: Duration,
}

impl Rate {
    pub fn new(bytes_per_second: u64) -> Rate {
        Rate { bytes_per_second: bytes_per_second.max(1), paid: Duration::ZERO }
    }

    /// These bytes were read or written. Returns how long to rest before the next ones.
    pub fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid = self.paid.max(now).saturating_add(cost);
        self.paid - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_together_is_no_faster_than_the_rate() {
        let (mut rate, mut now, mut taken) = (Rate::new(1_000), Duration::from_secs(7), 0);
        let begin = now;
        for bytes in [1, 500, 10, 4_000, 0, 250] {
            now += rate.take(now, bytes);
            taken += bytes;
            assert_eq!(now - begin, Duration::from_millis(taken));
        }
        // What was not used is not saved up.
        now += Duration::from_secs(60);
        assert_eq!(rate.take(now, 2_000), Duration::from_secs(2));
        assert_eq!(rate.take(now, 1_000), Duration::from_secs(3), "the other one waits behind it");
    }

    #[test]
    fn no_limit_is_no_rest() {
        assert_eq!(
            Rate::new(i64::MAX as u64).take(Duration::from_secs(1), 1 << 30),
            Duration::ZERO
        );
    }
}

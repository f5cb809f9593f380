//! A moment that threads share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// In nanoseconds since a moment when this process had begun; what is older counts as that.
pub(crate) struct AtomicInstant(AtomicU64);

impl AtomicInstant {
    pub fn new(at: Instant) -> Self {
        let atomic = Self(AtomicU64::new(0));
        atomic.set(at);
        atomic
    }

    pub fn set(&self, at: Instant) {
        let nanos = at.saturating_duration_since(origin()).as_nanos();
        self.0.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// How long ago it is; nothing, if it is yet to come.
    pub fn age(&self, now: Instant) -> Duration {
        let at = origin() + Duration::from_nanos(self.0.load(Ordering::Acquire));
        now.saturating_duration_since(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_the_age_of_what_it_was_set_to() {
        let begin = origin();
        let moment = AtomicInstant::new(begin);
        let later = begin + Duration::from_millis(1500);
        assert_eq!(moment.age(later), Duration::from_millis(1500));
        moment.set(later);
        assert_eq!((moment.age(later), moment.age(begin)), (Duration::ZERO, Duration::ZERO));
    }
}

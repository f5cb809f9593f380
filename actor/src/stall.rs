//! Whether a thread, or this whole process, has been running, as far as it knows itself.
//!
//! A process that was stopped for a while (a debugger, SIGSTOP, a machine that swaps) wakes up believing that it
//! still leads what others lead by now. It must not acknowledge anything before it has heard from the controller.
//! So somebody beats now and then; whoever finds the last beat too old does not promise anything.

use crate::clock::AtomicInstant;
use std::time::{Duration, Instant};

pub struct StallDetector {
    /// When it was last beaten. `Instant` does not count the time of a suspended machine on every system, but that of
    /// a stopped process.
    beaten: AtomicInstant,
    /// How old that may be. `None`: any age.
    limit: Option<Duration>,
}

impl StallDetector {
    /// Fit as long as it is beaten at least this often.
    pub fn new(limit: Duration) -> Self {
        Self { beaten: AtomicInstant::new(Instant::now()), limit: Some(limit) }
    }

    /// Only tells how long the silence is: of a node alone, in whose place nobody leads; of a thread.
    pub fn unlimited() -> Self {
        Self { beaten: AtomicInstant::new(Instant::now()), limit: None }
    }

    pub fn is_fit(&self) -> bool {
        self.limit.is_none_or(|limit| self.silence(Instant::now()) <= limit)
    }

    /// Beats it, unless it is too old already: then only [`StallDetector::resume`] helps. Returns whether it is fit.
    pub fn beat(&self) -> bool {
        let fit = self.is_fit();
        if fit {
            self.resume();
        }
        fit
    }

    /// Whoever knows better has been heard since.
    pub fn resume(&self) {
        self.beaten.set(Instant::now());
    }

    /// For how long nobody has beaten it.
    pub fn silence(&self, now: Instant) -> Duration {
        self.beaten.age(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_still_is_not_beaten_on() {
        let detector = StallDetector::new(Duration::from_millis(20));
        assert!(detector.is_fit());
        std::thread::sleep(Duration::from_millis(40));
        assert!(!detector.is_fit() && !detector.beat());
        detector.resume();
        assert!(detector.is_fit());
        assert!(StallDetector::unlimited().beat());
    }

    #[test]
    fn a_silence_lasts_until_the_next_beat() {
        let detector = StallDetector::unlimited();
        let later = Instant::now() + Duration::from_secs(5);
        assert!(detector.silence(later) >= Duration::from_secs(5));
        assert!(detector.beat() && detector.is_fit());
        assert!(detector.silence(Instant::now()) < Duration::from_secs(5));
    }
}

//! Whether this process has been running, as far as it knows itself.
//!
//! A process that was stopped for a while (a debugger, SIGSTOP, a machine that swaps) wakes up believing that it
//! still leads what others lead by now. It must not acknowledge anything before it has heard from the controller.
//! So somebody beats a pulse; whoever finds it too old does not promise anything.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the pulse is beaten.
pub const BEAT: Duration = Duration::from_millis(100);

/// Of a node that is one of several; one alone needs none.
pub struct Pulse {
    /// When it was last beaten, in milliseconds since [`origin`].
    beaten: AtomicU64,
    /// How old it may be. `u64::MAX`: any age.
    limit_ms: u64,
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// `Instant` does not count the time of a suspended machine on every system, but that of a stopped process.
pub fn now_ms() -> u64 {
    u64::try_from(origin().elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Pulse {
    /// Fit as long as it is beaten at least this often.
    pub fn new(limit: Duration) -> Self {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Self { beaten: AtomicU64::new(now_ms()), limit_ms }
    }

    /// Of a node alone: nobody leads in its place.
    pub fn unneeded() -> Self {
        Self { beaten: AtomicU64::new(0), limit_ms: u64::MAX }
    }

    pub fn is_fit(&self) -> bool {
        self.limit_ms == u64::MAX
            || now_ms().saturating_sub(self.beaten.load(Ordering::Acquire)) <= self.limit_ms
    }

    /// Beats it, unless it is too old already: then only [`Pulse::resume`] helps. Returns whether it is fit.
    pub fn beat(&self) -> bool {
        let fit = self.is_fit();
        if fit {
            self.resume();
        }
        fit
    }

    /// The controller has been heard since.
    pub fn resume(&self) {
        self.beaten.store(now_ms(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_that_stood_still_is_not_beaten_on() {
        let pulse = Pulse::new(Duration::from_millis(20));
        assert!(pulse.is_fit());
        std::thread::sleep(Duration::from_millis(40));
        assert!(!pulse.is_fit() && !pulse.beat());
        pulse.resume();
        assert!(pulse.is_fit());
        assert!(Pulse::unneeded().beat());
    }
}

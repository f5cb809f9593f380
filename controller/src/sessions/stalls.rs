//! Whether the thread that hears heartbeats has been running.
//!
//! What a broker said in time is heard late by a thread that does not run. So that thread counts the time that it
//! has missed, and nobody is fenced for it.

use super::heartbeats::RUN_INTERVAL;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Later than this is not a matter of clocks.
const SLACK: Duration = Duration::from_millis(25);

#[derive(Default)]
pub(crate) struct Stalls {
    running: AtomicBool,
    /// When it last looked at the clock, and what it has missed in all: in milliseconds.
    looked: AtomicU64,
    missed: AtomicU64,
}

fn now_ms() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = ORIGIN.get_or_init(Instant::now);
    u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Stalls {
    /// From now on this thread is the one that listens. Said again, it changes nothing.
    pub fn begin(self: &Arc<Self>) {
        if self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        self.looked.store(now_ms(), Ordering::Release);
        let running = Running(Arc::clone(self));
        tokio::spawn(async move {
            let mut looks = tokio::time::interval(RUN_INTERVAL);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // Nobody counts for a controller that is gone.
            while Arc::strong_count(&running.0) > 1 {
                looks.tick().await;
                running.0.look(now_ms());
            }
        });
    }

    fn look(&self, now: u64) {
        self.missed.fetch_add(self.late(now), Ordering::AcqRel);
        self.looked.store(now, Ordering::Release);
    }

    /// How much it is late at this time, if it has not looked since.
    fn late(&self, now: u64) -> u64 {
        let due = self.looked.load(Ordering::Acquire) + RUN_INTERVAL.as_millis() as u64;
        let late = now.saturating_sub(due);
        if late > SLACK.as_millis() as u64 { late } else { 0 }
    }

    /// All that has been missed, up to now.
    pub fn missed(&self) -> Duration {
        self.missed_at(now_ms())
    }

    fn missed_at(&self, now: u64) -> Duration {
        let under_way = if self.running.load(Ordering::Acquire) { self.late(now) } else { 0 };
        Duration::from_millis(self.missed.load(Ordering::Acquire) + under_way)
    }
}

/// However the task ends, it counts no more.
struct Running(Arc<Stalls>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_missed_is_counted_once_and_while_it_is_missed() {
        let stalls = Stalls { running: AtomicBool::new(true), ..Stalls::default() };
        let missed = |now| stalls.missed_at(now).as_millis();
        stalls.look(50);
        stalls.look(110);
        assert_eq!(missed(160), 0, "late by a hair");
        assert_eq!(missed(460), 300);
        stalls.look(510);
        assert_eq!(missed(510), 350);
        assert_eq!(missed(560), 350);
        stalls.running.store(false, Ordering::Release);
        assert_eq!(missed(9_999), 350, "a thread that has ended misses nothing");
    }
}

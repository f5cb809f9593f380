//! The time of this process: steady for whatever waits, the wall clock's for what records and files are dated with.
//!
//! Promise: [`now`] never goes back, and never jumps when somebody sets the clock.
//!
//! Somebody may want the wall clock of one node to be wrong, and several nodes may share a process: so each thread of a
//! node takes over its [`ClockOffset`]. On others the wall clock is right.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use troupe_machines::time::Time;

/// What machines and deadlines go by: the wall clock of when it was first asked for here, and steady from then
/// on. Who sets the clock moves timestamps, and nothing that waits.
pub fn now() -> Time {
    static BEGIN: OnceLock<(Time, Instant)> = OnceLock::new();
    let (time, begin) = BEGIN.get_or_init(|| (Time(right_ms()), Instant::now()));
    time.plus(u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// What records' timestamps and the age of segments go by.
pub fn wall_clock() -> Time {
    Time(match ANY_WRONG.load(Ordering::Relaxed) {
        true => right_ms().saturating_add_signed(offset()),
        false => right_ms(),
    })
}

fn right_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Whether any node's clock has ever been wrong here.
static ANY_WRONG: AtomicBool = AtomicBool::new(false);

thread_local! {
    static OFFSET: RefCell<Option<Arc<ClockOffset>>> = const { RefCell::new(None) };
}

#[cold]
fn offset() -> i64 {
    OFFSET.with_borrow(|offset| offset.as_ref().map_or(0, |it| it.0.load(Ordering::Relaxed)))
}

/// By how many milliseconds the wall clock of a node is fast.
#[derive(Debug, Default)]
pub struct ClockOffset(AtomicI64);

impl ClockOffset {
    /// From now on this thread's wall clock is as wrong as the node's.
    pub fn take_over(self: &Arc<Self>) {
        OFFSET.set(Some(Arc::clone(self)));
    }

    /// It is so much faster than it was until what this returns is dropped.
    pub fn shift(self: &Arc<Self>, by_ms: i64) -> ClockFault {
        ANY_WRONG.store(true, Ordering::Relaxed);
        self.0.fetch_add(by_ms, Ordering::Relaxed);
        ClockFault { clock: Arc::clone(self), by_ms }
    }
}

/// A clock that is wrong as long as this lives.
#[derive(Debug)]
pub struct ClockFault {
    clock: Arc<ClockOffset>,
    by_ms: i64,
}

impl Drop for ClockFault {
    fn drop(&mut self) {
        self.clock.0.fetch_sub(self.by_ms, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_moves_dates_on_its_nodes_threads_and_nothing_that_waits() {
        let clock = Arc::<ClockOffset>::default();
        let hour = 3_600_000;
        std::thread::scope(|scope| {
            let before = now();
            let wrong = clock.shift(-hour);
            let other = scope.spawn(wall_clock).join().unwrap();
            clock.take_over();
            let (steady, dated) = (now(), wall_clock());
            assert!(dated.0 + 3_600_000 / 2 < other.0, "{dated:?} {other:?}");
            assert!(steady >= before && steady.0 < before.0 + 3_600_000 / 2);
            drop(wrong);
            assert!(wall_clock() >= other && now() >= steady);
        });
    }
}

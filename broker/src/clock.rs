//! The time of this process: steady for whatever waits, the wall clock's for what records and files are dated with.
//!
//! Promise: [`now`] never goes back, and never jumps when somebody sets the clock.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use troupe_machines::time::Time;

/// What machines and deadlines go by: the wall clock of when it was first asked for here, and steady from then
/// on. Who sets the clock moves timestamps, and nothing that waits.
pub fn now() -> Time {
    static BEGIN: OnceLock<(Time, Instant)> = OnceLock::new();
    let (time, begin) = BEGIN.get_or_init(|| (wall_clock(), Instant::now()));
    time.plus(u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// What records' timestamps and the age of segments go by.
pub fn wall_clock() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

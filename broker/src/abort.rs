//! A panic in an actor costs that actor alone: its supervisor builds another. A panic in what actors rely
//! on would leave them waiting forever, so it stops the process, and whoever runs it starts it again.

use crate::lines;
use std::time::Duration;

/// For the last words: a reader that does not read them in this time does not keep the process.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Aborts the process if it is dropped by a panic.
pub struct AbortOnPanic(pub &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(part = self.0, "panicked; the process cannot go on");
            lines::flush(LAST_WORDS);
            std::process::abort();
        }
    }
}

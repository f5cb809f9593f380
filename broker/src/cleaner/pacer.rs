//! How fast the cleaner's threads may go, and when they have to stop.

use super::table::Progress;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use troupe_log::Pace;
use troupe_machines::cleaning::Rate;

/// `log.cleaner.io.max.bytes.per.second`, of all threads together.
pub struct Throttle {
    begin: Instant,
    rate: Mutex<Rate>,
}

impl Throttle {
    pub fn new(bytes_per_second: u64) -> Self {
        Self { begin: Instant::now(), rate: Mutex::new(Rate::new(bytes_per_second)) }
    }

    fn take(&self, bytes: u64) -> Duration {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.take(self.begin.elapsed(), bytes)
    }
}

/// The pace of one pass.
pub struct Pacer<'a> {
    pub runtime: &'a Runtime,
    pub throttle: &'a Throttle,
    /// Cancelled when the pass is of no use any more.
    pub stop: &'a CancellationToken,
    pub progress: Arc<Progress>,
    /// Bytes read and written so far.
    pub moved: u64,
}

impl Pace for Pacer<'_> {
    fn moved(&mut self, bytes: u64) -> ControlFlow<()> {
        self.moved += bytes;
        self.progress.add(bytes);
        let rest = self.throttle.take(bytes);
        if !rest.is_zero() {
            // A timer is made where it is waited for.
            let rested = async { tokio::time::sleep(rest).await };
            self.runtime.block_on(self.stop.run_until_cancelled(rested));
        }
        match self.stop.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_rests_is_woken_by_the_end_of_the_pass() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (throttle, stop) = (Throttle::new(1), CancellationToken::new());
        let mut pacer = Pacer {
            runtime: &runtime,
            throttle: &throttle,
            stop: &stop,
            progress: Arc::default(),
            moved: 0,
        };
        assert_eq!(pacer.moved(0), ControlFlow::Continue(()));
        let ender = stop.clone();
        let other = std::thread::spawn(move || ender.cancel());
        // A million years.
        assert_eq!(pacer.moved(u64::MAX >> 20), ControlFlow::Break(()));
        other.join().unwrap();
        assert_eq!(pacer.moved, u64::MAX >> 20);
    }
}

//! How fast the cleaner's threads may go, and when they have to stop.

use super::table::Progress;
use crate::node_settings::NodeSettings;
use crate::partition::Courteous;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use troupe_controller::priority::IdleTime;
use troupe_log::Pace;
use troupe_machines::cleaning::Rate;

/// `log.cleaner.io.max.bytes.per.second`, of all threads together, as it is set now.
pub struct Throttle {
    begin: Instant,
    settings: Arc<NodeSettings>,
    /// And what it was made for.
    rate: Mutex<(u64, Rate)>,
}

impl Throttle {
    pub fn new(settings: Arc<NodeSettings>) -> Self {
        let bytes_per_second = settings.now().cleaner_io_bytes.0;
        let rate = Mutex::new((bytes_per_second, Rate::new(bytes_per_second)));
        Self { begin: Instant::now(), settings, rate }
    }

    fn take(&self, bytes: u64) -> Duration {
        let now = self.settings.now().cleaner_io_bytes.0;
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.0 != now {
            *rate = (now, Rate::new(now));
        }
        rate.1.take(self.begin.elapsed(), bytes)
    }

    /// Returns when it is another.
    async fn changed(&self, from: u64) {
        let mut changes = self.settings.watch();
        // Fails only if the node is gone, and then the pass is stopped.
        let _ = changes.wait_for(|config| config.cleaner_io_bytes.0 != from).await;
    }
}

/// The pace of one pass.
pub struct Pacer<'a> {
    pub runtime: &'a Runtime,
    pub throttle: &'a Throttle,
    /// It leaves the disk to those who flush, and the processor to all.
    pub courteous: Option<Courteous<'a>>,
    pub idle: IdleTime,
    /// When the step that is under way began.
    pub step: Instant,
    /// Cancelled when the pass is of no use any more.
    pub stop: &'a CancellationToken,
    pub progress: Arc<Progress>,
    /// Bytes read and written so far.
    pub moved: u64,
}

impl Pace for Pacer<'_> {
    fn moved(&mut self, bytes: u64) -> ControlFlow<()> {
        let step = self.step.elapsed();
        self.moved += bytes;
        self.progress.add(bytes);
        let courtesy = self.courteous.as_ref().map_or(Duration::ZERO, |it| it.take(bytes));
        let rest = self.throttle.take(bytes).max(courtesy);
        if !rest.is_zero() {
            let rate = self.throttle.settings.now().cleaner_io_bytes.0;
            // A timer is made where it is waited for.
            let rested = async {
                tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    () = self.throttle.changed(rate) => {}
                }
            };
            self.runtime.block_on(self.stop.run_until_cancelled(rested));
        }
        if self.courteous.is_some() {
            self.idle.enter(step);
        }
        self.step = Instant::now();
        match self.stop.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn will_write(&mut self) {
        self.idle.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_rests_is_woken_by_the_end_of_the_pass() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let settings = NodeSettings::new(crate::NodeConfig {
            cleaner_io_bytes: crate::config::Bytes(1),
            ..Default::default()
        });
        let (throttle, stop) = (Throttle::new(settings), CancellationToken::new());
        let mut pacer = Pacer {
            runtime: &runtime,
            throttle: &throttle,
            courteous: None,
            idle: IdleTime::default(),
            step: Instant::now(),
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

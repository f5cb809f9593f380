//! The cleaner's threads: each looks for the log that is next, has it cleaned, and looks again; where there is nothing to
//! clean it rests.

use super::pacer::Throttle;
use super::table::CleaningTable;
use super::work::{Soon, Task, Work};
use crate::NodeConfig;
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use troupe_controller::priority;
use troupe_log::OffsetMap;
use troupe_machines::cleaning::{Ended, Haste, Schedule};

/// A segment that was closed a moment ago is on disk by then, and can be cleaned. More often nobody looks.
const AFTER_ROLL: Duration = Duration::from_millis(500);

/// The cleaner of a node.
#[derive(Default)]
pub struct Cleaner {
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

/// One thread.
pub struct Worker {
    pub work: Arc<Work>,
    pub runtime: Runtime,
    pub map: OffsetMap,
}

impl Cleaner {
    /// Starts the threads, unless they are switched off. What they do stands in `table`.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(
        config: &NodeConfig,
        metadata: &Arc<MetadataCache>,
        metrics: &Arc<NodeMetrics>,
        table: &Arc<CleaningTable>,
        woken: Arc<Notify>,
    ) -> io::Result<Cleaner> {
        let stop = CancellationToken::new();
        if !config.cleaner_enable || !config.is_broker() {
            return Ok(Cleaner::default());
        }
        let work = Arc::new(Work {
            metadata: Arc::clone(metadata),
            table: Arc::clone(table),
            metrics: Arc::clone(metrics),
            throttle: Throttle::new(config.cleaner_io_bytes.0),
            schedule: Mutex::new(Schedule::new(config.cleaner_backoff.0)),
            stop: stop.clone(),
            backoff: config.cleaner_backoff.duration(),
            woken,
        });
        let buffer = config.cleaner_dedupe_buffer.0 / (config.cleaner_threads as u64);
        let threads = (0..config.cleaner_threads).map(|index| {
            let worker = Worker {
                work: Arc::clone(&work),
                runtime: Builder::new_current_thread().enable_time().build()?,
                map: OffsetMap::new(usize::try_from(buffer).unwrap_or(usize::MAX)),
            };
            thread::Builder::new().name(format!("cleaner-{index}")).spawn(|| worker.run())
        });
        Ok(Cleaner { threads: threads.collect::<io::Result<_>>()?, stop })
    }

    /// No log is cleaned any more: what is under way is void.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns when nobody works in any partition's directory any more.
    pub fn join(self) {
        self.stop();
        for thread in self.threads {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}

/// What is said of logs that no thread has looked at.
pub fn not_looked_at(config: &NodeConfig) -> String {
    match config.cleaner_enable {
        true => "it was not looked at yet".to_owned(),
        false => "log.cleaner.enable is false on this node".to_owned(),
    }
}

impl Worker {
    fn run(mut self) {
        while !self.work.stop.is_cancelled() {
            match self.runtime.block_on(self.work.choose()) {
                Ok(task) => {
                    let ended = self.clean_on_its_own_thread(&task);
                    self.runtime.block_on(self.work.ended(task.handle.key(), ended));
                }
                Err(Soon(soon)) => self.rest(soon),
            }
        }
    }

    /// Who may not raise a thread cannot take back that it was lowered: so each pass has one.
    fn clean_on_its_own_thread(&mut self, task: &Task) -> Ended {
        let name = thread::current().name().unwrap_or("cleaner").to_owned();
        let ended = thread::scope(|scope| {
            let pass = || {
                match task.haste {
                    Haste::AfterAll => priority::after_all(),
                    Haste::WithOthers => priority::after_decisions(),
                }
                self.clean(&task.handle, &task.standing)
            };
            let started = thread::Builder::new().name(name).spawn_scoped(scope, pass);
            started.ok()?.join().ok()
        });
        ended.unwrap_or_else(|| {
            let why = "it had no thread, or that died: see the node's log";
            self.work.table.void(task.handle.key(), why.to_owned());
            Ended::Void
        })
    }

    /// Until the next look is due, or a log has grown so much that it should not wait.
    fn rest(&self, soon: bool) {
        let Work { backoff, woken, stop, .. } = &*self.work;
        let least = AFTER_ROLL.min(*backoff);
        let rested = async {
            sleep(least).await;
            if !soon {
                let _woken = timeout(*backoff - least, woken.notified()).await;
            }
        };
        self.runtime.block_on(stop.run_until_cancelled(rested));
    }
}

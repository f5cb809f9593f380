//! The cleaner's threads: each looks for the log that is next, has it cleaned, and looks again; where there is nothing to
//! clean it rests.

use super::pacer::Throttle;
use super::table::CleaningTable;
use super::work::{Soon, Task, Work};
use crate::NodeConfig;
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::node_settings::NodeSettings;
use crate::partition::Beside;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};
use tokio::runtime::{Builder, Runtime};
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
    threads: Arc<Mutex<Threads>>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Threads {
    running: Vec<JoinHandle<()>>,
    /// The numbers of those that go on. Who ends because fewer are set takes his own away.
    numbers: BTreeSet<usize>,
}

/// One thread.
pub struct Worker {
    number: usize,
    threads: Arc<Mutex<Threads>>,
    pub work: Arc<Work>,
    pub runtime: Runtime,
    pub map: OffsetMap,
    /// The memory that the map was made for.
    map_bytes: u64,
}

impl Cleaner {
    /// Starts the threads, unless they are switched off. What they do stands in `table`. As many run as are set, also
    /// when that changes.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(
        settings: &Arc<NodeSettings>,
        metadata: &Arc<MetadataCache>,
        metrics: &Arc<NodeMetrics>,
        table: &Arc<CleaningTable>,
        beside: Arc<Beside>,
    ) -> io::Result<Cleaner> {
        let (stop, config) = (CancellationToken::new(), settings.now());
        if !config.cleaner_enable || !config.is_broker() {
            return Ok(Cleaner::default());
        }
        let work = Arc::new(Work {
            metadata: Arc::clone(metadata),
            table: Arc::clone(table),
            metrics: Arc::clone(metrics),
            throttle: Throttle::new(Arc::clone(settings)),
            schedule: tokio::sync::Mutex::new(Schedule::new(config.cleaner_backoff.0)),
            stop: stop.clone(),
            settings: Arc::clone(settings),
            beside,
        });
        let threads = Arc::<Mutex<Threads>>::default();
        start(&threads, &work)?;
        tokio::spawn(keep_as_many(Arc::clone(&threads), work));
        Ok(Cleaner { threads, stop })
    }

    /// No log is cleaned any more: what is under way is void.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns when nobody works in any partition's directory any more.
    pub fn join(self) {
        self.stop();
        let running = std::mem::take(&mut lock(&self.threads).running);
        for thread in running {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}

fn lock(threads: &Mutex<Threads>) -> MutexGuard<'_, Threads> {
    threads.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until the cleaner is stopped.
async fn keep_as_many(threads: Arc<Mutex<Threads>>, work: Arc<Work>) {
    let mut changes = work.settings.watch();
    loop {
        changes.mark_unchanged();
        if let Err(error) = start(&threads, &work) {
            tracing::error!(%error, "the system has no thread for the cleaner: it goes on with fewer");
        }
        let changed = work.stop.run_until_cancelled(changes.changed()).await;
        if !matches!(changed, Some(Ok(()))) {
            return;
        }
    }
}

/// Those that are missing; who is one too many sees it himself.
fn start(threads: &Arc<Mutex<Threads>>, work: &Arc<Work>) -> io::Result<()> {
    let mut all = lock(threads);
    all.running.retain(|thread| !thread.is_finished());
    for number in 0..work.settings.now().cleaner_threads {
        // After the stop nobody waits for it.
        if all.numbers.contains(&number) || work.stop.is_cancelled() {
            continue;
        }
        let map_bytes = Worker::map_bytes(work);
        let worker = Worker {
            number,
            threads: Arc::clone(threads),
            work: Arc::clone(work),
            runtime: Builder::new_current_thread().enable_time().build()?,
            map: Worker::map(map_bytes),
            map_bytes,
        };
        let name = format!("cleaner-{number}");
        all.running.push(thread::Builder::new().name(name).spawn(|| worker.run())?);
        all.numbers.insert(number);
    }
    Ok(())
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
        while !self.work.stop.is_cancelled() && !self.is_one_too_many() {
            self.resize();
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
                self.clean(task)
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

    /// Then it ends, and is started anew when more are set.
    fn is_one_too_many(&self) -> bool {
        // Held while it is decided: whoever sets more afterwards finds that it has ended.
        let mut all = lock(&self.threads);
        let ends = self.number >= self.work.settings.now().cleaner_threads;
        if ends {
            all.numbers.remove(&self.number);
        }
        ends
    }

    /// Its share of the memory, as it is set now.
    fn map_bytes(work: &Work) -> u64 {
        let config = work.settings.now();
        config.cleaner_dedupe_buffer.0 / (config.cleaner_threads.max(1) as u64)
    }

    fn map(bytes: u64) -> OffsetMap {
        OffsetMap::new(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Between two passes.
    fn resize(&mut self) {
        let bytes = Self::map_bytes(&self.work);
        if bytes != self.map_bytes {
            (self.map, self.map_bytes) = (Self::map(bytes), bytes);
        }
    }

    /// Until the next look is due, a log has grown so much that it should not wait, or something else is set.
    fn rest(&self, soon: bool) {
        let Work { settings, beside, stop, .. } = &*self.work;
        let mut changes = settings.watch();
        let backoff = changes.borrow_and_update().cleaner_backoff.duration();
        let least = AFTER_ROLL.min(backoff);
        let rested = async {
            sleep(least).await;
            if !soon {
                tokio::select! {
                    _woken = timeout(backoff - least, beside.grown.notified()) => {}
                    // Fails only if the node is gone, and then it is stopped.
                    _ = changes.changed() => {}
                }
            }
        };
        self.runtime.block_on(stop.run_until_cancelled(rested));
    }
}

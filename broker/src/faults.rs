//! What somebody wants to be wrong with this node, for a while: its connections to others, its disks, its clock, or that
//! it stands still.
//!
//! ```text
//! Chaos ─► NodeFaults ─┬─► NetworkFaults   ◄─ asked by each connection to another node
//!   ids, times, ends   ├─► InjectedFault   ◄─ asked by each write and flush in a directory
//!                      ├─► PauseGate       ◄─ asked by each thread
//!                      └─► ClockOffset     ◄─ asked for the time of day
//! ```
//!
//! Owns what lasts: dropping it is its end. Promises: each ends by itself when its time is over, whatever becomes of who
//! asked for it; all end when the node does.
//! Never here: whether it may be asked for (`chaos.enable`), or an actor's own faults.

mod door;
mod fault;

pub use door::{Door, DoorParts, Serve};
pub use fault::{LastingFault, NodeFault};

use crate::NodeConfig;
use crate::clock::{ClockFault, ClockOffset};
use crate::network::{Ailment, Network, NetworkFault, NetworkFaults};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use troupe_actor::PauseGate;
use troupe_log::disk::{DiskFault, InjectedFault};
use troupe_proto::error::{Error, ErrorCode};

/// Before the threads stand still: one of them has to tell whoever asked for it that they will.
const LAST_WORDS: Duration = Duration::from_millis(100);

pub struct NodeFaults {
    enabled: bool,
    network: Arc<NetworkFaults>,
    pub pause: Arc<PauseGate>,
    pub clock: Arc<ClockOffset>,
    directories: Vec<PathBuf>,
    lasting: Mutex<BTreeMap<String, Lasting>>,
    /// Who is there for what may be asked while the threads stand still.
    door: Mutex<Option<Arc<Door>>>,
    numbers: AtomicU32,
}

struct Lasting {
    fault: NodeFault,
    until: Instant,
    effect: Effect,
    /// Its end is what ends the thread that waits for the fault's time.
    _waits: Sender<()>,
}

/// What is wrong as long as this is there.
enum Effect {
    Network(NetworkFault),
    Disk(Vec<InjectedFault>),
    Clock { _fault: ClockFault },
    Pause { paused: Paused, _disks: Vec<InjectedFault> },
}

/// Threads that stand still, or are about to.
struct Paused {
    gate: Arc<PauseGate>,
    over: CancellationToken,
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.over.cancel();
        self.gate.open();
    }
}

impl NodeFaults {
    pub fn new(config: &NodeConfig, pause: Arc<PauseGate>) -> Arc<NodeFaults> {
        let mut directories = config.log_directories();
        let metadata = config.metadata_directory();
        if !directories.contains(&metadata) {
            directories.push(metadata);
        }
        Arc::new(NodeFaults {
            enabled: config.chaos_enable,
            network: Arc::default(),
            pause,
            clock: Arc::default(),
            directories,
            lasting: Mutex::default(),
            door: Mutex::default(),
            numbers: AtomicU32::new(0),
        })
    }

    /// `chaos.enable`
    pub fn are_enabled(&self) -> bool {
        self.enabled
    }

    /// How the node connects to others.
    pub fn network(&self) -> Network {
        if self.enabled { Network::with_faults(&self.network) } else { Network::default() }
    }

    /// This thread is one of the node's: it is paused with it, and its clock is the node's.
    pub fn take_part(&self) -> impl Future<Output = ()> + Send + use<> {
        let (enabled, clock, pause) =
            (self.enabled, Arc::clone(&self.clock), Arc::clone(&self.pause));
        async move {
            if enabled {
                clock.take_over();
                pause.take_part().await;
            }
        }
    }

    /// The node stops: nothing is wrong with it any more, and nothing will be.
    pub fn end(&self) {
        if let Some(door) = lock(&self.door).take() {
            door.close();
        }
        self.stop("");
    }

    /// Answers while the threads stand still.
    pub fn set_door(&self, door: Door) {
        *lock(&self.door) = Some(Arc::new(door));
    }

    /// Returns its id, which is `id` unless that is empty.
    ///
    /// # Errors
    /// `INVALID_REQUEST`: another has the id, there is no such directory, or it can suffer nothing.
    pub fn start(
        self: &Arc<Self>,
        id: &str,
        fault: NodeFault,
        duration: Duration,
    ) -> Result<String, Error> {
        let id = match id {
            "" => format!("{}-{}", fault.name(), self.numbers.fetch_add(1, Ordering::Relaxed) + 1),
            id => id.to_owned(),
        };
        let mut lasting = lock(&self.lasting);
        if lasting.contains_key(&id) {
            return Err(invalid(format!(
                "a fault `{id}` lasts already; stop it, or take another id"
            )));
        }
        if matches!(fault, NodeFault::Pause)
            && lasting.values().any(|it| matches!(it.effect, Effect::Pause { .. }))
        {
            return Err(invalid("the node is paused already".to_owned()));
        }
        let (effect, until) = (self.effect(&fault, duration)?, Instant::now() + duration);
        let (waits, ended) = channel::<()>();
        let (faults, own) = (Arc::downgrade(self), id.clone());
        let wait = move || {
            // Whatever it returns: nobody sends anything, so its time is over, or it was ended.
            let _ = ended.recv_timeout(duration);
            end(&faults, &own, until);
        };
        let waiting = thread::Builder::new().name("fault".to_owned()).spawn(wait);
        waiting.map_err(|error| invalid(format!("there is no thread to end it: {error}")))?;
        tracing::warn!(id, fault = %fault, ?duration, "a fault begins, as it was asked for");
        lasting.insert(id.clone(), Lasting { fault, until, effect, _waits: waits });
        Ok(id)
    }

    fn effect(&self, fault: &NodeFault, duration: Duration) -> Result<Effect, Error> {
        let network = |nodes: &_, directions, ailment| {
            Effect::Network(self.network.begin(Clone::clone(nodes), directions, ailment))
        };
        Ok(match fault {
            NodeFault::Cut { nodes, directions } => network(nodes, *directions, Ailment::Cut),
            NodeFault::Slow { nodes, directions, delay, jitter } => {
                let (delay, jitter) = (*delay, *jitter);
                network(nodes, *directions, Ailment::Slow { delay, jitter })
            }
            NodeFault::SlowDisk { delay, log_dir } => {
                Effect::Disk(self.disks(log_dir.as_deref(), DiskFault::Slow(*delay))?)
            }
            NodeFault::FullDisk { log_dir } => {
                Effect::Disk(self.disks(log_dir.as_deref(), DiskFault::Full)?)
            }
            NodeFault::FsyncError { log_dir } => {
                Effect::Disk(self.disks(log_dir.as_deref(), DiskFault::FsyncError)?)
            }
            NodeFault::ClockOffset { offset_ms } => {
                Effect::Clock { _fault: self.clock.shift(*offset_ms) }
            }
            NodeFault::Pause => {
                // Threads that wait for a disk take no part: they are held there.
                let disks = self.disks(None, DiskFault::Hung)?;
                Effect::Pause { paused: self.pause(duration)?, _disks: disks }
            }
        })
    }

    fn disks(&self, log_dir: Option<&Path>, fault: DiskFault) -> Result<Vec<InjectedFault>, Error> {
        let named = self.directories.iter().filter(|dir| log_dir.is_none_or(|it| it == *dir));
        let faults: Vec<_> = named
            .filter_map(|dir| {
                let injected = InjectedFault::new(dir, fault);
                // One that has vanished is ill enough.
                let vanished = log_dir.is_none() && !dir.exists();
                if vanished { None } else { Some(injected.map_err(|error| (dir, error))) }
            })
            .collect();
        if faults.is_empty() {
            let all: Vec<_> =
                self.directories.iter().map(|dir| dir.display().to_string()).collect();
            let named = log_dir.unwrap_or(Path::new("")).display().to_string();
            let message =
                format!("`{named}` is no directory of this node: it has {}", all.join(", "));
            return Err(invalid(message));
        }
        faults.into_iter().collect::<Result<_, _>>().map_err(|(dir, error)| {
            invalid(format!("nothing can be done to {}: {error}", dir.display()))
        })
    }

    fn pause(&self, duration: Duration) -> Result<Paused, Error> {
        let paused = Paused { gate: Arc::clone(&self.pause), over: CancellationToken::new() };
        let (gate, over, door) =
            (Arc::clone(&self.pause), paused.over.clone(), lock(&self.door).clone());
        let begin = move || {
            thread::sleep(LAST_WORDS);
            if !over.is_cancelled() {
                gate.close(duration.saturating_sub(LAST_WORDS));
                if over.is_cancelled() {
                    gate.open();
                }
            }
            if let Some(door) = door {
                door.serve(over);
            }
        };
        let begun = thread::Builder::new().name("pause".to_owned()).spawn(begin);
        begun.map_err(|error| invalid(format!("there is no thread to begin it: {error}")))?;
        Ok(paused)
    }

    /// Ends one, or all if `id` is empty; the ids of those that ended.
    pub fn stop(&self, id: &str) -> Vec<String> {
        let mut lasting = lock(&self.lasting);
        let ended: Vec<_> = match id {
            "" => std::mem::take(&mut *lasting).into_iter().collect(),
            id => lasting.remove_entry(id).into_iter().collect(),
        };
        drop(lasting);
        ended.iter().for_each(|(id, _)| tracing::warn!(id, "a fault is stopped"));
        ended.into_iter().map(|(id, _)| id).collect()
    }

    /// What lasts now, by id.
    pub fn list(&self) -> Vec<LastingFault> {
        let now = Instant::now();
        let listed = |(id, lasting): (&String, &Lasting)| LastingFault {
            id: id.clone(),
            fault: lasting.fault.clone(),
            left: lasting.until.saturating_duration_since(now),
            hits: lasting.effect.hits(),
        };
        lock(&self.lasting).iter().map(listed).collect()
    }

    /// How long the node stands still, if it does.
    pub fn paused_for(&self) -> Option<Duration> {
        let is_pause = |it: &LastingFault| matches!(it.fault, NodeFault::Pause);
        self.list().into_iter().find(is_pause).map(|it| it.left)
    }
}

impl Effect {
    fn hits(&self) -> u64 {
        match self {
            Effect::Network(fault) => fault.hits(),
            Effect::Disk(faults) => faults.iter().map(InjectedFault::hits).sum(),
            Effect::Pause { paused, .. } => paused.gate.standing().0 as u64,
            Effect::Clock { .. } => 0,
        }
    }
}

/// Its time is over; unless another has its id by now.
fn end(faults: &Weak<NodeFaults>, id: &str, until: Instant) {
    let Some(faults) = faults.upgrade() else { return };
    let mut lasting = lock(&faults.lasting);
    let ended = match lasting.get(id) {
        Some(lasts) if lasts.until == until => lasting.remove(id),
        Some(_) | None => None,
    };
    drop(lasting);
    if ended.is_some() {
        tracing::warn!(id, "a fault has ended");
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

/// Nothing that is done under these locks can leave anything half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

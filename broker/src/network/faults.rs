//! What is wrong with the connections to which nodes, as somebody wants it.

use rand::RngExt;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use troupe_proto::ids::NodeId;

/// What happens to what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// It is held until that is over.
    Cut,
    /// It arrives later.
    Slow { delay: Duration, jitter: Duration },
}

/// As seen by this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions {
    /// What it sends.
    pub to: bool,
    /// What it is sent.
    pub from: bool,
}

#[derive(Debug)]
struct Rule {
    /// Empty: all.
    nodes: BTreeSet<NodeId>,
    directions: Directions,
    ailment: Ailment,
    hits: AtomicU64,
}

/// One direction of the connections to a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Direction {
    cut: Option<Arc<Rule>>,
    /// The slowest.
    slow: Option<(Duration, Duration, Arc<Rule>)>,
}

impl Direction {
    /// Whether nothing passes.
    pub fn holds(&self) -> bool {
        self.cut.is_some()
    }

    pub fn note_held(&self) {
        if let Some(rule) = &self.cut {
            rule.hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How much later something arrives; none: at once.
    pub fn delay(&self) -> Option<Duration> {
        let (delay, jitter, rule) = self.slow.as_ref()?;
        rule.hits.fetch_add(1, Ordering::Relaxed);
        Some(*delay + jitter.mul_f64(rand::rng().random::<f64>()))
    }

    pub fn is_slow(&self) -> bool {
        self.slow.is_some()
    }
}

/// What is wrong with a node's connections. Serves all threads.
#[derive(Debug, Default)]
pub struct NetworkFaults {
    /// Counts changes of the rules: who has seen the last knows what holds.
    version: AtomicU64,
    rules: Mutex<Vec<Arc<Rule>>>,
    changed: watch::Sender<()>,
    /// Of connections that wait for a change.
    waiting: Mutex<Vec<Waker>>,
    /// Connections that were given up while nothing of that could be told to the other end.
    given_up: Mutex<Vec<TcpStream>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NetworkFaults {
    /// From now on, for as long as what this returns lives.
    pub fn begin(
        self: &Arc<Self>,
        nodes: BTreeSet<NodeId>,
        directions: Directions,
        ailment: Ailment,
    ) -> NetworkFault {
        let rule = Arc::new(Rule { nodes, directions, ailment, hits: AtomicU64::new(0) });
        lock(&self.rules).push(Arc::clone(&rule));
        self.tell();
        NetworkFault { faults: Arc::clone(self), rule }
    }

    fn tell(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.changed.send_replace(());
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// What holds for a node now: of what goes there, and of what comes from there.
    pub(super) fn of(&self, node: NodeId) -> (Direction, Direction) {
        let (mut to, mut from) = (Direction::default(), Direction::default());
        for rule in lock(&self.rules).iter() {
            if !rule.nodes.is_empty() && !rule.nodes.contains(&node) {
                continue;
            }
            let Directions { to: goes, from: comes } = rule.directions;
            for (direction, is_meant) in [(&mut to, goes), (&mut from, comes)] {
                match rule.ailment {
                    _ if !is_meant => {}
                    Ailment::Cut => direction.cut = Some(Arc::clone(rule)),
                    Ailment::Slow { delay, jitter } => {
                        let known =
                            direction.slow.as_ref().map_or(Duration::ZERO, |it| it.0 + it.1);
                        if delay + jitter >= known {
                            direction.slow = Some((delay, jitter, Arc::clone(rule)));
                        }
                    }
                }
            }
        }
        (to, from)
    }

    /// Wakes it at the next change. False: there was one since `version`.
    pub(super) fn await_change(&self, waker: &Waker, version: u64) -> bool {
        let mut waiting = lock(&self.waiting);
        // Who changes something counts first and looks for wakers then.
        if self.version.load(Ordering::Acquire) != version {
            return false;
        }
        waiting.push(waker.clone());
        true
    }

    /// Returns when a connection to that node can be made, and how long that takes. To make one takes both directions.
    pub(super) async fn greeting(&self, node: NodeId) -> Duration {
        let mut changed = self.changed.subscribe();
        loop {
            let (to, from) = self.of(node);
            if !to.holds() && !from.holds() {
                return to.delay().unwrap_or_default() + from.delay().unwrap_or_default();
            }
            to.note_held();
            from.note_held();
            // The sender is here.
            let _ = changed.changed().await;
        }
    }

    /// The other end learns of its end when something can be told again.
    pub(super) fn give_up(&self, stream: TcpStream) {
        lock(&self.given_up).push(stream);
    }
}

/// Something that is wrong as long as this lives.
#[derive(Debug)]
pub struct NetworkFault {
    faults: Arc<NetworkFaults>,
    rule: Arc<Rule>,
}

impl NetworkFault {
    /// Reads, writes and attempts to connect that it has held or delayed.
    pub fn hits(&self) -> u64 {
        self.rule.hits.load(Ordering::Relaxed)
    }
}

impl Drop for NetworkFault {
    fn drop(&mut self) {
        let mut rules = lock(&self.faults.rules);
        rules.retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        let cuts = rules.iter().any(|rule| rule.ailment == Ailment::Cut);
        drop(rules);
        if !cuts {
            lock(&self.faults.given_up).clear();
        }
        self.faults.tell();
    }
}

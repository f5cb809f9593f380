//! What is told of a coordinator's decisions when they are committed, and how much there is of them.

use super::outbound::{Origin, Outbound};
use super::waiting::Waiting;
use crate::coordinator::{Audience, Surroundings};
use crate::metrics::NodeMetrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use troupe_machines::txn::{Counts, Decision, Marker, Outcome, Transactions};
use troupe_proto::error::Error;

/// What is known of a coordinator's transactions without asking it.
#[derive(Default)]
pub struct Shared {
    lives: AtomicU64,
    ids: AtomicU64,
    open: AtomicU64,
    /// Producer ids that the actor has at hand.
    spare: AtomicUsize,
}

impl Shared {
    /// Transactional ids, and transactions that are open.
    pub fn counts(&self) -> (u64, u64) {
        (self.ids.load(Ordering::Relaxed), self.open.load(Ordering::Relaxed))
    }

    pub fn spare_ids(&self) -> usize {
        self.spare.load(Ordering::Relaxed)
    }

    pub fn set_spare_ids(&self, count: usize) {
        self.spare.store(count, Ordering::Relaxed);
    }
}

/// What was decided.
#[derive(Default)]
pub struct Told {
    /// For partitions.
    pub markers: Vec<Marker>,
    pub committed: u64,
    pub aborted: u64,
    /// Of those aborted.
    pub timed_out: u64,
}

impl Told {
    /// How much was decided.
    pub fn of<T>(decision: &Decision<T>) -> Told {
        let count = |outcome| {
            let decided = decision.changes.iter().filter(|it| it.decides() == Some(outcome));
            decided.count() as u64
        };
        let (committed, aborted) = (count(Outcome::Commit), count(Outcome::Abort));
        Told { markers: Vec::new(), committed, aborted, timed_out: 0 }
    }
}

/// Hands markers to who carries them, and counts.
pub struct Markers {
    origin: Origin,
    outbound: Arc<Outbound>,
    metrics: Arc<NodeMetrics>,
    shared: Arc<Shared>,
    /// What this coordinator adds to the node's counts.
    counted: Counts,
    pub waiting: Waiting,
}

impl Markers {
    /// The life of this actor: another one knows nothing of its tickets.
    pub fn life(&self) -> u64 {
        self.origin.life
    }

    fn set_counts(&mut self, counts: Counts) {
        let metrics = &self.metrics.transactions;
        let more = |now: usize, before: usize| now as f64 - before as f64;
        metrics.ids.increment(more(counts.ids, self.counted.ids));
        metrics.open.increment(more(counts.open, self.counted.open));
        metrics.markers_waiting.increment(more(counts.markers, self.counted.markers));
        self.shared.ids.store(counts.ids as u64, Ordering::Relaxed);
        self.shared.open.store(counts.open as u64, Ordering::Relaxed);
        self.counted = counts;
    }
}

impl Audience<Transactions> for Markers {
    fn new(around: Surroundings<Transactions>) -> Self {
        let Surroundings { partition, leader_epoch, metrics, shared, common: outbound } = around;
        shared.set_spare_ids(0);
        let life = shared.lives.fetch_add(1, Ordering::Relaxed);
        let origin = Origin { partition, leader_epoch, life };
        let (counted, waiting) = (Counts::default(), Waiting::default());
        Self { origin, outbound, metrics, shared, counted, waiting }
    }

    fn tell(&mut self, told: Told) {
        let metrics = &self.metrics.transactions;
        metrics.committed.increment(told.committed);
        metrics.aborted.increment(told.aborted);
        metrics.timed_out.increment(told.timed_out);
        if !told.markers.is_empty() {
            self.outbound.push(self.origin, told.markers);
        }
    }

    /// Whoever coordinates next tells partitions again.
    fn dismiss(&mut self, error: &Error) {
        for (add, _) in self.waiting.take_all() {
            // Whoever asked may be gone.
            let _ = add.reply.send(Err(error.clone()));
        }
    }

    fn count(&mut self, transactions: &Transactions) {
        self.set_counts(transactions.counts());
    }
}

impl Drop for Markers {
    fn drop(&mut self) {
        self.set_counts(Counts::default());
    }
}

//! `--commit before`: what is about to be printed is committed first.
//!
//! A commit is a write on every in-sync replica, so batches that come soon after the last one wait for each other, and
//! are committed together. Where little comes, nothing waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use troupe_client::{FetchedBatch, OffsetAndMetadata, TopicPartition};

/// Between two commits, unless more than [`MOST_BYTES`] waits.
const INTERVAL: Duration = Duration::from_millis(200);
const MOST_BYTES: usize = 8 << 20;

/// What was read, and is neither committed nor printed.
#[derive(Default)]
pub(super) struct Uncommitted {
    batches: Vec<FetchedBatch>,
    bytes: usize,
    records: u64,
    committed_at: Option<Instant>,
}

impl Uncommitted {
    pub fn records(&self) -> u64 {
        self.records
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn push(&mut self, batch: FetchedBatch) {
        self.bytes += batch.encoded_len();
        self.records += u64::from(batch.header.record_count);
        self.batches.push(batch);
    }

    /// How long it may still wait.
    pub fn wait(&self, now: Instant) -> Duration {
        if self.bytes >= MOST_BYTES {
            return Duration::ZERO;
        }
        self.committed_at
            .map_or(Duration::ZERO, |at| (at + INTERVAL).saturating_duration_since(now))
    }

    /// Takes what waits, and what is to be committed for it.
    pub fn take(
        &mut self,
        now: Instant,
    ) -> (Vec<FetchedBatch>, BTreeMap<TopicPartition, OffsetAndMetadata>) {
        self.committed_at = Some(now);
        (self.bytes, self.records) = (0, 0);
        let batches = std::mem::take(&mut self.batches);
        let position = |batch: &FetchedBatch| {
            let position = OffsetAndMetadata {
                leader_epoch: Some(batch.header.leader_epoch),
                ..OffsetAndMetadata::new(batch.header.end_offset())
            };
            (batch.topic_partition(), position)
        };
        let positions = batches.iter().map(position).collect();
        (batches, positions)
    }

    /// These are somebody else's now, who reads them.
    pub fn revoke(&mut self, partitions: &[TopicPartition]) {
        self.batches.retain(|batch| !partitions.contains(&batch.topic_partition()));
        self.bytes = self.batches.iter().map(FetchedBatch::encoded_len).sum();
        self.records = self.batches.iter().map(|it| u64::from(it.header.record_count)).sum();
    }
}

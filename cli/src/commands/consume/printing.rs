//! What is printed of a group's records: how far it surely is written, and what is done when partitions are given up.

use super::assignment::names;
use super::membership::Commit;
use super::sink::Sink;
use super::uncommitted::Uncommitted;
use crate::failure::Failure;
use crate::streams::notice;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use troupe_client::{
    FetchedBatch, OffsetAndMetadata, Rebalance, RebalanceListener, TopicPartition,
};
use troupe_proto::ids::{LeaderEpoch, Offset};

type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// What is printed. Shared with the listener, which commits before partitions are given up.
pub(super) struct Printing {
    pub sink: Sink,
    pub commit: Commit,
    /// Something was printed since the last commit, or that one failed.
    pub is_due: bool,
    /// What was printed and is not surely written, in order.
    unflushed: Vec<Unflushed>,
    /// Behind what surely is written, of partitions that were not given up since.
    pub written: Offsets,
    /// Partitions were given up or lost since somebody asked.
    given_up: bool,
    /// With [`Commit::Before`]: what waits to be committed, and printed then.
    pub uncommitted: Uncommitted,
}

/// Records of a batch that are printed: where each ends in the output, and what comes behind it.
struct Unflushed {
    at: TopicPartition,
    leader_epoch: LeaderEpoch,
    ends: Vec<(u64, Offset)>,
}

impl Printing {
    pub fn new(sink: Sink, commit: Commit) -> Printing {
        Printing {
            sink,
            commit,
            is_due: false,
            unflushed: Vec::new(),
            written: Offsets::new(),
            given_up: false,
            uncommitted: Uncommitted::default(),
        }
    }

    /// # Errors
    /// Not all is written, now or since an earlier call.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.sink.flush();
        self.settle();
        flushed
    }

    /// The next records are of this batch.
    pub fn begin(&mut self, batch: &FetchedBatch) {
        let (at, leader_epoch) = (batch.topic_partition(), batch.header.leader_epoch);
        self.unflushed.push(Unflushed { at, leader_epoch, ends: Vec::new() });
        self.is_due = true;
    }

    /// Everything before `next` is printed.
    pub fn printed(&mut self, next: Offset) {
        let end = self.sink.printed();
        if let Some(unflushed) = self.unflushed.last_mut() {
            unflushed.ends.push((end, next));
        }
    }

    /// Keeps how far what was printed is written.
    pub fn settle(&mut self) {
        let sure = self.sink.written();
        for unflushed in &mut self.unflushed {
            let whole = unflushed.ends.partition_point(|(end, _)| *end <= sure);
            if let Some((_, next)) = unflushed.ends[..whole].last() {
                let leader_epoch = Some(unflushed.leader_epoch);
                let position = OffsetAndMetadata { leader_epoch, ..OffsetAndMetadata::new(*next) };
                self.written.insert(unflushed.at.clone(), position);
            }
            unflushed.ends.clear();
        }
        // The last one may go on.
        self.unflushed.drain(..self.unflushed.len().saturating_sub(1));
    }

    /// Whether partitions were given up or lost since the last time.
    pub fn take_given_up(&mut self) -> bool {
        std::mem::take(&mut self.given_up)
    }

    pub fn revoke(&mut self, partitions: &[TopicPartition]) {
        self.given_up = true;
        self.unflushed.retain(|unflushed| !partitions.contains(&unflushed.at));
        self.written.retain(|at, _| !partitions.contains(at));
        self.uncommitted.revoke(partitions);
    }
}

#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Printing>>);

impl Shared {
    pub fn new(printing: Printing) -> Shared {
        Shared(Arc::new(Mutex::new(printing)))
    }

    /// Who panicked while printing has told it, and ends the process.
    pub fn lock(&self) -> MutexGuard<'_, Printing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RebalanceListener for Shared {
    fn on_partitions_revoked<'a>(
        &'a mut self,
        mut consumer: Rebalance<'a>,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (commit, failed, written) = {
                let mut printing = self.lock();
                // If it cannot be written out, that is told when the next record is printed.
                let failed = printing.flush().is_err();
                let written = printing.written.clone();
                printing.revoke(partitions);
                (printing.commit, failed, written)
            };
            if commit != Commit::After {
                return;
            }
            // Behind every commit that is under way, whatever becomes of those.
            let committed = match failed {
                true => consumer.commit_sync_offsets(written).await,
                false => consumer.commit_sync().await,
            };
            if let Err(error) = committed {
                notice!("note: not committed before partitions were given up: {error}");
            }
        })
    }

    fn on_partitions_lost<'a>(&'a mut self, partitions: &'a [TopicPartition]) -> BoxFuture<'a, ()> {
        self.lock().revoke(partitions);
        notice!("note: lost {}: what was printed last may be printed again", names(partitions));
        Box::pin(std::future::ready(()))
    }
}

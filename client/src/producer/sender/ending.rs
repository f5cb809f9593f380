//! What is given up: with a transaction that has failed, and when the producer ends.

use super::{Sender, Stop};
use crate::producer::accumulator::PartitionQueue;
use crate::producer::config::Acks;
use crate::producer::queue::Queue;
use futures::stream::StreamExt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// For what is on its way with acks none when the producer ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Sender {
    /// Nothing more of a transaction that has failed is sent.
    pub(super) fn give_up_failed(&self, queue: &PartitionQueue) {
        let transactions = self.accumulator.transactions.as_ref();
        if let Some((error, behind)) = transactions.and_then(|transactions| transactions.doom()) {
            let settled = queue.with(|queue| queue.fail_waiting(&error, behind));
            self.accumulator.finish(settled);
        }
    }

    pub(super) async fn end(mut self) {
        self.give_up();
        // Half-closed: a node answers what it has and ends the stream.
        self.streams.clear();
        let acks_none = self.accumulator.config.acks == Acks::None;
        if acks_none && *self.stop.borrow() != Stop::No {
            let _ =
                timeout(LAST_WORDS, async { while self.events.next().await.is_some() {} }).await;
        }
    }

    /// Nothing stays unanswered, and nothing more is taken.
    fn give_up(&mut self) {
        self.accumulator.closed.store(true, Ordering::Release);
        self.accumulator.memory.close();
        for queue in self.accumulator.queues() {
            let settled = queue.with(Queue::abort);
            self.accumulator.finish(settled);
        }
    }
}

impl Drop for Sender {
    /// A runtime that is shut down drops its tasks: who waits elsewhere is told.
    fn drop(&mut self) {
        self.give_up();
    }
}

//! The records of one stream on their way: each partition has its sender.
//!
//! Promise: when it is dropped, nothing more of what was submitted is sent.

use super::batching::BatchedRecords;
use super::submitted::{Submitted, under_way};
use crate::forward::{Caller, Entry, Leaders, PartitionSender, Target};
use crate::operations::produce::DEFAULT_REQUEST_TIMEOUT;
use crate::registry::TopicEntry;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;
use troupe_actor::Budget;
use troupe_machines::replica::Acks;
use troupe_proto::error::{Error, ErrorCode};

/// Bytes of one stream's batches that may be unanswered.
const STREAM_BYTES: usize = 32 << 20;
/// Batches that may wait for a sender to take them.
const SENDER_QUEUE: usize = 16;

pub struct Publisher {
    leaders: Arc<Leaders>,
    topic: Arc<TopicEntry>,
    acks: Acks,
    senders: HashMap<i32, mpsc::Sender<Entry>>,
    budget: Budget,
    caller: Caller,
}

impl Publisher {
    pub fn new(leaders: Arc<Leaders>, topic: Arc<TopicEntry>, acks: Acks, caller: Caller) -> Self {
        let budget = Budget::new(STREAM_BYTES);
        Self { leaders, topic, acks, senders: HashMap::new(), budget, caller }
    }

    /// The topic as it is now: it may have got partitions or another configuration. One made anew is another topic.
    pub fn topic(&mut self) -> Arc<TopicEntry> {
        if let Ok(now) = self.leaders.metadata.registry.topic(&self.topic.name)
            && now.id == self.topic.id
        {
            self.topic = now;
        }
        Arc::clone(&self.topic)
    }

    /// Nothing more is sent.
    pub fn halt(&self, cause: &Error) {
        self.caller.halt(cause);
    }

    /// Hands batches over; waits while too much of the stream is unanswered.
    pub async fn submit(&mut self, count: usize, batches: Vec<BatchedRecords>) -> Submitted {
        let mut submitted = Submitted { count, pending: Vec::new() };
        for batched in batches {
            let budget = self.budget.take(batched.batch.len()).await;
            let sender = self.sender(&batched.target);
            let deadline = Instant::now() + DEFAULT_REQUEST_TIMEOUT;
            let (entry, pending) = under_way(batched, deadline.into(), budget);
            // A sender ends only with the node; then nobody answers, and that is the answer.
            let _ = sender.send(entry).await;
            submitted.pending.push(pending);
        }
        submitted
    }

    fn sender(&mut self, target: &Target) -> mpsc::Sender<Entry> {
        let sender = self.senders.entry(target.number()).or_insert_with(|| {
            let (entries, taken) = mpsc::channel(SENDER_QUEUE);
            let (leaders, caller) = (Arc::clone(&self.leaders), self.caller.clone());
            let sender = PartitionSender::new(leaders, target.clone(), self.acks, caller);
            tokio::spawn(sender.serve(taken));
            entries
        });
        sender.clone()
    }
}

/// Nobody hears any more what becomes of it, and its client may send it again elsewhere.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.halt(&Error::new(ErrorCode::OutcomeUnknown, "the stream has ended"));
    }
}

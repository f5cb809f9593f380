//! Records of thin clients on their way to their partitions' leaders, and the answers back.
//!
//! Promises: records of one partition keep their order; after a failure nothing more is sent to any partition; what
//! is told of the whole is so of every part of it.

mod cut;
mod settled;
mod stream;

pub(super) use stream::{REQUESTS_TOGETHER, publish_stream};

use crate::context::Context;
use crate::forward::{Allotted, Caller, Entry, PartitionSender, Target};
use crate::partition::Appended;
use crate::registry::TopicEntry;
use crate::shutdown::shutting_down;
use cut::{Cut, Cutter};
use futures::future::{join, join_all};
use settled::Settled;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use troupe_actor::Budget;
use troupe_machines::admission::FlowId;
use troupe_proto::error::{Error, ErrorCode, Publication};
use troupe_proto::v1 as pb;

/// Bytes of one stream's batches that may be unanswered.
const STREAM_BYTES: usize = 32 << 20;
/// Batches that may wait for a sender to take them.
const SENDER_QUEUE: usize = 16;

/// A batch under way.
struct Pending {
    partition: i32,
    records: Vec<(usize, i64)>,
    answer: oneshot::Receiver<Result<Appended, Error>>,
}

/// Records that were submitted together.
struct Submitted {
    count: usize,
    pending: Vec<Pending>,
}

/// A cut as a sender takes it, and as it is waited for.
fn under_way(cut: Cut, time: Allotted, budget: Option<OwnedSemaphorePermit>) -> (Entry, Pending) {
    let (answer, answered) = oneshot::channel();
    let partition = cut.target.number();
    let pending = Pending { partition, records: cut.records, answer: answered };
    (Entry { batch: cut.batch, time, answer, budget }, pending)
}

/// When a call has to be answered, whom to tell when it may be done, and on which connection it came.
pub(super) struct Call {
    pub time: Allotted,
    pub handed_over: CancellationToken,
    pub flow: FlowId,
}

/// Publishes the records of one request.
pub(super) async fn publish(
    context: &Arc<Context>,
    topic: &TopicEntry,
    acks: pb::Acks,
    records: &[pb::Record],
    call: Call,
) -> Result<Vec<pb::RecordResult>, Error> {
    if context.shutdown.is_cancelled() {
        return Err(shutting_down());
    }
    let mut cutter = Cutter::new(topic);
    cutter.add(records)?;
    let mut senders: BTreeMap<i32, PartitionSender> = BTreeMap::new();
    let caller = Caller::new(call.flow, call.handed_over);
    let mut submitted = Submitted { count: cutter.count(), pending: Vec::new() };
    for cut in cutter.finish()? {
        let target = &cut.target;
        let sender = senders.entry(target.number()).or_insert_with(|| {
            PartitionSender::new(Arc::clone(&context.leaders), target.clone(), acks, caller.clone())
        });
        let (entry, pending) = under_way(cut, call.time, None);
        sender.push(entry);
        submitted.pending.push(pending);
    }
    let delivered = join_all(senders.into_values().map(PartitionSender::run));
    join(delivered, answered(submitted)).await.1.into_answer()
}

/// Publishes the records of one stream: each partition has its sender.
struct Publisher {
    context: Arc<Context>,
    topic: Arc<TopicEntry>,
    acks: pb::Acks,
    senders: HashMap<i32, mpsc::Sender<Entry>>,
    budget: Budget,
    caller: Caller,
}

impl Publisher {
    fn new(context: Arc<Context>, topic: Arc<TopicEntry>, acks: pb::Acks, caller: Caller) -> Self {
        let budget = Budget::new(STREAM_BYTES);
        Self { context, topic, acks, senders: HashMap::new(), budget, caller }
    }

    /// The topic may have got partitions or another configuration. One made anew is another topic.
    fn refresh(&mut self) {
        if let Ok(now) = self.context.metadata.registry.topic(&self.topic.name)
            && now.id == self.topic.id
        {
            self.topic = now;
        }
    }

    /// Hands batches over; waits while too much of the stream is unanswered.
    async fn submit(&mut self, count: usize, cuts: Vec<Cut>) -> Submitted {
        let mut submitted = Submitted { count, pending: Vec::new() };
        for cut in cuts {
            let budget = self.budget.take(cut.batch.len()).await;
            let sender = self.sender(&cut.target);
            let deadline = Instant::now() + self.context.request_timeout();
            let (entry, pending) = under_way(cut, deadline.into(), budget);
            // A sender ends only with the node; then nobody answers, and that is the answer.
            let _ = sender.send(entry).await;
            submitted.pending.push(pending);
        }
        submitted
    }

    fn sender(&mut self, target: &Target) -> mpsc::Sender<Entry> {
        let sender = self.senders.entry(target.number()).or_insert_with(|| {
            let (entries, taken) = mpsc::channel(SENDER_QUEUE);
            let (leaders, caller) = (Arc::clone(&self.context.leaders), self.caller.clone());
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
        self.caller.halt(&Error::new(ErrorCode::OutcomeUnknown, "the stream has ended"));
    }
}

/// Waits for every batch.
async fn answered(submitted: Submitted) -> Settled {
    let mut settled = Settled::new(submitted.count);
    for mut pending in submitted.pending {
        let answer = (&mut pending.answer).await.unwrap_or_else(|_| {
            let message = "the node is stopping: the records may be appended, or not";
            Err(Error::new(ErrorCode::OutcomeUnknown, message))
        });
        settled.take(pending, answer);
    }
    settled
}

/// What is refused before anything of it was sent.
pub(super) fn refusal(error: Error) -> Error {
    match error.publication {
        Some(_) => error,
        None => error.of_publication(Publication::default()),
    }
}

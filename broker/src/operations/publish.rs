//! Records of clients that make no batches, on their way to their partitions' leaders, and the answers back.
//!
//! Promises: records of one partition keep their order; after a failure nothing more is sent to any partition; what
//! is told of the whole is so of every part of it.

mod batching;
mod publisher;
mod record;
mod settled;
mod stream;
mod submitted;

pub(super) use batching::{BatchedRecords, Batcher};
pub use record::{Record, RecordResult};
pub(super) use settled::{Remains, with_indexes};
pub use stream::{PublishStreamRequest, PublishStreamResponse, REQUESTS_TOGETHER};
pub(super) use submitted::{Submitted, answered, under_way};

use super::interruption::Interruption;
use super::topic_lookup::TopicLookup;
use crate::forward::{Allotted, Caller, Leaders, PartitionSender};
use crate::registry::TopicEntry;
use crate::shutdown::shutting_down;
use futures::Stream;
use futures::future::{join, join_all};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use troupe_machines::admission::FlowId;
use troupe_machines::replica::Acks;
use troupe_proto::error::{Error, ErrorCode, Publication};

pub struct Publish {
    leaders: Arc<Leaders>,
    topic_lookup: Arc<TopicLookup>,
}

pub struct PublishRequest<R> {
    pub topic: String,
    pub records: Vec<R>,
    /// Or why they cannot be told.
    pub acks: Result<Acks, Error>,
}

/// When a call has to be answered, whom to tell when it may be done, and on which connection it came.
pub struct PublishCall {
    pub time: Allotted,
    pub handed_over: CancellationToken,
    pub flow: FlowId,
}

impl Publish {
    pub fn new(leaders: Arc<Leaders>, topic_lookup: Arc<TopicLookup>) -> Self {
        Self { leaders, topic_lookup }
    }

    /// Publishes the records of one request: a result for each, in their order.
    ///
    /// # Errors
    /// What is so of the whole, and of each partition; or why nothing of it was sent.
    pub async fn publish<R: Record>(
        &self,
        request: PublishRequest<R>,
        call: PublishCall,
    ) -> Result<Vec<RecordResult>, Error> {
        let published = async {
            let acks = request.acks?;
            let topic = find_in_time(&self.topic_lookup, &request.topic, &call.time).await?;
            self.publish_to(&topic, acks, &request.records, call).await
        };
        published.await.map_err(refusal)
    }

    async fn publish_to<R: Record>(
        &self,
        topic: &TopicEntry,
        acks: Acks,
        records: &[R],
        call: PublishCall,
    ) -> Result<Vec<RecordResult>, Error> {
        if self.leaders.metadata.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        let mut batcher = Batcher::new(topic);
        batcher.add(records)?;
        let mut senders: BTreeMap<i32, PartitionSender> = BTreeMap::new();
        let caller = Caller::new(call.flow, call.handed_over);
        let mut submitted = Submitted { count: batcher.count(), pending: Vec::new() };
        for batched in batcher.finish()? {
            let target = &batched.target;
            let sender = senders.entry(target.number()).or_insert_with(|| {
                let leaders = Arc::clone(&self.leaders);
                PartitionSender::new(leaders, target.clone(), acks, caller.clone())
            });
            let (entry, pending) = under_way(batched, call.time, None);
            sender.push(entry);
            submitted.pending.push(pending);
        }
        let delivered = join_all(senders.into_values().map(PartitionSender::run));
        join(delivered, answered(submitted)).await.1.into_answer()
    }

    /// Serves one stream of requests to its end. What ends it early is the last that is sent out.
    pub async fn publish_stream<R: Record + Send + Sync>(
        &self,
        flow: FlowId,
        requests: impl Stream<Item = Result<PublishStreamRequest<R>, Interruption>> + Send + Unpin,
        out: mpsc::Sender<Result<PublishStreamResponse, Error>>,
    ) {
        let (leaders, topic_lookup) = (Arc::clone(&self.leaders), Arc::clone(&self.topic_lookup));
        stream::Stream::new(leaders, topic_lookup, flow).serve(requests, out).await;
    }
}

/// # Errors
/// Those of [`TopicLookup::find_or_create`]; `LEADER_NOT_AVAILABLE` also if the time is over.
pub(super) async fn find_in_time(
    topic_lookup: &TopicLookup,
    name: &str,
    time: &Allotted,
) -> Result<Arc<TopicEntry>, Error> {
    let found = timeout_at(time.deadline, topic_lookup.find_or_create(name)).await;
    found.unwrap_or_else(|_| {
        let message = format!("topic `{name}` was not found in time; nothing was sent");
        Err(Error::new(ErrorCode::LeaderNotAvailable, message))
    })
}

/// What is refused before anything of it was sent.
fn refusal(error: Error) -> Error {
    match error.publication {
        Some(_) => error,
        None => error.of_publication(Publication::default()),
    }
}

//! One produce stream to one node: batches up, answers down.
//!
//! Here is what is on its way; [`super::sender`] decides what an answer or an end means for it.

use super::accumulator::PartitionQueue;
use super::queue::StreamId;
use crate::bulk::{Event, events};
use crate::client::Inner;
use crate::connection::Purpose;
use crate::metadata::Leadership;
use futures::stream::{BoxStream, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use troupe_proto::bulk::produce_stream;
use troupe_proto::log::v1::ProduceStreamResponse;
use troupe_proto::wire::ProduceStreamRequest;

/// Batches that wait for the connection; more stay in their queues.
const CAPACITY: usize = 256;

/// What a stream tells the sender.
pub(crate) type Events = BoxStream<'static, Event<ProduceStreamResponse>>;

/// The sender's side of a stream.
pub(crate) struct NodeStream {
    pub id: StreamId,
    pub endpoint: Arc<str>,
    pub requests: mpsc::Sender<ProduceStreamRequest>,
    /// By correlation id, so the oldest comes first.
    pub unanswered: BTreeMap<u64, Unanswered>,
}

/// A batch on its way.
pub(crate) struct Unanswered {
    pub queue: Arc<PartitionQueue>,
    pub batch: u64,
    pub sent_to: Leadership,
    pub sent_at: Instant,
}

impl NodeStream {
    /// Connects in the background; batches may be handed over at once.
    pub(crate) fn open(client: Arc<Inner>, endpoint: Arc<str>, id: StreamId) -> (Self, Events) {
        let (requests, waiting) = mpsc::channel(CAPACITY);
        let node = endpoint.clone();
        let opening = async move {
            let channel = client.connections.open_or_fall_back(&node, Purpose::Produce).await?;
            Ok(produce_stream(channel, ReceiverStream::new(waiting)).await?)
        };
        let events = events(Box::pin(opening)).boxed();
        (Self { id, endpoint, requests, unanswered: BTreeMap::new() }, events)
    }
}

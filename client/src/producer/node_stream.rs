//! One produce stream to one node: batches up, answers down.
//!
//! Here is what is on its way; [`super::sender`] decides what an answer or an end means for it.

use super::accumulator::{Inbox, PartitionQueue};
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
    request: Request,
    /// Queues that have something for it, and wait until a request is answered.
    blocked: Vec<Arc<PartitionQueue>>,
}

/// What Kafka would have sent as one request, which is what `max_in_flight_per_node` counts: the batches of one turn of the
/// sender, at most one of each partition. Here each is a message of its own.
#[derive(Default)]
struct Request {
    number: u64,
    turn: u64,
    /// Numbers of the queues that have a batch in it.
    queues: Vec<u64>,
}

/// A batch on its way.
pub(crate) struct Unanswered {
    pub queue: Arc<PartitionQueue>,
    pub batch: u64,
    pub request: u64,
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
        let (unanswered, request, blocked) = (BTreeMap::new(), Request::default(), Vec::new());
        (Self { id, endpoint, requests, unanswered, request, blocked }, events)
    }

    /// Whether a batch of this queue may go: with the others of this turn, or because fewer than `limit` requests are
    /// unanswered (P8). If not, the queue is remembered.
    pub(crate) fn has_room_for(
        &mut self,
        queue: &Arc<PartitionQueue>,
        turn: u64,
        limit: usize,
    ) -> bool {
        if self.request.turn == turn && !self.request.queues.contains(&queue.number) {
            return true;
        }
        let mut open: Vec<u64> = self.unanswered.values().map(|sent| sent.request).collect();
        open.sort_unstable();
        open.dedup();
        if open.len() < limit {
            self.request = Request { number: self.request.number + 1, turn, queues: Vec::new() };
            return true;
        }
        if !self.blocked.iter().any(|blocked| blocked.number == queue.number) {
            self.blocked.push(queue.clone());
        }
        false
    }

    /// A batch of this queue goes out in the request that there was room in; its number.
    pub(crate) fn join_request(&mut self, queue: u64) -> u64 {
        // Without a limit nobody asked whether there is room.
        if self.request.number > 0 {
            self.request.queues.push(queue);
        }
        self.request.number
    }

    /// Something was answered, or nothing will be.
    pub(crate) fn list_blocked(&mut self, inbox: &Inbox) {
        for queue in self.blocked.drain(..) {
            inbox.list(&queue);
        }
    }
}

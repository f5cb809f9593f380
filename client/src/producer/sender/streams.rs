//! The streams to the nodes: opened when there is something for them, closed when nothing is expected of them.

use super::Sender;
use crate::producer::accumulator::PartitionQueue;
use crate::producer::node_stream::NodeStream;
use crate::producer::queue::{Failure, StreamId};
use crate::producer::timers::Timer;
use std::sync::Arc;
use tokio::time::Instant;

impl Sender {
    /// Another leadership has begun. What the old leader still says about this queue is not heard any more: it
    /// may be one that was stopped and does not know yet, and what it says may be about what will be cut off.
    pub(super) fn call_back(&mut self, queue: &Arc<PartitionQueue>, id: StreamId, now: Instant) {
        let failure = Failure { now, chance: rand::random() };
        let settled = queue.with(|queue| queue.call_back(failure));
        self.accumulator.finish(settled);
        let Some(endpoint) = self.endpoint_of(id) else { return };
        let Some(stream) = self.streams.get_mut(&endpoint) else { return };
        let before = stream.unanswered.len();
        stream.unanswered.retain(|_, unanswered| unanswered.queue.number != queue.number);
        let (called_back, left) = (before - stream.unanswered.len(), stream.unanswered.len());
        tracing::debug!(topic = %queue.topic, partition = %queue.partition, %endpoint, called_back, "leader moved");
        if left == 0 {
            // Nothing is expected of it; what has not left yet need not.
            self.close_stream(&endpoint);
        }
    }

    pub(super) fn close_stream(&mut self, endpoint: &Arc<str>) -> Option<NodeStream> {
        let mut stream = self.streams.remove(endpoint)?;
        stream.list_blocked(&self.accumulator.inbox);
        self.events.remove(&stream.id);
        self.timers.cancel(Timer::Stream(stream.id));
        Some(stream)
    }

    /// The stream to a node, opened if there is none.
    pub(super) fn stream(&mut self, endpoint: &Arc<str>) -> &mut NodeStream {
        if !self.streams.contains_key(endpoint) {
            self.next_stream += 1;
            let id = StreamId(self.next_stream);
            let (stream, events) = NodeStream::open(self.client.clone(), endpoint.clone(), id);
            self.events.insert(id, events);
            self.streams.insert(endpoint.clone(), stream);
        }
        self.streams.get_mut(endpoint).expect("just seen or inserted")
    }
}

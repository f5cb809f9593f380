//! One fetch stream to one node: positions and credit up, batches down.

use crate::bulk::{Event, events};
use crate::client::Inner;
use crate::connection::Purpose;
use crate::exclusive::Exclusive;
use futures::stream::{BoxStream, StreamExt};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use troupe_proto::bulk::fetch_stream;
use troupe_proto::log::v1::{FetchPosition, FetchStreamRequest, TopicPartition};
use troupe_proto::wire::FetchStreamResponse;

/// What a stream tells the reader.
pub(super) type Events = Exclusive<BoxStream<'static, Event<FetchStreamResponse>>>;

/// The reader's side of a stream.
pub(super) struct NodeStream {
    pub number: u64,
    pub endpoint: Arc<str>,
    /// Never full: a grant that did not get through would stop the stream for good. What waits is bounded
    /// all the same: positions when leaders move, one drop per partition, and grants only for what came.
    requests: mpsc::UnboundedSender<FetchStreamRequest>,
    credit: u64,
    /// Bytes that were read and not granted again yet.
    consumed: u64,
}

impl NodeStream {
    /// Connects in the background. The node may push `credit` bytes ahead.
    pub(super) fn open(
        client: Arc<Inner>,
        endpoint: Arc<str>,
        number: u64,
        positions: Vec<FetchPosition>,
        credit: u64,
    ) -> (Self, Events) {
        let (requests, waiting) = mpsc::unbounded_channel();
        let first = FetchStreamRequest { positions, drop: vec![], credit_bytes: credit };
        requests.send(first).expect("the receiver is in the same function");
        let node = endpoint.clone();
        let opening = async move {
            let channel = client.connections.open_or_fall_back(&node, Purpose::Fetch).await?;
            Ok(fetch_stream(channel, UnboundedReceiverStream::new(waiting)).await?)
        };
        let events = Exclusive::new(events(Box::pin(opening)).boxed());
        (Self { number, endpoint, requests, credit, consumed: 0 }, events)
    }

    /// Adds positions. False: the stream has ended.
    pub(super) fn add(&mut self, positions: Vec<FetchPosition>) -> bool {
        self.send(FetchStreamRequest { positions, drop: vec![], credit_bytes: 0 })
    }

    /// The node need not push this partition any more.
    pub(super) fn drop_partition(&mut self, partition: TopicPartition) {
        let request =
            FetchStreamRequest { positions: vec![], drop: vec![partition], credit_bytes: 0 };
        // If it does not get through, what comes is thrown away.
        let _ = self.send(request);
    }

    /// Bytes that were pushed and read: granted again a quarter of the window at a time.
    pub(super) fn consumed(&mut self, bytes: u64) {
        self.consumed += bytes;
        if self.consumed * 4 >= self.credit {
            let credit_bytes = self.consumed;
            let grant = FetchStreamRequest { positions: vec![], drop: vec![], credit_bytes };
            if self.send(grant) {
                self.consumed = 0;
            }
        }
    }

    fn send(&mut self, request: FetchStreamRequest) -> bool {
        self.requests.send(request).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many partitions that end at once leave no room that a grant would need.
    #[test]
    fn a_grant_gets_through_however_many_requests_wait() {
        let (requests, mut waiting) = mpsc::unbounded_channel();
        let mut stream =
            NodeStream { number: 1, endpoint: "n:1".into(), requests, credit: 100, consumed: 0 };
        for partition in 0..1000 {
            stream.drop_partition(TopicPartition { partition, ..Default::default() });
        }
        stream.consumed(100);
        let granted = std::iter::from_fn(|| waiting.try_recv().ok()).map(|r| r.credit_bytes);
        assert_eq!(granted.sum::<u64>(), 100);
    }
}

//! A FetchStream to a peer.

use crate::context::{Context, LeaderAt};
use crate::grpc::fetch_stream;
use crate::peers::{Purpose, failure};
use futures::future::ready;
use futures::stream::{self, AbortHandle, Stream, StreamExt, TryStreamExt, abortable};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::log::v1::{FetchPosition, FetchStreamRequest, TopicPartition};
use troupe_proto::wire::FetchStreamResponse;

/// Bytes that the peer may push before the reader has taken them.
pub(super) const CREDIT_BYTES: u64 = 4 << 20;
/// Credit is given back in pieces of at least this.
const GRANT_BYTES: u64 = 1 << 20;
/// Requests that the connection has not taken yet.
const REQUESTS: usize = 4096;

/// What came on the stream of that number; none at its end.
pub(super) type FromPeer = (u64, Option<Result<FetchStreamResponse, Error>>);

/// The requests' half of a stream. Dropping it ends the stream.
pub(super) struct PeerStream {
    pub endpoint: String,
    requests: mpsc::Sender<FetchStreamRequest>,
    taken: u64,
    answers: AbortHandle,
}

impl PeerStream {
    /// A stream to the peer, and what comes on it; none is the last.
    pub fn open(
        context: &Context,
        leader: &LeaderAt,
    ) -> Result<
        (Self, impl Stream<Item = Option<Result<FetchStreamResponse, Error>>> + Send + use<>),
        Error,
    > {
        let channel = context.channel_to(&leader.endpoint, Purpose::Bulk)?;
        let (requests, up) = mpsc::channel(REQUESTS);
        let answers = stream::once(fetch_stream(channel, ReceiverStream::new(up)))
            .try_flatten()
            .map(|answer| answer.map_err(|status| failure(status, ErrorCode::LeaderNotAvailable)));
        let (answers, abort) = abortable(answers);
        let endpoint = leader.endpoint.clone();
        let mut opened = Self { endpoint, requests, taken: 0, answers: abort };
        opened.request(FetchStreamRequest { credit_bytes: CREDIT_BYTES, ..Default::default() });
        Ok((opened, answers.map(Some).chain(stream::once(ready(None)))))
    }

    /// Has a partition pushed, or moves it. False if the peer takes no requests.
    pub fn add_position(
        &mut self,
        partition: TopicPartition,
        offset: Offset,
        max_bytes: usize,
        leader_epoch: Option<u32>,
    ) -> bool {
        let position = FetchPosition {
            partition: Some(partition),
            offset: offset.to_wire(),
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            leader_epoch,
        };
        self.request(FetchStreamRequest { positions: vec![position], ..Default::default() })
    }

    /// Has a partition pushed no more.
    pub fn drop_position(&mut self, partition: TopicPartition) {
        self.request(FetchStreamRequest { drop: vec![partition], ..Default::default() });
    }

    /// The reader has taken this much.
    pub fn give_back(&mut self, bytes: usize) {
        self.taken += bytes as u64;
        if self.taken >= GRANT_BYTES {
            let credit_bytes = std::mem::take(&mut self.taken);
            self.request(FetchStreamRequest { credit_bytes, ..Default::default() });
        }
    }

    /// What a stream that has ended does not take, it will not need: the answers' end says so.
    fn request(&mut self, request: FetchStreamRequest) -> bool {
        self.requests.try_send(request).is_ok()
    }
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

//! A FetchStream to a peer.

use crate::context::{Context, LeaderAt};
use crate::peers::{Lease, Purpose, failure};
use futures::stream::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use troupe_proto::bulk::fetch_stream;
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

/// Answers that the reader has not taken yet; their bytes are bounded by the credit.
const ANSWERS: usize = 256;

type Answer = Result<FetchStreamResponse, Error>;

/// What came on the stream of that number; none at its end.
pub(super) type FromPeer = (u64, Option<Answer>);

/// The requests' half of a stream. Dropping it ends the stream.
pub(super) struct PeerStream {
    pub endpoint: String,
    requests: mpsc::Sender<FetchStreamRequest>,
    taken: u64,
    reading: JoinHandle<()>,
}

impl PeerStream {
    /// A stream to the peer, and what comes on it; none is the last.
    pub fn open(
        context: &Context,
        leader: &LeaderAt,
    ) -> Result<(Self, impl Stream<Item = Option<Answer>> + Send + use<>), Error> {
        let connection = context.lease_to(&leader.endpoint, Purpose::Fetch)?;
        let (requests, up) = mpsc::channel(REQUESTS);
        let (into, answers) = mpsc::channel(ANSWERS);
        let reading = tokio::spawn(read(connection, up, into));
        let endpoint = leader.endpoint.clone();
        let mut opened = Self { endpoint, requests, taken: 0, reading };
        opened.request(FetchStreamRequest { credit_bytes: CREDIT_BYTES, ..Default::default() });
        let end = futures::stream::iter([None]);
        Ok((opened, ReceiverStream::new(answers).map(Some).chain(end)))
    }

    /// Has a partition pushed, or moves it. False if the peer takes no requests.
    pub fn add_position(
        &mut self,
        partition: TopicPartition,
        offset: Offset,
        max_bytes: usize,
        leader_epoch: Option<u32>,
        subscription: u64,
    ) -> bool {
        let position = FetchPosition {
            partition: Some(partition),
            offset: offset.to_wire(),
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            leader_epoch,
            subscription,
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
        self.reading.abort();
    }
}

/// Takes what comes off the connection at once: a reader that is slow must not fill the window that all streams of
/// the connection share.
async fn read(
    connection: Lease,
    requests: mpsc::Receiver<FetchStreamRequest>,
    answers: mpsc::Sender<Answer>,
) {
    let failed = |status| Err(failure(status, ErrorCode::LeaderNotAvailable));
    let mut stream =
        match fetch_stream(connection.channel.clone(), ReceiverStream::new(requests)).await {
            Ok(stream) => stream,
            Err(status) => {
                // Whoever asked may be gone, here and below.
                let _ = answers.send(failed(status)).await;
                return;
            }
        };
    while let Some(answer) = stream.next().await {
        if answers.send(answer.or_else(failed)).await.is_err() {
            return;
        }
    }
}

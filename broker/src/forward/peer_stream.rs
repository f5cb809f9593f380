//! A FetchStream to a peer.
//!
//! ```text
//!  peer ══ connection ══► hold (what the reader has not taken) ─ one ─► PeerStream's answers ─► reader
//!                           └ taken off the connection at once: its window is shared by all streams
//! ```
//!
//! Promises: what is held is bounded by the credit, which begins small and grows with a reader that waits
//! ([`Credit`]); of a reader that takes nothing for a while, no more than one answer is held: the rest is let go, the
//! stream ends, and a reader that goes on opens another where it stands.

use super::leaders::Leaders;
use crate::metadata_cache::LeaderAt;
use crate::partition::Isolation;
use crate::peers::{Lease, Purpose, failure};
use futures::stream::{Stream, StreamExt};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use troupe_machines::credit::Credit;
use troupe_proto::bulk::fetch_stream;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::log::v1::{FetchPosition, FetchStreamRequest, TopicPartition};
use troupe_proto::wire::FetchStreamResponse;

/// Requests that the connection has not taken yet.
const REQUESTS: usize = 4096;
/// Of one partition, in one answer.
const ANSWER_BYTES: u32 = 1 << 20;
/// A reader that takes nothing for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(2);

type Answer = Result<FetchStreamResponse, Error>;

/// What came, and whether the reader had nothing else when it came.
pub(super) struct Came {
    pub answer: Answer,
    pub was_waited_for: bool,
}

/// What came on the stream of that number; none at its end.
pub(super) type FromPeer = (u64, Option<Came>);

/// The requests' half of a stream. Dropping it ends the stream.
pub(super) struct PeerStream {
    pub endpoint: String,
    requests: mpsc::Sender<FetchStreamRequest>,
    credit: Credit,
    isolation: Isolation,
    reading: JoinHandle<()>,
}

impl PeerStream {
    /// A stream to the peer, and what comes on it; none is the last.
    pub fn open(
        leaders: &Leaders,
        leader: &LeaderAt,
        isolation: Isolation,
    ) -> Result<(Self, impl Stream<Item = Option<Came>> + Send + use<>), Error> {
        let connection = leaders.peers.lease(&leader.endpoint, Purpose::Fetch)?;
        let (requests, up) = mpsc::channel(REQUESTS);
        let (into, answers) = mpsc::channel(1);
        let reading = tokio::spawn(read(connection, up, into));
        let (endpoint, credit) = (leader.endpoint.clone(), Credit::default());
        let mut opened = Self { endpoint, requests, credit, isolation, reading };
        opened.request(FetchStreamRequest { credit_bytes: credit.first(), ..Default::default() });
        let end = futures::stream::iter([None]);
        Ok((opened, ReceiverStream::new(answers).map(Some).chain(end)))
    }

    /// Has a partition pushed, or moves it. False if the peer takes no requests.
    pub fn add_position(
        &mut self,
        partition: TopicPartition,
        offset: Offset,
        leader_epoch: Option<u32>,
        subscription: u64,
    ) -> bool {
        let position = FetchPosition {
            isolation_level: self.isolation.to_wire(),
            partition: Some(partition),
            offset: offset.to_wire(),
            max_bytes: ANSWER_BYTES,
            leader_epoch,
            subscription,
            client_rack: None,
        };
        self.request(FetchStreamRequest { positions: vec![position], ..Default::default() })
    }

    /// Has a partition pushed no more.
    pub fn drop_position(&mut self, partition: TopicPartition) {
        self.request(FetchStreamRequest { drop: vec![partition], ..Default::default() });
    }

    /// The reader has taken this much, for which it waited, or which was at hand.
    pub fn give_back(&mut self, bytes: usize, was_waited_for: bool) {
        if let Some(credit_bytes) = self.credit.take(bytes, was_waited_for) {
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

async fn read(
    connection: Lease,
    requests: mpsc::Receiver<FetchStreamRequest>,
    answers: mpsc::Sender<Came>,
) {
    match fetch_stream(connection.channel.clone(), ReceiverStream::new(requests)).await {
        Ok(stream) => hold(stream, answers).await,
        Err(status) => {
            // Whoever asked may be gone.
            let _ = answers.send(Came { answer: failed(status), was_waited_for: true }).await;
        }
    }
}

fn failed(status: Status) -> Answer {
    Err(failure(status, ErrorCode::LeaderNotAvailable))
}

/// Takes what comes off the connection at once: a reader that is slow must not fill the window that all streams of
/// the connection share. Returns at the end of the stream, when the reader is gone, and when it stands still.
async fn hold(
    stream: impl Stream<Item = Result<FetchStreamResponse, Status>>,
    answers: mpsc::Sender<Came>,
) {
    let mut stream = std::pin::pin!(stream);
    let (mut held, mut ended) = (VecDeque::new(), false);
    let mut standstill = std::pin::pin!(tokio::time::sleep(STANDSTILL));
    while !(ended && held.is_empty()) {
        tokio::select! {
            biased;
            room = answers.reserve(), if !held.is_empty() => {
                let Ok(room) = room else { return };
                if let Some(next) = held.pop_front() {
                    room.send(next);
                }
                standstill.as_mut().reset(Instant::now() + STANDSTILL);
            }
            came = stream.next(), if !ended => match came {
                Some(came) => {
                    if held.is_empty() {
                        standstill.as_mut().reset(Instant::now() + STANDSTILL);
                    }
                    let was_waited_for = held.is_empty() && answers.capacity() > 0;
                    held.push_back(Came { answer: came.or_else(failed), was_waited_for });
                }
                None => ended = true,
            },
            () = standstill.as_mut(), if !held.is_empty() => return,
            () = answers.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const PUSHED_BYTES: usize = 16 << 10;

    /// Bytes that are counted as long as they are held.
    struct Counted(Vec<u8>, Arc<AtomicUsize>);

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
        }
    }

    fn answer(held: &Arc<AtomicUsize>) -> FetchStreamResponse {
        held.fetch_add(PUSHED_BYTES, Ordering::Relaxed);
        let counted = Counted(vec![0; PUSHED_BYTES], Arc::clone(held));
        FetchStreamResponse { batches: Bytes::from_owner(counted), ..Default::default() }
    }

    /// A peer with endless records, which pushes what it has credit for.
    fn peer(
        mut credit: mpsc::UnboundedReceiver<u64>,
        held: Arc<AtomicUsize>,
    ) -> impl Stream<Item = Result<FetchStreamResponse, Status>> {
        let mut left = 0;
        stream::poll_fn(move |context| {
            while let std::task::Poll::Ready(Some(granted)) = credit.poll_recv(context) {
                left += granted;
            }
            if left < PUSHED_BYTES as u64 {
                return std::task::Poll::Pending;
            }
            left -= PUSHED_BYTES as u64;
            std::task::Poll::Ready(Some(Ok(answer(&held))))
        })
    }

    struct Reader {
        credit: Credit,
        grants: mpsc::UnboundedSender<u64>,
        answers: mpsc::Receiver<Came>,
        held: Arc<AtomicUsize>,
        holding: JoinHandle<()>,
    }

    impl Reader {
        fn start() -> Reader {
            let (grants, granted) = mpsc::unbounded_channel();
            let (into, answers) = mpsc::channel(1);
            let held = Arc::<AtomicUsize>::default();
            let holding = tokio::spawn(hold(peer(granted, Arc::clone(&held)), into));
            let credit = Credit::default();
            grants.send(credit.first()).unwrap();
            Reader { credit, grants, answers, held, holding }
        }

        async fn take(&mut self) -> Option<usize> {
            let Came { answer, was_waited_for } = self.answers.recv().await?;
            let bytes = answer.unwrap().batches.len();
            if let Some(granted) = self.credit.take(bytes, was_waited_for) {
                // The peer may have been left.
                let _ = self.grants.send(granted);
            }
            Some(bytes)
        }

        fn held(&self) -> usize {
            self.held.load(Ordering::Relaxed)
        }
    }

    /// Time is the test's own: it passes when nobody has anything to do.
    #[tokio::test(start_paused = true)]
    async fn a_reader_that_never_reads_holds_little_and_then_one_answer() {
        let mut reader = Reader::start();
        tokio::time::sleep(STANDSTILL / 2).await;
        assert_eq!(reader.held(), 64 << 10);
        tokio::time::sleep(STANDSTILL).await;
        assert!(reader.holding.is_finished());
        assert_eq!(reader.held(), PUSHED_BYTES);
        assert_eq!(reader.take().await, Some(PUSHED_BYTES));
        assert_eq!(reader.take().await, None, "it opens another stream where it stands");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_after_a_fast_start_lets_go_of_what_it_does_not_take() {
        let mut reader = Reader::start();
        let mut most = 0;
        for _ in 0..4_000 {
            assert_eq!(reader.take().await, Some(PUSHED_BYTES));
            most = most.max(reader.held());
        }
        assert!(most <= 4 << 20, "{most} bytes");
        tokio::time::sleep(2 * STANDSTILL).await;
        assert_eq!(reader.held(), PUSHED_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_goes_on_loses_nothing() {
        let mut reader = Reader::start();
        for _ in 0..100 {
            tokio::time::sleep(STANDSTILL / 2).await;
            assert_eq!(reader.take().await, Some(PUSHED_BYTES));
            assert!(reader.held() <= 64 << 10, "{} bytes", reader.held());
        }
    }

    /// Whoever has nothing to read is not taken for one who does not read.
    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_stays() {
        let (mut tell, told) = futures::channel::mpsc::unbounded();
        let (into, mut answers) = mpsc::channel(1);
        let holding = tokio::spawn(hold(told, into));
        let held = Arc::<AtomicUsize>::default();
        for _ in 0..3 {
            tokio::time::sleep(10 * STANDSTILL).await;
            futures::SinkExt::send(&mut tell, Ok(answer(&held))).await.unwrap();
            assert!(answers.recv().await.unwrap().was_waited_for);
        }
        drop(tell);
        assert!(answers.recv().await.is_none());
        holding.await.unwrap();
    }
}

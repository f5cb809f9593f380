//! Pipelined ProduceStreams to peers, pooled: a few to each, and each partition always on the same.
//!
//! Promises: batches of one partition leave in the order in which they came; every batch is answered; one that
//! surely never reached the peer says so, one whose answer did not come back is `OUTCOME_UNKNOWN`; none is sent
//! behind one of its chain that failed, on whatever stream.

use super::mark::FORWARDED;
use crate::partition::{Appended, Chain, Responder};
use crate::peers::failure;
use futures::StreamExt;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use troupe_actor::Budget;
use troupe_proto::bulk::forward_stream;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{Offset, PartitionKey};
use troupe_proto::log::v1 as pb;
use troupe_proto::wire::ProduceStreamRequest;

/// A partition that holds up its stream holds up only those that share it.
const STREAMS_PER_PEER: u64 = 4;
/// Bytes of batches that may wait to leave on one stream.
const QUEUE_BYTES: usize = 32 << 20;
/// Batches that lie ready for the connection.
const READY: usize = 16;
/// A stream on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// The streams to all peers, by endpoint. They are opened when they are first needed, and again when they end.
#[derive(Default)]
pub struct ProduceStreams {
    streams: Mutex<HashMap<(String, u64), ProduceStream>>,
}

#[derive(Clone)]
struct ProduceStream {
    queue: mpsc::Sender<Queued>,
    budget: Budget,
}

/// Whom to answer about a batch, and which others it hangs together with.
pub struct Chained {
    pub chain: Arc<Chain>,
    pub responder: Responder<Appended>,
}

/// A batch on its way to the stream.
struct Queued {
    request: ProduceStreamRequest,
    chain: Arc<Chain>,
    responder: Responder<Appended>,
    /// Until the batch leaves.
    budget: OwnedSemaphorePermit,
}

impl ProduceStreams {
    /// Sends a batch; the responder is answered, always. Waits while too much waits already.
    pub async fn produce(
        &self,
        endpoint: &str,
        connect: impl FnOnce() -> Result<Channel, Error>,
        key: &PartitionKey,
        request: ProduceStreamRequest,
        Chained { chain, responder }: Chained,
    ) {
        let responder = responder.of_chain(Some(Arc::clone(&chain)));
        let stream = match self.stream(endpoint, key, connect) {
            Ok(stream) => stream,
            Err(error) => return responder.answer(Err(error)),
        };
        match stream.budget.take(request.batch.len()).await {
            Some(budget) => {
                let queued = Queued { request, chain, responder, budget };
                if let Err(mpsc::error::SendError(queued)) = stream.queue.send(queued).await {
                    queued.responder.answer(Err(not_sent("the node is stopping")));
                }
            }
            None => responder.answer(Err(not_sent("the node is stopping"))),
        }
    }

    /// Streams that are open, or were and are still remembered.
    pub fn count(&self) -> usize {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn stream(
        &self,
        endpoint: &str,
        key: &PartitionKey,
        connect: impl FnOnce() -> Result<Channel, Error>,
    ) -> Result<ProduceStream, Error> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let name = (endpoint.to_owned(), hasher.finish() % STREAMS_PER_PEER);
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = streams.get(&name).filter(|stream| !stream.queue.is_closed()) {
            return Ok(stream.clone());
        }
        // Those that were closed because nobody needed them, or whose peer is elsewhere by now.
        streams.retain(|_, stream| !stream.queue.is_closed());
        let (queue, queued) = mpsc::channel(QUEUE_BYTES / Budget::UNIT);
        let stream = ProduceStream { queue, budget: Budget::new(QUEUE_BYTES) };
        tokio::spawn(serve(connect()?, queued));
        streams.insert(name, stream.clone());
        Ok(stream)
    }
}

fn not_sent(why: &str) -> Error {
    Error::new(ErrorCode::LeaderNotAvailable, format!("not sent to the leader: {why}"))
}

/// One stream after the other, until nobody has asked for one for long.
async fn serve(channel: Channel, mut queue: mpsc::Receiver<Queued>) {
    while let Ok(Some(first)) = timeout(IDLE, queue.recv()).await {
        Stream::new(first).run(channel.clone(), &mut queue).await;
    }
    // Whoever comes now makes another stream; somebody may have come just before.
    queue.close();
    while let Some(queued) = queue.recv().await {
        queued.responder.answer(Err(not_sent("it was not needed for long; try again")));
    }
}

/// One ProduceStream and what waits for answers on it.
struct Stream {
    unanswered: HashMap<u64, Responder<Appended>>,
    next_correlation_id: u64,
    /// Taken from the queue, and not given to the connection.
    leaving: Option<Queued>,
}

type Up = mpsc::Sender<(ProduceStreamRequest, OwnedSemaphorePermit)>;

impl Stream {
    fn new(first: Queued) -> Self {
        Self { unanswered: HashMap::new(), next_correlation_id: 0, leaving: Some(first) }
    }

    async fn run(mut self, channel: Channel, queue: &mut mpsc::Receiver<Queued>) {
        let (up, requests) = mpsc::channel(READY);
        // What waits to leave is budgeted until the connection takes it.
        let requests = ReceiverStream::new(requests).map(|(request, budget)| {
            drop::<OwnedSemaphorePermit>(budget);
            request
        });
        match forward_stream(channel, requests, FORWARDED).await {
            Ok(answers) => {
                let error = broken(self.converse(up, answers, queue).await);
                for (_, responder) in self.unanswered.drain() {
                    responder.answer(Err(error.clone()));
                }
                if let Some(queued) = self.leaving {
                    queued.responder.answer(Err(not_sent("the connection broke")));
                }
            }
            Err(status) => {
                let error = not_sent(&failure(status, ErrorCode::LeaderNotAvailable).message);
                // There is no stream: nothing that waits for one was sent.
                let mut waiting = self.leaving;
                while let Some(queued) = waiting {
                    queued.responder.answer(Err(error.clone()));
                    waiting = queue.try_recv().ok();
                }
            }
        }
    }

    /// Sends and receives until the stream ends, or has been idle for long.
    async fn converse(
        &mut self,
        up: Up,
        mut answers: Streaming<pb::ProduceStreamResponse>,
        queue: &mut mpsc::Receiver<Queued>,
    ) -> Result<(), Status> {
        let mut used = Instant::now();
        loop {
            let idle = self.unanswered.is_empty() && self.leaving.is_none();
            tokio::select! {
                answer = answers.message() => match answer? {
                    Some(answer) => self.answer(answer),
                    None => return Ok(()),
                },
                // Without room for ever: the connection is gone, and the answers' end says how.
                Ok(room) = up.reserve(), if self.leaving.is_some() => {
                    match self.leaving.take() {
                        Some(queued) if queued.chain.is_broken() => {
                            queued.responder.answer(Err(not_sent("one before it failed")));
                        }
                        Some(queued) => room.send(self.numbered(queued)),
                        None => {}
                    }
                }
                queued = queue.recv(), if self.leaving.is_none() => match queued {
                    Some(queued) => {
                        used = Instant::now();
                        self.leaving = Some(queued);
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(used + IDLE), if idle => return Ok(()),
            }
        }
    }

    fn numbered(&mut self, queued: Queued) -> (ProduceStreamRequest, OwnedSemaphorePermit) {
        let Queued { mut request, responder, budget, .. } = queued;
        self.next_correlation_id += 1;
        request.correlation_id = self.next_correlation_id;
        self.unanswered.insert(request.correlation_id, responder);
        (request, budget)
    }

    fn answer(&mut self, answer: pb::ProduceStreamResponse) {
        let Some(responder) = self.unanswered.remove(&answer.correlation_id) else { return };
        responder.answer(appended(answer.result.unwrap_or_default()));
    }
}

fn appended(result: pb::PartitionProduceResult) -> Result<Appended, Error> {
    match result.error {
        Some(detail) => Err(detail.into()),
        None => Ok(Appended {
            base_offset: Offset::from_wire(result.base_offset),
            log_append_time_ms: (result.log_append_time_ms >= 0)
                .then_some(result.log_append_time_ms),
            log_start: Offset::from_wire(result.log_start_offset).unwrap_or_default(),
            duplicate: result.duplicate,
        }),
    }
}

/// What became of batches that were sent and not answered.
fn broken(ended: Result<(), Status>) -> Error {
    match ended {
        Ok(()) => Error::new(ErrorCode::OutcomeUnknown, "the leader ended the stream"),
        Err(status) => {
            let error = failure(status, ErrorCode::LeaderNotAvailable);
            if error.code == ErrorCode::ShuttingDown {
                // A node that stops answers what it has read, then ends the stream with this.
                return not_sent("the leader is stopping");
            }
            let message = format!("the way to the leader broke: {}", error.message);
            Error::new(ErrorCode::OutcomeUnknown, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::peers::lazy_channel;
    use troupe_proto::ids::{PartitionId, TopicId};

    #[test]
    fn only_a_leader_that_stops_in_order_has_surely_not_done_what_it_did_not_answer() {
        let stopping = Status::from(Error::new(ErrorCode::ShuttingDown, "bye"));
        assert!(broken(Err(stopping)).surely_not_done());
        for ended in [Ok(()), Err(Status::unavailable("reset")), Err(Status::cancelled("gone"))] {
            assert!(!broken(ended).surely_not_done());
        }
    }

    /// Nobody listens, or whoever listens hangs up: nothing of a batch has left.
    #[tokio::test]
    async fn what_finds_no_stream_was_surely_not_done() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let hangs_up = tokio::spawn(async move { drop(listener.accept().await) });
        let streams = ProduceStreams::default();
        let key = PartitionKey { topic_id: TopicId::random(), partition: PartitionId(0) };
        for _ in 0..3 {
            let (responder, answer) = Responder::channel();
            let connect = || lazy_channel(&Network::default(), None, &endpoint);
            let request = ProduceStreamRequest::default();
            let chained = Chained { chain: Arc::new(Chain::new(Default::default())), responder };
            streams.produce(&endpoint, connect, &key, request, chained).await;
            let refused = answer.await.unwrap().unwrap_err();
            assert_eq!(refused.code, ErrorCode::LeaderNotAvailable, "{refused}");
        }
        hangs_up.await.unwrap();
    }

    #[test]
    fn a_peer_s_refusal_comes_back_as_it_was_given() {
        let refusal = Error::new(ErrorCode::NotLeader, "node 2 leads").with_leader_of(2, "n2:1", 7);
        let result = pb::PartitionProduceResult {
            base_offset: -1,
            error: Some(refusal.clone().into()),
            ..Default::default()
        };
        assert_eq!(appended(result).unwrap_err(), refusal);
    }
}

//! PublishStream: requests that arrived together go into the same batches, answers keep the order of the requests.
//!
//! ```text
//!   read ──► batched ──► under way, up to 64 groups ──► answered, in order
//!                                    │
//!                                    └─► the first that fails: nothing more is read, sent or answered;
//!                                        when all others are settled, one status says what became of them
//! ```
//!
//! A client that has gone is a failure too: it may be sending the same by another way.

use super::batching::Batcher;
use super::publisher::Publisher;
use super::record::{Record, RecordResult};
use super::settled::{Remains, Settled};
use super::submitted::answered;
use crate::forward::{Caller, Leaders};
use crate::operations::interruption::Interruption;
use crate::operations::topic_lookup::TopicLookup;
use crate::shutdown::shutting_down;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use troupe_machines::admission::FlowId;
use troupe_machines::replica::Acks;
use troupe_proto::error::{Error, ErrorCode};

/// Requests of a stream that are joined if they arrived together.
pub const REQUESTS_TOGETHER: usize = 256;
/// Groups of requests of a stream that may be unanswered.
const GROUPS_UNANSWERED: usize = 64;

/// How long a failure waits to learn what became of what was under way beside it.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

pub struct PublishStreamRequest<R> {
    /// Of the first request; later ones may leave it empty.
    pub topic: String,
    /// As the first request says.
    pub acks: Result<Acks, Error>,
    pub records: Vec<R>,
    /// 0: one more than the one before.
    pub sequence: u64,
}

pub struct PublishStreamResponse {
    /// One for each record of the request of that number.
    pub results: Vec<RecordResult>,
    pub sequence: u64,
}

type Out = mpsc::Sender<Result<PublishStreamResponse, Error>>;
type Asked<R> = Result<PublishStreamRequest<R>, Interruption>;

/// A request under way.
struct Numbered {
    sequence: u64,
    /// Records in it.
    count: usize,
}

/// Requests that were joined.
struct Group {
    requests: Vec<Numbered>,
    settled: Settled,
}

/// The first request that is not answered, and what became of it and of all after it.
struct Failure {
    sequence: u64,
    remains: Remains,
}

struct ClientGone;

pub struct Stream {
    leaders: Arc<Leaders>,
    topic_lookup: Arc<TopicLookup>,
    flow: FlowId,
    publisher: Option<Publisher>,
    /// Number of the last request that was submitted.
    submitted: u64,
    unanswered: FuturesOrdered<BoxFuture<'static, Group>>,
    /// Why nothing more is submitted, from which request on.
    refusal: Option<(u64, Error)>,
}

impl Stream {
    pub fn new(leaders: Arc<Leaders>, topic_lookup: Arc<TopicLookup>, flow: FlowId) -> Self {
        let (unanswered, refusal) = (FuturesOrdered::new(), None);
        Self { leaders, topic_lookup, flow, publisher: None, submitted: 0, unanswered, refusal }
    }

    /// To its end.
    pub async fn serve<R: Record + Send + Sync>(
        mut self,
        requests: impl futures::Stream<Item = Asked<R>> + Send + Unpin,
        out: Out,
    ) {
        let mut groups = requests.ready_chunks(REQUESTS_TOGETHER);
        let shutdown = self.leaders.metadata.shutdown.clone();
        let mut open = true;
        loop {
            let reads = open && self.refusal.is_none();
            let waits = reads || !self.unanswered.is_empty();
            tokio::select! {
                group = groups.next(), if reads && self.unanswered.len() < GROUPS_UNANSWERED => {
                    let Some(group) = group else {
                        open = false;
                        continue;
                    };
                    tokio::select! {
                        () = self.submit(group) => {}
                        () = out.closed() => return,
                    }
                }
                Some(group) = self.unanswered.next() => match answer(group, &out).await {
                    Ok(None) => {}
                    Ok(Some(failure)) => return self.fail(failure, out).await,
                    Err(ClientGone) => return,
                },
                () = out.closed(), if waits => return,
                () = shutdown.cancelled(), if reads => {
                    self.refusal = Some((self.submitted + 1, shutting_down()));
                }
                else => break,
            }
        }
        // All before it are answered.
        if let Some((sequence, refusal)) = self.refusal.take() {
            let mut remains = Remains::default();
            remains.refuse(refusal);
            self.fail(Failure { sequence, remains }, out).await;
        }
    }

    /// Hands a group over, up to the first request that cannot be.
    async fn submit<R: Record + Send + Sync>(&mut self, group: Vec<Asked<R>>) {
        if let (None, Some(Ok(first))) = (&self.publisher, group.first())
            && let Err(error) = self.begin(first).await
        {
            return self.refusal = Some((first.sequence.max(1), error));
        }
        let Some(publisher) = &mut self.publisher else {
            // Not one request came.
            let error = group.into_iter().find_map(Result::err).map(Error::from);
            return self.refusal = error.map(|error| (1, error));
        };
        if let Some(broken) = group.iter().find_map(broken) {
            publisher.halt(broken);
        }
        let topic = publisher.topic();
        let mut batcher = Batcher::new(&topic);
        let (mut requests, mut last, mut refusal) = (Vec::new(), self.submitted, None);
        for request in group {
            match add(request, last, &mut batcher) {
                Ok(request) => {
                    last = request.sequence;
                    requests.push(request);
                }
                Err(refused) => {
                    refusal = Some(refused);
                    break;
                }
            }
        }
        let count = batcher.count();
        match batcher.finish() {
            Ok(batches) => {
                let submitted = publisher.submit(count, batches).await;
                let settled = async move { Group { requests, settled: answered(submitted).await } };
                self.unanswered.push_back(settled.boxed());
                (self.submitted, self.refusal) = (last, refusal);
            }
            Err(error) => self.refusal = Some((self.submitted + 1, error)),
        }
    }

    /// The first message says to which topic everything goes.
    async fn begin<R: Sync>(&mut self, first: &PublishStreamRequest<R>) -> Result<(), Error> {
        if first.topic.is_empty() {
            let message = "the first message names no topic";
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        let acks = first.acks.clone()?;
        let topic = self.topic_lookup.find_or_create(&first.topic).await?;
        let caller = Caller::new(self.flow, CancellationToken::new());
        self.publisher = Some(Publisher::new(Arc::clone(&self.leaders), topic, acks, caller));
        Ok(())
    }

    /// Sends nothing more, waits for what was sent, and ends with what is so of all that is not answered.
    async fn fail(mut self, failure: Failure, out: Out) {
        let Failure { sequence, mut remains } = failure;
        if let (Some(publisher), Some(cause)) = (&self.publisher, remains.cause()) {
            publisher.halt(cause);
        }
        let settle = async {
            while let Some(group) = self.unanswered.next().await {
                remains.add(&group.settled, 0);
            }
        };
        if timeout(LAST_ANSWERS, settle).await.is_err() {
            let message = "what was under way to other partitions is not settled yet";
            remains.lose(Error::new(ErrorCode::OutcomeUnknown, message));
        }
        if let Some(error) = remains.into_error(sequence) {
            // The client may be gone.
            let _ = out.send(Err(error)).await;
        }
    }
}

/// Why the stream broke, with whatever the client sent behind this.
fn broken<R>(request: &Asked<R>) -> Option<&Error> {
    match request {
        Err(Interruption::Broken(error)) => Some(error),
        Ok(_) | Err(Interruption::Refused(_)) => None,
    }
}

/// Adds a request behind that of number `last`.
fn add<R: Record>(
    request: Asked<R>,
    last: u64,
    batcher: &mut Batcher<'_>,
) -> Result<Numbered, (u64, Error)> {
    let next = last + 1;
    let request = request.map_err(|interruption| (next, interruption.into()))?;
    let invalid = |message| (next, Error::new(ErrorCode::InvalidRequest, message));
    let sequence = match request.sequence {
        0 => next,
        sequence if sequence < next => {
            return Err(invalid(format!(
                "the request is numbered {sequence}, and one before it {last}: numbers have to grow"
            )));
        }
        sequence => sequence,
    };
    let topic = batcher.topic_name();
    if !request.topic.is_empty() && request.topic != topic {
        let asked = &request.topic;
        let message = format!("this stream publishes to `{topic}`; open another for `{asked}`");
        return Err((sequence, Error::new(ErrorCode::InvalidRequest, message)));
    }
    batcher.add(&request.records).map_err(|error| (sequence, error))?;
    Ok(Numbered { sequence, count: request.records.len() })
}

/// Answers a group's requests, up to the first that failed.
async fn answer(group: Group, out: &Out) -> Result<Option<Failure>, ClientGone> {
    let Group { requests, mut settled } = group;
    let mut first = 0;
    for Numbered { sequence, count } in requests {
        let Some(results) = settled.results_of(first..first + count) else {
            let mut remains = Remains::default();
            remains.add(&settled, first);
            return Ok(Some(Failure { sequence, remains }));
        };
        let response = PublishStreamResponse { results, sequence };
        out.send(Ok(response)).await.map_err(|_| ClientGone)?;
        first += count;
    }
    Ok(None)
}

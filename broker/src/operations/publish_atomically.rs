//! Records to several topics and partitions, all or nothing: a transaction in one call, of a producer that this node is.
//!
//! ```text
//!  checked ─► a producer: of the pool, or of the key ─► every partition is part of it ─► batches, all at once ─► commit
//!                                                                  │ any failure              │
//!                                                                  └────────► abort ◄─────────┘
//! ```
//!
//! Promises: whatever can be refused beforehand is refused before there is a transaction; nothing of a call is seen by
//! readers of committed records unless all of it is; what is told to be undone can never be committed; a call with a
//! key is carried out once, wherever it comes in.
//! Never here: what a coordinator decides (`machines::txn`), or where it is.

mod ending;
mod keys;
mod pool;
mod prepared;

use super::producer_ids::ProducerIds;
use super::publish::{PublishCall, Record, RecordResult, find_in_time};
use super::topic_lookup::TopicLookup;
use crate::forward::{Allotted, Backoff, Call, Caller, Leaders};
use crate::node_settings::NodeSettings;
use crate::shutdown::shutting_down;
use crate::txn::{AddTo, Initialise, TxnRoute};
use ending::{Ended, aborted, unknown};
use keys::Keys;
use pool::{Lease, Pool};
use prepared::Prepared;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use troupe_machines::admission::FlowId;
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::error::{Error, ErrorCode, Publication};
use troupe_proto::log::v1::TopicPartition;

/// Longer than any call. What a node leaves behind that died in the middle keeps readers waiting for so long.
const TRANSACTION_TIMEOUT_MS: u64 = 35_000;
/// How long the transaction before is waited for, of an id of the pool: others may be free.
const COMPLETION_PATIENCE: Duration = Duration::from_millis(500);
/// The same of a key.
const KEY_PATIENCE: Duration = Duration::from_secs(5);
/// How long an abort may take. It is one also if nobody is told.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

pub struct PublishAtomically {
    leaders: Arc<Leaders>,
    topic_lookup: Arc<TopicLookup>,
    route: Arc<TxnRoute>,
    ids: Arc<ProducerIds>,
    settings: Arc<NodeSettings>,
    pool: Pool,
    keys: Keys,
}

pub struct AtomicRequest<R> {
    /// By topic, in the order of the request. A topic may come twice.
    pub topics: Vec<(String, Vec<R>)>,
    pub ack_ids: Vec<String>,
    /// Empty: not idempotent.
    pub key: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishedAtomically {
    /// In the order of the request.
    Now(Vec<Vec<RecordResult>>),
    /// By a call with the same key.
    Before,
}

/// A transaction that has begun.
struct Begun {
    id: Arc<str>,
    producer: Producer,
}

impl PublishAtomically {
    pub fn new(
        leaders: Arc<Leaders>,
        topic_lookup: Arc<TopicLookup>,
        route: Arc<TxnRoute>,
        ids: Arc<ProducerIds>,
        settings: Arc<NodeSettings>,
    ) -> Self {
        let pool = Pool::new(leaders.metadata.node_id);
        Self { leaders, topic_lookup, route, ids, settings, pool, keys: Keys::default() }
    }

    /// Publishes all of it or nothing. Whoever does not wait any more has it undone, unless it is decided by then.
    ///
    /// # Errors
    /// Why nothing of it was done; `OUTCOME_UNKNOWN`: whether it is will show.
    pub async fn publish<R: Record + Send + Sync + 'static>(
        self: &Arc<Self>,
        request: AtomicRequest<R>,
        call: PublishCall,
    ) -> Result<PublishedAtomically, Error> {
        let (told, answer) = oneshot::channel();
        let (this, has_key) = (Arc::clone(self), !request.key.is_empty());
        tokio::spawn(async move {
            let done = this.carry_out(request, call, &told).await;
            // Whoever asked may be gone.
            let _ = told.send(done);
        });
        let stopping = |_| Err(unknown(has_key, "the node is stopping"));
        let done = answer.await.unwrap_or_else(stopping);
        // With a key, whoever sends it again stores nothing twice.
        done.map_err(|error| match has_key {
            true => error,
            false => error.of_publication(Publication::default()),
        })
    }

    async fn carry_out<R: Record>(
        &self,
        request: AtomicRequest<R>,
        call: PublishCall,
        asker: &Asker,
    ) -> Result<PublishedAtomically, Error> {
        if self.leaders.metadata.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        check(&request)?;
        let key = (!request.key.is_empty()).then(|| keys::id_of(&request.key)).transpose()?;
        let mut entries = Vec::with_capacity(request.topics.len());
        for (topic, _) in &request.topics {
            entries.push(find_in_time(&self.topic_lookup, topic, &call.time).await?);
        }
        let prepared = Prepared::new(&entries, &request.topics)?;
        // It is in batches by now.
        drop(request);
        match key {
            Some(id) => self.once(id, prepared, &call, asker).await,
            None => self.by_pool(prepared, &call, asker).await,
        }
    }

    /// By an id that is this call's alone.
    async fn once(
        &self,
        id: Arc<str>,
        mut prepared: Prepared,
        call: &PublishCall,
        asker: &Asker,
    ) -> Result<PublishedAtomically, Error> {
        let _turn = self.keys.turn(&id)?;
        let deadline = call.time.deadline;
        let patience = deadline.min(Instant::now() + KEY_PATIENCE);
        let producer = match self.init(&id, true, (patience, deadline)).await {
            Err(error) if error.code == ErrorCode::InvalidTransactionState => {
                return Ok(PublishedAtomically::Before);
            }
            producer => producer?,
        };
        let begun = Begun { id, producer };
        let added = self.add(&begun, prepared.partitions(), (patience, deadline)).await;
        added.map_err(|error| keys::overtaken(aborted(error)))?;
        // Who asks again doubles nothing: its headers need not go out before the answer.
        let (ended, results) =
            self.write(&begun, &mut prepared, call, (asker, &CancellationToken::new())).await;
        match ended {
            Ended::Committed(_) => Ok(PublishedAtomically::Now(results)),
            Ended::Aborted(error, _) => Err(keys::overtaken(error)),
            Ended::Open(error) => Err(unknown(true, error.code.reason())),
        }
    }

    /// By any id of this node's.
    async fn by_pool(
        &self,
        mut prepared: Prepared,
        call: &PublishCall,
        asker: &Asker,
    ) -> Result<PublishedAtomically, Error> {
        let (mut lease, begun) = self.begin(&prepared, call.time.deadline).await?;
        let asked = (asker, &call.handed_over);
        let (ended, results) = self.write(&begun, &mut prepared, call, asked).await;
        match ended {
            Ended::Committed(next) => {
                lease.producer = Some(next);
                Ok(PublishedAtomically::Now(results))
            }
            Ended::Aborted(error, next) => {
                lease.producer = next;
                Err(error)
            }
            Ended::Open(error) => Err(unknown(false, error.code.reason())),
        }
    }

    /// Begins a transaction of whichever id has none.
    async fn begin(
        &self,
        prepared: &Prepared,
        deadline: Instant,
    ) -> Result<(Lease<'_>, Begun), Error> {
        let mut fresh = false;
        loop {
            let mut lease = self.pool.take(fresh, deadline).await?;
            let patience = deadline.min(Instant::now() + COMPLETION_PATIENCE);
            let id = lease.id();
            // Until it is known what becomes of it, the id has no producer.
            let known = lease.producer.take();
            let producer = match known {
                Some(producer) => Ok(producer),
                None => self.init(&id, false, (patience, deadline)).await,
            };
            let begun = match producer {
                Ok(producer) => {
                    let begun = Begun { id, producer };
                    let added = self.add(&begun, prepared.partitions(), (patience, deadline)).await;
                    added.map(|()| begun)
                }
                Err(error) => Err(error),
            };
            let error = match begun {
                Ok(begun) => return Ok((lease, begun)),
                Err(error) => error,
            };
            let goes_on = match error.code {
                ErrorCode::ConcurrentTransactions => {
                    lease.producer = known;
                    true
                }
                // It has expired, or somebody has aborted it.
                ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping => known.is_some(),
                _ => false,
            };
            if !goes_on || Instant::now() >= deadline {
                return Err(aborted(error));
            }
            fresh = true;
        }
    }

    /// The producer of an id from now on. What is being settled is waited for up to the first of the times.
    async fn init(
        &self,
        id: &str,
        once: bool,
        (patience, deadline): (Instant, Instant),
    ) -> Result<Producer, Error> {
        let most = self.settings.now().transaction_max_timeout.0;
        let request = Initialise {
            transactional_id: id.to_owned(),
            timeout_ms: u32::try_from(TRANSACTION_TIMEOUT_MS.min(most)).unwrap_or(u32::MAX),
            version: ClientVersion::Second,
            known: None,
            once,
        };
        patiently(patience, deadline, || {
            self.route.init(&request, &*self.ids, Call::until(deadline))
        })
        .await
    }

    /// All partitions at once: so the transaction before is waited for before anything is written.
    async fn add(
        &self,
        begun: &Begun,
        partitions: Vec<TopicPartition>,
        (patience, deadline): (Instant, Instant),
    ) -> Result<(), Error> {
        let request = AddTo {
            transactional_id: begun.id.to_string(),
            producer: begun.producer,
            version: ClientVersion::Second,
            partitions,
            groups: Vec::new(),
        };
        patiently(patience, deadline, || self.route.add(&request, Call::until(deadline))).await
    }

    /// Writes all batches, and ends the transaction.
    async fn write(
        &self,
        begun: &Begun,
        prepared: &mut Prepared,
        call: &PublishCall,
        (asker, handed_over): (&Asker, &CancellationToken),
    ) -> (Ended, Vec<Vec<RecordResult>>) {
        let deadline = call.time.deadline;
        let results = match self.send(begun, prepared, call.flow, deadline).await {
            Ok(results) if !asker.is_closed() => results,
            Ok(_) => {
                let gone = Error::new(ErrorCode::TransactionAbortable, "nobody waits for it");
                return (self.abort(begun, gone, deadline).await, Vec::new());
            }
            Err(error) => return (self.abort(begun, error, deadline).await, Vec::new()),
        };
        handed_over.cancel();
        (self.commit(begun, deadline).await, results)
    }

    async fn send(
        &self,
        begun: &Begun,
        prepared: &mut Prepared,
        flow: FlowId,
        deadline: Instant,
    ) -> Result<Vec<Vec<RecordResult>>, Error> {
        // A quarter of the time is left for the end.
        let left = deadline.saturating_duration_since(Instant::now());
        let by = Instant::now() + left * 3 / 4;
        let time = Allotted { deadline: by, answer_by: by };
        // What is appended is nothing until it is committed.
        let caller = Caller::new(flow, CancellationToken::new());
        prepared.send(&self.leaders, begun, &caller, time).await
    }
}

/// Who waits for the answer.
type Asker = oneshot::Sender<Result<PublishedAtomically, Error>>;

/// # Errors
/// `INVALID_REQUEST`.
fn check<R>(request: &AtomicRequest<R>) -> Result<(), Error> {
    let invalid = |message| Err(Error::new(ErrorCode::InvalidRequest, message));
    if !request.ack_ids.is_empty() {
        return invalid(
            "ack_ids are not taken yet: settle them when this call is answered, or commit offsets in a transaction \
             with CommitTransactionOffsets",
        );
    }
    if request.topics.iter().all(|(_, records)| records.is_empty()) {
        return invalid("the request has no records: there is nothing to do");
    }
    Ok(())
}

/// Asks until what is being completed is, and no longer than the first of the times; what surely was not done, or does
/// no harm twice, up to the second.
async fn patiently<T, Asked: Future<Output = Result<T, Error>>>(
    patience: Instant,
    deadline: Instant,
    ask: impl Fn() -> Asked,
) -> Result<T, Error> {
    let mut backoff = Backoff::new();
    loop {
        let error = match ask().await {
            Err(error) => error,
            answer => return answer,
        };
        let until = match error.code {
            ErrorCode::ConcurrentTransactions => patience,
            ErrorCode::OutcomeUnknown
            | ErrorCode::RequestTimedOut
            | ErrorCode::Overtaken
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoading
            | ErrorCode::CoordinatorNotAvailable => deadline,
            _ => return Err(error),
        };
        let next = Instant::now() + backoff.next();
        if next >= until {
            return Err(error);
        }
        sleep_until(next).await;
    }
}

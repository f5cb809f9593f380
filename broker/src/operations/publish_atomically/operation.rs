//! The order in which a call is carried out.

use super::acks::{ask_there, end, pledge};
use super::begun::Begun;
use super::coordinator::Coordinator;
use super::ending::{Ended, aborted, unknown};
use super::keys::{Keys, id_of, overtaken};
use super::pool::{Lease, Pool};
use super::prepared::Prepared;
use crate::forward::{Allotted, Caller, Leaders, Relay};
use crate::node_settings::NodeSettings;
use crate::operations::producer_ids::ProducerIds;
use crate::operations::publish::{PublishCall, Record, RecordResult, find_in_time};
use crate::operations::subscriptions::{Coordination, PledgedIds, Settle};
use crate::operations::topic_lookup::TopicLookup;
use crate::shutdown::shutting_down;
use crate::txn::TxnRoute;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use troupe_machines::admission::FlowId;
use troupe_proto::error::{Error, ErrorCode, Publication};

/// How long the transaction before is waited for, of an id of the pool: others may be free.
const COMPLETION_PATIENCE: Duration = Duration::from_millis(500);
/// The same of a key.
const KEY_PATIENCE: Duration = Duration::from_secs(5);

pub struct PublishAtomically {
    leaders: Arc<Leaders>,
    topic_lookup: Arc<TopicLookup>,
    coordinator: Coordinator,
    settle: Arc<Settle>,
    groups: Coordination,
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

impl PublishAtomically {
    pub fn new(
        (leaders, topic_lookup): (Arc<Leaders>, Arc<TopicLookup>),
        (route, ids): (Arc<TxnRoute>, Arc<ProducerIds>),
        (settle, groups): (Arc<Settle>, Coordination),
        settings: Arc<NodeSettings>,
    ) -> Self {
        let metadata = &leaders.metadata;
        let coordinator = Coordinator::new(route, ids, settings, metadata.shutdown.clone());
        let (pool, keys) = (Pool::new(metadata.node_id), Keys::default());
        Self { leaders, topic_lookup, coordinator, settle, groups, pool, keys }
    }

    /// Publishes all of it or nothing. Whoever does not wait any more has it undone, unless it is decided by then.
    /// `relay`: the same call at another node. None: it came from one.
    ///
    /// # Errors
    /// Why nothing of it was done; `OUTCOME_UNKNOWN`: whether it is will show.
    pub async fn publish<R: Record + Send + Sync + 'static>(
        self: &Arc<Self>,
        request: AtomicRequest<R>,
        call: PublishCall,
        relay: Option<impl Relay<PublishedAtomically> + 'static>,
    ) -> Result<PublishedAtomically, Error> {
        let (told, answer) = oneshot::channel();
        let (this, has_key) = (Arc::clone(self), !request.key.is_empty());
        tokio::spawn(async move {
            let done = this.carry_out(request, call, (&told, relay)).await;
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
        (asker, relay): (&Asker, Option<impl Relay<PublishedAtomically>>),
    ) -> Result<PublishedAtomically, Error> {
        if self.leaders.metadata.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        let AtomicRequest { topics, ack_ids, key } = request;
        if ack_ids.is_empty() && topics.iter().all(|(_, records)| records.is_empty()) {
            let message = "the request has neither records nor ack_ids: there is nothing to do";
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        let key = (!key.is_empty()).then(|| id_of(&key)).transpose()?;
        let acks = PledgedIds::parse(ack_ids)?;
        let elsewhere = acks.as_ref().and_then(PledgedIds::node);
        let elsewhere = elsewhere.filter(|node| *node != self.leaders.metadata.node_id);
        if let (Some(node), Some(relay)) = (elsewhere, relay) {
            if key.is_none() {
                call.handed_over.cancel();
            }
            let deadline = call.time.deadline;
            match ask_there(&self.leaders, node, deadline, key.is_some(), &relay).await {
                // What it delivered is lost. Whether the call was carried out before that, anybody can tell.
                Err(error) if error.code == ErrorCode::LeaseLost && key.is_some() => {}
                answer => return answer,
            }
        }
        let mut entries = Vec::with_capacity(topics.len());
        for (topic, _) in &topics {
            entries.push(find_in_time(&self.topic_lookup, topic, &call.time).await?);
        }
        let prepared = Prepared::new(&entries, &topics)?;
        // It is in batches by now.
        drop(topics);
        match key {
            Some(id) => self.once(id, (prepared, acks), &call, asker).await,
            None => self.by_pool((prepared, acks), &call, asker).await,
        }
    }

    /// By an id that is this call's alone.
    async fn once(
        &self,
        id: Arc<str>,
        (mut prepared, acks): (Prepared, Option<PledgedIds>),
        call: &PublishCall,
        asker: &Asker,
    ) -> Result<PublishedAtomically, Error> {
        let deadline = call.time.deadline;
        let _turn = self.keys.turn(&id, deadline).await?;
        let patience = deadline.min(Instant::now() + KEY_PATIENCE);
        let producer = match self.coordinator.init(&id, true, (patience, deadline)).await {
            Err(error) if error.code == ErrorCode::InvalidTransactionState => {
                return Ok(PublishedAtomically::Before);
            }
            producer => producer.map_err(aborted)?,
        };
        let pledge = pledge(&self.settle, acks, deadline).await?;
        prepared.commit = pledge.as_ref().map(|pledge| pledge.commit.clone());
        let begun = Begun { id, producer };
        let added = self.coordinator.add(&begun, prepared.places(), (patience, deadline)).await;
        // Who asks again doubles nothing: its headers need not go out before the answer.
        let begins = CancellationToken::new();
        let done = match added {
            Ok(()) => match self.write(&begun, &mut prepared, call, (asker, &begins)).await {
                (Ended::Committed(_), results) => Ok(PublishedAtomically::Now(results)),
                (Ended::Aborted(error, _), _) => Err(overtaken(error)),
                (Ended::Open(error), _) => Err(unknown(true, error.code.reason())),
            },
            Err(error) => Err(overtaken(aborted(error))),
        };
        end(pledge, &done);
        done
    }

    /// By any id of this node's.
    async fn by_pool(
        &self,
        (mut prepared, acks): (Prepared, Option<PledgedIds>),
        call: &PublishCall,
        asker: &Asker,
    ) -> Result<PublishedAtomically, Error> {
        let deadline = call.time.deadline;
        let pledge = pledge(&self.settle, acks, deadline).await?;
        prepared.commit = pledge.as_ref().map(|pledge| pledge.commit.clone());
        let done = match self.begin(&prepared, deadline).await {
            Ok((mut lease, begun)) => {
                let asked = (asker, &call.handed_over);
                match self.write(&begun, &mut prepared, call, asked).await {
                    (Ended::Committed(next), results) => {
                        lease.producer = Some(next);
                        Ok(PublishedAtomically::Now(results))
                    }
                    (Ended::Aborted(error, next), _) => {
                        lease.producer = next;
                        Err(error)
                    }
                    (Ended::Open(error), _) => Err(unknown(false, error.code.reason())),
                }
            }
            Err(error) => Err(error),
        };
        end(pledge, &done);
        done
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
                None => self.coordinator.init(&id, false, (patience, deadline)).await,
            };
            let begun = match producer {
                Ok(producer) => {
                    let begun = Begun { id, producer };
                    let (times, places) = ((patience, deadline), prepared.places());
                    let added = self.coordinator.add(&begun, places, times).await;
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
                return (self.coordinator.abort(begun, gone, deadline).await, Vec::new());
            }
            Err(error) => {
                return (self.coordinator.abort(begun, error, deadline).await, Vec::new());
            }
        };
        handed_over.cancel();
        (self.coordinator.commit(begun, deadline).await, results)
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
        prepared.send((&self.leaders, &self.groups), begun, &caller, time).await
    }
}

/// Who waits for the answer.
type Asker = oneshot::Sender<Result<PublishedAtomically, Error>>;

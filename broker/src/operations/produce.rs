//! Produce and ProduceStream: a batch is checked, and handed to its partition in its flow's turn.
//!
//! Promises: every batch is answered, also one that is refused; of a stream no more is read than can be answered; what
//! waits for its turn is not appended when nobody hears the answer any more.
//! Never here: how a batch or an answer looks on the wire.

mod chains;

use super::topic_lookup::check_writable;
use crate::admission::{Admission, Share};
use crate::metadata_cache::MetadataCache;
use crate::partition::{
    AppendRequest, Appended, CROWD_PATIENCE, Chain, PartitionHandle, Responder,
};
use crate::shutdown::shutting_down;
use chains::Chains;
use futures::{Stream, StreamExt};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use troupe_machines::admission::FlowId;
use troupe_machines::replica::Acks;
use troupe_proto::batch::{BatchError, Limits, ProducedBatch, Verified};
use troupe_proto::error::{Error, Publication};
use troupe_proto::ids::LeaderEpoch;
use troupe_proto::log::v1::TopicPartition;
use troupe_proto::rope::Rope;

/// `request.timeout.ms` of a producer that names none.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Batches of one stream that may be unanswered; reading stops there.
const MAX_UNANSWERED: usize = 1024;
/// A batch that unpacks to more is checked on another thread.
const UNPACKED_AT_ONCE: usize = 1 << 20;

pub struct Produce {
    metadata: Arc<MetadataCache>,
    admission: Arc<Admission>,
    /// `batch.unpacked.max.bytes`
    max_unpacked: usize,
}

/// One batch on its way to its partition, as its producer sent it.
pub struct Produced {
    pub partition: Option<TopicPartition>,
    /// Or why nobody knows which.
    pub acks: Result<Acks, Error>,
    /// 0: the producer names none.
    pub timeout_ms: u32,
    /// That the producer knows.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Whose transaction the batch belongs to.
    pub transactional_id: Option<Arc<str>>,
    pub batch: Rope,
}

/// One batch of a stream.
pub struct StreamedBatch {
    /// By which its producer knows the answer.
    pub correlation_id: u64,
    /// The number of what it hangs together with; 0: with nothing.
    pub chain: u64,
    pub produced: Produced,
}

/// What became of a batch.
pub struct Answered {
    pub partition: Option<TopicPartition>,
    pub answer: Result<Appended, Error>,
}

pub struct StreamAnswer {
    pub correlation_id: u64,
    pub answered: Answered,
}

/// What is known of a single call beside its batches.
pub struct ProduceCall<'a> {
    pub flow: FlowId,
    pub deadline: Instant,
    /// Cancelled as soon as something may be done that cannot be taken back.
    pub handed_over: &'a CancellationToken,
}

/// On which terms a batch is taken.
struct Terms<'a> {
    /// None: another node has let it in.
    flow: Option<FlowId>,
    /// If its own time does not end before.
    until: Option<Instant>,
    chain: Option<Arc<Chain>>,
    /// Of a call that waits for it.
    handed_over: Option<&'a CancellationToken>,
}

/// What becomes of the batches of a stream. Dropped, it ends the stream.
pub struct Answers<E> {
    answered: mpsc::Receiver<Result<StreamAnswer, E>>,
    ready: Vec<Result<StreamAnswer, E>>,
    metadata: Arc<MetadataCache>,
}

impl Answered {
    /// The same; of what another leader would have done, where that is.
    fn hinted(self, metadata: &MetadataCache) -> Self {
        let Self { partition, answer } = self;
        let answer = answer.map_err(|error| metadata.hinted(error, partition.as_ref()));
        Self { partition, answer }
    }
}

impl<E> Answers<E> {
    /// Those that are known by now, or will be next: `most` at most. None: all batches are answered, and no more will
    /// come. May be dropped and called again without loss.
    pub async fn next(
        &mut self,
        most: usize,
    ) -> Option<impl Iterator<Item = Result<StreamAnswer, E>>> {
        if self.answered.recv_many(&mut self.ready, most).await == 0 {
            return None;
        }
        let metadata = &self.metadata;
        Some(self.ready.drain(..).map(|answer| {
            answer.map(|StreamAnswer { correlation_id, answered }| {
                let answered = answered.hinted(metadata);
                StreamAnswer { correlation_id, answered }
            })
        }))
    }
}

impl Produce {
    pub fn new(
        metadata: Arc<MetadataCache>,
        admission: Arc<Admission>,
        max_unpacked: usize,
    ) -> Self {
        Self { metadata, admission, max_unpacked }
    }

    /// Several partitions in one call: each succeeds or fails for itself.
    pub async fn produce(&self, batches: Vec<Produced>, call: ProduceCall<'_>) -> Vec<Answered> {
        let mut waiting = Vec::with_capacity(batches.len());
        for produced in batches {
            let partition = produced.partition.clone();
            let (responder, answer) = Responder::channel();
            let terms = Terms {
                flow: Some(call.flow),
                until: Some(call.deadline),
                chain: None,
                handed_over: Some(call.handed_over),
            };
            self.submit(produced, terms, responder).await;
            waiting.push((partition, answer));
        }
        let mut results = Vec::with_capacity(waiting.len());
        for (partition, answer) in waiting {
            let answer = answer.await.unwrap_or_else(|_| Err(shutting_down()));
            results.push(Answered { partition, answer }.hinted(&self.metadata));
        }
        results
    }

    /// Pipelined: one task reads and hands over, and whoever has the answers takes them as they come. What ends the
    /// stream is among them, and may come before the last of them.
    pub fn stream<E: From<Error> + Send + 'static>(
        self: &Arc<Self>,
        batches: impl Stream<Item = Result<StreamedBatch, E>> + Send + 'static,
        flow: Option<FlowId>,
    ) -> Answers<E> {
        let (answers, answered) = mpsc::channel(MAX_UNANSWERED);
        tokio::spawn(Arc::clone(self).read(batches, flow, answers));
        Answers { answered, ready: Vec::new(), metadata: Arc::clone(&self.metadata) }
    }

    /// The channel of answers closes when this has ended and every batch is answered.
    async fn read<E: From<Error> + Send + 'static>(
        self: Arc<Self>,
        batches: impl Stream<Item = Result<StreamedBatch, E>>,
        flow: Option<FlowId>,
        answers: mpsc::Sender<Result<StreamAnswer, E>>,
    ) {
        let mut batches = pin!(batches);
        let mut chains = Chains::default();
        loop {
            // Room for the answer is taken before the batch is read: back-pressure on the client.
            let Ok(room) = answers.clone().reserve_owned().await else { return };
            let batch = tokio::select! {
                batch = batches.next() => batch.transpose(),
                () = self.metadata.shutdown.cancelled() => Err(shutting_down().into()),
                () = answers.closed() => return,
            };
            let StreamedBatch { correlation_id, chain, produced } = match batch {
                Ok(Some(batch)) => batch,
                Ok(None) => return,
                Err(end) => {
                    room.send(Err(end));
                    return;
                }
            };
            let partition = produced.partition.clone();
            let responder = Responder::new(move |answer| {
                let answered = Answered { partition, answer };
                room.send(Ok(StreamAnswer { correlation_id, answered }));
            });
            let chain = chains.find(chain);
            let terms = Terms { flow, until: None, chain, handed_over: None };
            tokio::select! {
                () = self.submit(produced, terms, responder) => {}
                // Nobody hears what becomes of it, and what waits for its turn is not appended.
                () = answers.closed() => return,
            }
        }
    }

    /// Checks the batch and hands it over in its flow's turn, if that comes in the batch's time; the responder is
    /// answered in any case.
    async fn submit(&self, produced: Produced, terms: Terms<'_>, responder: Responder<Appended>) {
        let Produced { partition, acks, timeout_ms, leader_epoch, transactional_id, batch } =
            produced;
        let Terms { flow, until, chain, handed_over } = terms;
        let timeout = match timeout_ms {
            0 => DEFAULT_REQUEST_TIMEOUT,
            named => Duration::from_millis(named.into()),
        };
        let deadline = Instant::now() + timeout;
        let deadline = until.map_or(deadline, |until| until.min(deadline));
        match self.checked(partition.as_ref(), acks, batch).await {
            Ok((handle, batch, verified, acks)) => {
                let (chain, responder) = match batch.producer {
                    Some(_) => (chain, responder),
                    None => {
                        (chain.or_else(|| handed_over.map(of_its_own)), of_no_producer(responder))
                    }
                };
                let responder = match self.turn(flow, deadline, batch.payload.len()).await {
                    Ok(share) => responder.holding(share),
                    Err(error) => return responder.of_chain(chain).answer(Err(error)),
                };
                let left = deadline.saturating_duration_since(Instant::now()).as_millis();
                let request = AppendRequest {
                    batch,
                    verified,
                    acks,
                    timeout_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
                    expected_leader_epoch: leader_epoch,
                    patience: CROWD_PATIENCE,
                    chain,
                    transactional_id,
                };
                handle.append(request, responder).await;
            }
            Err(error) => responder.of_chain(chain).answer(Err(error)),
        }
    }

    async fn checked(
        &self,
        partition: Option<&TopicPartition>,
        acks: Result<Acks, Error>,
        batch: Rope,
    ) -> Result<Checked, Error> {
        if self.metadata.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        check_writable(partition.map_or("", |named| &named.topic))?;
        let handle = self.metadata.partition(partition)?;
        let acks = acks?;
        let batch = ProducedBatch::decode(batch)?;
        let verified = self.verified(&batch).await?;
        Ok((handle, batch, verified, acks))
    }

    /// Checks a batch: at once, unless it unpacks to so much that others on this thread would wait for it.
    async fn verified(&self, batch: &ProducedBatch) -> Result<Verified, Error> {
        let limits = |max_bytes| Limits { max_bytes, ..Limits::default() };
        let most = self.max_unpacked;
        let verified = match batch.verify(limits(most.min(UNPACKED_AT_ONCE))) {
            // Within the limit that holds it may unpack.
            Err(BatchError::Bomb { .. } | BatchError::BadCompression { .. })
                if most > UNPACKED_AT_ONCE =>
            {
                let batch = batch.clone();
                let verify = move || batch.verify(limits(most));
                tokio::task::spawn_blocking(verify).await.map_err(|_| shutting_down())?
            }
            verified => verified,
        };
        Ok(verified?)
    }

    /// Waits for a flow's turn; what another node has let in has had it.
    async fn turn(
        &self,
        flow: Option<FlowId>,
        deadline: Instant,
        bytes: usize,
    ) -> Result<Option<Share>, Error> {
        let Some(flow) = flow else { return Ok(None) };
        tokio::select! {
            biased;
            share = self.admission.admit_until(deadline, flow, bytes) => share.map(Some),
            () = self.metadata.shutdown.cancelled() => Err(shutting_down()),
        }
    }
}

type Checked = (Arc<PartitionHandle>, ProducedBatch, Verified, Acks);

/// A batch by itself, whose call has its headers as soon as a leader begins to append it.
fn of_its_own(handed_over: &CancellationToken) -> Arc<Chain> {
    Arc::new(Chain::new(handed_over.clone()))
}

/// Nothing tells a batch without a producer id from the same batch sent again: where it may be appended, no answer says
/// that it can be.
fn of_no_producer(responder: Responder<Appended>) -> Responder<Appended> {
    Responder::new(move |answer| {
        responder.answer(answer.map_err(|error| error.of_publication(Publication::default())));
    })
}

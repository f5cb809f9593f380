//! What a transaction's coordinator is asked, wherever it is: one request and one answer.

use super::aliases::{TxnHandle, TxnRoute};
use super::listed::described;
use super::message::{AddTo, Described, Initialise};
use crate::coordinator::Question;
use crate::forward::{Call, hears};
use futures::future::BoxFuture;
use tonic::transport::Channel;
use troupe_machines::cluster::{ClusterImage, OFFSETS_TOPIC};
use troupe_machines::txn::{Outcome, Producer, TxnError, check_transactional_id};
use troupe_proto::admin::v1 as admin;
use troupe_proto::admin::v1::transaction_service_client::TransactionServiceClient as AdminClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{ProducerEpoch, ProducerId};
use troupe_proto::internal::v1 as internal;
use troupe_proto::internal::v1::transaction_service_client::TransactionServiceClient as InternalClient;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::transaction_service_client::TransactionServiceClient;

/// A coordinator that has fewer producer ids at hand is given more.
const FEW_IDS: usize = 8;
/// So many.
const MORE_IDS: usize = 16;

/// Who gives out producer ids.
pub trait Ids: Send + Sync {
    /// So many that nobody has had.
    fn fresh(&self, count: usize) -> BoxFuture<'_, Result<Vec<ProducerId>, Error>>;
}

/// What the coordinator may need to answer.
async fn ids_for(handle: &TxnHandle, ids: &dyn Ids) -> Result<Vec<ProducerId>, Error> {
    match handle.shared.spare_ids() {
        0 => ids.fresh(MORE_IDS).await,
        // It can do without.
        few if few < FEW_IDS => Ok(ids.fresh(MORE_IDS).await.unwrap_or_default()),
        _ => Ok(Vec::new()),
    }
}

fn changing(key: &str, call: Call, may_repeat: bool) -> Question<'_> {
    Question { key, call, may_repeat, creates: false, changes: true }
}

impl TxnRoute {
    fn client(&self, channel: Channel) -> TransactionServiceClient<Channel> {
        TransactionServiceClient::new(channel)
            .max_decoding_message_size(self.calls.max_answer_bytes)
    }

    pub(super) fn admin_client(&self, channel: Channel) -> AdminClient<Channel> {
        AdminClient::new(channel).max_decoding_message_size(self.calls.max_answer_bytes)
    }

    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, of a producer that nobody can have: there is no transactional id at all.
    async fn check_known(&self, id: &str, asked: Producer, call: Call) -> Result<(), Error> {
        let unknown = |id| TxnError::InvalidProducerIdMapping { id, asked };
        self.check_may_exist(id, call, unknown).await
    }

    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`: there is none at all.
    async fn check_exists(&self, id: &str, call: Call) -> Result<(), Error> {
        self.check_may_exist(id, call, |id| TxnError::TransactionalIdNotFound { id }).await
    }

    async fn check_may_exist(
        &self,
        id: &str,
        call: Call,
        unknown: impl FnOnce(String) -> TxnError,
    ) -> Result<(), Error> {
        check_transactional_id(id)?;
        match call.forwarded || self.is_in_use().await {
            true => Ok(()),
            false => Err(unknown(id.to_owned()).into()),
        }
    }

    /// The producer that an instance is from now on.
    ///
    /// # Errors
    /// Those of [`TxnHandle::init`]; `OUTCOME_UNKNOWN`: it may be fenced already, and asks anew.
    pub async fn init(
        &self,
        request: &Initialise,
        ids: &dyn Ids,
        call: Call,
    ) -> Result<Producer, Error> {
        // A new instance that asks twice would fence itself.
        let question = Question {
            creates: true,
            ..changing(&request.transactional_id, call, request.known.is_some())
        };
        let (known, id) = (request.known, &request.transactional_id);
        let message = pb::InitProducerIdRequest {
            transactional_id: id.clone(),
            transaction_timeout_ms: request.timeout_ms,
            producer_id: known.map_or(0, |known| known.id.0),
            producer_epoch: known.map_or(0, |known| known.epoch.0),
            unless_committed: request.once,
        };
        let answer = self
            .ask_with(
                &question,
                &message,
                |handle, _| async move {
                    let ids = ids_for(&handle, ids).await?;
                    let given = handle.init(request.clone(), ids, call.into()).await?;
                    Ok(pb::InitProducerIdResponse {
                        producer_id: given.id.0,
                        producer_epoch: given.epoch.0,
                    })
                },
                |channel, request| async move {
                    self.client(channel).init_producer_id(request).await
                },
            )
            .await?;
        given(answer.producer_id, answer.producer_epoch)
    }

    /// These become part of the producer's transaction, all or none.
    ///
    /// # Errors
    /// Those of [`TxnHandle::add`].
    pub async fn add(&self, request: &AddTo, call: Call) -> Result<(), Error> {
        let id = &request.transactional_id;
        self.check_known(id, request.producer, call).await?;
        self.hear_of(request).await;
        self.ask_with(
            &changing(id, call, true),
            &adding(request, false),
            |handle, _| async move {
                let added = handle.add(request.clone(), call.into()).await;
                added.map_err(|error| self.of_topics(request, error))?;
                Ok(internal::AddForProducerResponse::default())
            },
            |channel, request| async move {
                InternalClient::new(channel).add_for_producer(request).await
            },
        )
        .await
        .map(drop)
    }

    /// Whether partitions are part of the producer's transaction.
    ///
    /// # Errors
    /// Those of [`TxnHandle::verify`].
    pub async fn verify(&self, request: &AddTo, call: Call) -> Result<(), Error> {
        let id = &request.transactional_id;
        self.check_known(id, request.producer, call).await?;
        let question = Question { changes: false, ..changing(id, call, true) };
        self.ask_with(
            &question,
            &adding(request, true),
            |handle, _| async move {
                handle.verify(request.clone()).await?;
                Ok(internal::AddForProducerResponse::default())
            },
            |channel, request| async move {
                InternalClient::new(channel).add_for_producer(request).await
            },
        )
        .await
        .map(drop)
    }

    /// Topics that are new to the cluster may be newer to the coordinator's node. If not, the coordinator tells.
    async fn hear_of(&self, request: &AddTo) {
        let are_there = |image: &ClusterImage| {
            let of_groups = request.groups.is_empty() || image.topic(OFFSETS_TOPIC).is_some();
            of_groups && request.partitions.iter().all(|it| image.topic(&it.topic).is_some())
        };
        let _ = hears(&self.metadata, are_there).await;
    }

    /// The same refusal, unless this node knows of the topics by now: then its coordinator is about to.
    fn of_topics(&self, request: &AddTo, error: Error) -> Error {
        let is_of_topics =
            matches!(error.code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition);
        let image = self.metadata.image.borrow();
        let is_there = |named: &pb::TopicPartition| {
            let topic = image.topic(&named.topic).filter(|topic| {
                named.topic_id.is_empty() || named.topic_id[..] == topic.id.as_bytes()[..]
            });
            let number = usize::try_from(named.partition).ok();
            topic.is_some_and(|topic| number.is_some_and(|it| it < topic.partitions.len()))
        };
        let of_groups = request.groups.is_empty() || image.topic(OFFSETS_TOPIC).is_some();
        if is_of_topics && of_groups && request.partitions.iter().all(is_there) {
            let message = "the coordinator has not heard of the topic yet; try again";
            return Error::new(ErrorCode::CoordinatorLoading, message);
        }
        error
    }

    /// Decides the producer's transaction. The answer is what it is in its next one.
    ///
    /// # Errors
    /// Those of [`TxnHandle::end`].
    pub async fn end(
        &self,
        (id, producer): (&str, Producer),
        outcome: Outcome,
        ids: &dyn Ids,
        call: Call,
    ) -> Result<Producer, Error> {
        self.check_known(id, producer, call).await?;
        let told = match outcome {
            Outcome::Commit => pb::TransactionOutcome::Commit,
            Outcome::Abort => pb::TransactionOutcome::Abort,
        };
        let message = pb::EndTransactionRequest {
            transactional_id: id.to_owned(),
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            outcome: told.into(),
        };
        let answer = self
            .ask_with(
                // Who asks again is told the same again.
                &changing(id, call, true),
                &message,
                |handle, request| async move {
                    let ids = ids_for(&handle, ids).await?;
                    let of = (request.transactional_id, producer);
                    let next = handle.end(of, outcome, ids, call.into()).await?;
                    Ok(pb::EndTransactionResponse {
                        producer_id: next.id.0,
                        producer_epoch: next.epoch.0,
                    })
                },
                |channel, request| async move { self.client(channel).end_transaction(request).await },
            )
            .await?;
        given(answer.producer_id, answer.producer_epoch)
    }

    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`.
    pub async fn describe(&self, id: &str, call: Call) -> Result<Described, Error> {
        self.check_exists(id, call).await?;
        let question = Question { changes: false, ..changing(id, call, true) };
        self.ask_with(
            &question,
            &admin::DescribeTransactionRequest { transactional_id: id.to_owned() },
            |handle, request| async move { handle.describe(request.transactional_id).await },
            |channel, request| async move {
                let answer = self.admin_client(channel).describe_transaction(request).await?;
                let (metadata, answer, extensions) = answer.into_parts();
                let described = described(answer)?;
                Ok(tonic::Response::from_parts(metadata, described, extensions))
            },
        )
        .await
    }

    /// Aborts what is open, and fences its producer.
    ///
    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`, `INVALID_TRANSACTION_STATE`.
    pub async fn abort(&self, id: &str, call: Call) -> Result<(), Error> {
        self.check_exists(id, call).await?;
        self.ask_with(
            &changing(id, call, false),
            &admin::AbortTransactionRequest { transactional_id: id.to_owned() },
            |handle, request| async move {
                handle.abort(request.transactional_id, call.into()).await?;
                Ok(admin::AbortTransactionResponse::default())
            },
            |channel, request| async move {
                self.admin_client(channel).abort_transaction(request).await
            },
        )
        .await
        .map(drop)
    }
}

fn adding(request: &AddTo, verify_only: bool) -> internal::AddForProducerRequest {
    internal::AddForProducerRequest {
        transactional_id: request.transactional_id.clone(),
        producer_id: request.producer.id.0,
        producer_epoch: request.producer.epoch.0,
        partitions: request.partitions.clone(),
        group_ids: request.groups.clone(),
        verify_only,
    }
}

/// # Errors
/// `OUTCOME_UNKNOWN`: the coordinator's node has said nothing.
fn given(id: u64, epoch: u32) -> Result<Producer, Error> {
    let id = ProducerId::from_wire(id).ok_or_else(|| {
        let message = "the coordinator's node answered without a producer id";
        Error::new(ErrorCode::OutcomeUnknown, message)
    })?;
    Ok(Producer { id, epoch: ProducerEpoch(epoch) })
}

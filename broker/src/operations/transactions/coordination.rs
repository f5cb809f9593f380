//! What a producer asks of its coordinator.

use crate::forward::{Call, Leaders};
use crate::operations::groups::{Groups, put_back, take_impossible};
use crate::operations::producer_ids::ProducerIds;
use crate::operations::topic_lookup::check_writable;
use crate::txn::{AddTo, Initialise, MarkerReceiver, OF_NODES, TxnRoute, producer};
use std::sync::Arc;
use tokio::time::Instant;
use troupe_machines::cluster::check_topic_names;
use troupe_machines::group::check_group_id;
use troupe_machines::txn::{ClientVersion, Outcome, Producer, check_transactional_id};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::internal::v1 as internal;
use troupe_proto::log::v1 as pb;

/// Of a producer that says nothing else.
const DEFAULT_TIMEOUT_MS: u32 = 60_000;

pub struct Transactions {
    pub(super) route: Arc<TxnRoute>,
    pub(super) leaders: Arc<Leaders>,
    pub(super) receiver: Arc<MarkerReceiver>,
    groups: Arc<Groups>,
    ids: Arc<ProducerIds>,
}

impl Transactions {
    pub fn new(
        route: Arc<TxnRoute>,
        leaders: Arc<Leaders>,
        receiver: Arc<MarkerReceiver>,
        groups: Arc<Groups>,
        ids: Arc<ProducerIds>,
    ) -> Self {
        Self { route, leaders, receiver, groups, ids }
    }

    /// Fences whoever had the transactional id, and settles what it left open. A timeout of 0: a minute.
    ///
    /// # Errors
    /// Among others `CONCURRENT_TRANSACTIONS` while what was open is being aborted; `INVALID_TRANSACTIONAL_ID` of one that
    /// only nodes have.
    pub async fn init(&self, mut request: Initialise, call: Call) -> Result<Producer, Error> {
        if !call.forwarded && request.transactional_id.starts_with(OF_NODES) {
            let message = format!(
                "names that begin with `{OF_NODES}` are those of the nodes' own producers, for PublishAtomically; choose \
                 another"
            );
            return Err(Error::new(ErrorCode::InvalidTransactionalId, message));
        }
        if request.timeout_ms == 0 {
            request.timeout_ms = DEFAULT_TIMEOUT_MS;
        }
        self.route.init(&request, &*self.ids, call).await
    }

    /// These become part of the transaction, all or none.
    ///
    /// # Errors
    /// Among others `INVALID_TOPIC`, `CONCURRENT_TRANSACTIONS`.
    pub async fn add_partitions(
        &self,
        (transactional_id, producer): (String, Producer),
        partitions: Vec<pb::TopicPartition>,
        call: Call,
    ) -> Result<(), Error> {
        check_topic_names(partitions.iter().map(|named| &named.topic))?;
        partitions.iter().try_for_each(|named| check_writable(&named.topic))?;
        let (version, groups) = (ClientVersion::Second, Vec::new());
        let request = AddTo { transactional_id, producer, version, partitions, groups };
        self.route.add(&request, call).await
    }

    /// The offsets of groups become part of the transaction.
    ///
    /// # Errors
    /// Among others `INVALID_GROUP_ID`, `CONCURRENT_TRANSACTIONS`.
    pub async fn add_offsets(
        &self,
        (transactional_id, producer): (String, Producer),
        groups: Vec<String>,
        call: Call,
    ) -> Result<(), Error> {
        groups.iter().try_for_each(|group| check_group_id(group))?;
        check_transactional_id(&transactional_id)?;
        self.have_offsets(call.deadline).await?;
        let (version, partitions) = (ClientVersion::Second, Vec::new());
        let request = AddTo { transactional_id, producer, version, partitions, groups };
        self.route.add(&request, call).await
    }

    /// What another node forwards: of a partition's leader there, or of a client. With `verify_only` it is only asked.
    ///
    /// # Errors
    /// Among others `TRANSACTION_ABORTABLE` of what is not part of the transaction.
    pub async fn add_for_producer(
        &self,
        request: internal::AddForProducerRequest,
        call: Call,
    ) -> Result<(), Error> {
        let asked = AddTo {
            producer: producer(request.producer_id, request.producer_epoch)?,
            transactional_id: request.transactional_id,
            version: ClientVersion::Second,
            partitions: request.partitions,
            groups: request.group_ids,
        };
        match request.verify_only {
            true => self.route.verify(&asked, call).await,
            false => self.route.add(&asked, call).await,
        }
    }

    /// Offsets that stand when the transaction is committed.
    ///
    /// # Errors
    /// Those of [`Transactions::add_offsets`], and of the group's coordinator.
    pub async fn commit_offsets(
        &self,
        mut request: pb::CommitTransactionOffsetsRequest,
        call: Call,
    ) -> Result<pb::CommitTransactionOffsetsResponse, Error> {
        check_group_id(&request.group_id)?;
        let refused = take_impossible(&mut request.commits);
        if request.commits.is_empty() && !refused.is_empty() {
            let results = refused.into_values().collect();
            return Ok(pb::CommitTransactionOffsetsResponse { results });
        }
        let producer = producer(request.producer_id, request.producer_epoch)?;
        // The node that forwarded it has had the group added.
        if !call.forwarded {
            let of = (request.transactional_id.clone(), producer);
            self.add_offsets(of, vec![request.group_id.clone()], call).await?;
        }
        let mut answer = self.groups.route.commit_in_transaction(&request, call).await?;
        answer.results = put_back(refused, answer.results);
        Ok(answer)
    }

    /// Decides. The answer is what the producer is in its next transaction.
    ///
    /// # Errors
    /// Among others `INVALID_TRANSACTION_STATE`, `CONCURRENT_TRANSACTIONS`.
    pub async fn end(
        &self,
        (transactional_id, producer): (String, Producer),
        outcome: Outcome,
        call: Call,
    ) -> Result<Producer, Error> {
        self.route.end((&transactional_id, producer), outcome, &*self.ids, call).await
    }

    /// Has the markers of another node's coordinators written here.
    pub async fn write_markers(
        &self,
        request: internal::WriteMarkersRequest,
        until: Instant,
    ) -> internal::WriteMarkersResponse {
        self.receiver.write(request, until).await
    }

    /// There are partitions that groups' offsets are kept in.
    async fn have_offsets(&self, deadline: Instant) -> Result<(), Error> {
        let groups = &self.groups.route;
        groups.topic.create(&groups.controller, deadline).await
    }
}

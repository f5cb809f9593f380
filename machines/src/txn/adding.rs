//! What a transaction writes to becomes part of it, before or with the first record there (X4, X7, X15, X19).

use super::partition::{ClientVersion, Producer, TxnPartition};
use super::state::State;
use super::{Change, Decision, Transactions, TxnError, check_transactional_id};
use crate::cluster::OFFSETS_TOPIC;
use crate::group::{check_group_id, coordinator_partition};
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use troupe_proto::ids::{PartitionId, PartitionKey};
use troupe_proto::log::v1 as pb;

/// By the client, or by the leader of a partition for it.
#[derive(Clone, Copy, Debug)]
pub struct AddRequest<'a> {
    pub transactional_id: &'a str,
    pub producer: Producer,
    /// A transaction ends as it began.
    pub version: ClientVersion,
    pub partitions: &'a [pb::TopicPartition],
    /// Whose offsets are committed with the transaction.
    pub groups: &'a [&'a str],
}

impl Transactions {
    /// These partitions belong to the transaction, all of them or none; those of groups' offsets are the ones that their
    /// coordinators keep them in. The first ones begin it. What is part of it already is no change.
    ///
    /// # Errors
    /// `ConcurrentTransactions`: the one before is being completed; `Overtaken`: the request is of one before.
    pub fn add(
        &self,
        now: Time,
        began: Time,
        request: AddRequest<'_>,
    ) -> Result<Decision<()>, TxnError> {
        check_transactional_id(request.transactional_id)?;
        let (id, known) = self.owned(request.transactional_id, request.producer)?;
        if known.state.prepared().is_some() {
            return Err(TxnError::concurrent(id));
        }
        let more = self.asked(request)?;
        let begins = known.state != State::Ongoing;
        if !begins && more.is_subset(&known.partitions) {
            return Ok(Decision::default());
        }
        let version = if begins { request.version } else { known.version };
        if version == ClientVersion::First {
            self.check_order(now, began, id)?;
        }
        let change = Change::put(id, &known.added(now, version, &more));
        let (actual, limit) = (change.bytes(), self.settings.max_record_bytes);
        if actual > limit {
            return Err(TxnError::TooManyPartitions { actual, limit });
        }
        Ok(Decision { changes: vec![change], ..Decision::default() })
    }

    /// X19: what the leader of a partition asks before it takes the first batch of a transaction. The answer is true when
    /// all that was decided before is committed.
    ///
    /// # Errors
    /// `TransactionAbortable`: the partition is not part of the transaction.
    pub fn verify(
        &self,
        transactional_id: &str,
        producer: Producer,
        partition: &TxnPartition,
    ) -> Result<(), TxnError> {
        let (id, known) = self.owned(transactional_id, producer)?;
        if known.state.prepared().is_some() {
            return Err(TxnError::concurrent(id));
        }
        if known.partitions.contains(partition) {
            return Ok(());
        }
        let topic = partition.topic.to_string();
        let number = i32::try_from(partition.partition.0).unwrap_or(i32::MAX);
        Err(TxnError::TransactionAbortable { topic, partition: number })
    }

    fn asked(&self, request: AddRequest<'_>) -> Result<BTreeSet<TxnPartition>, TxnError> {
        let mut asked = BTreeSet::new();
        for partition in request.partitions {
            asked.insert(self.existing(partition)?);
        }
        for group in request.groups {
            check_group_id(group)?;
            asked.insert(self.offsets_partition(group)?);
        }
        match asked.is_empty() {
            true => Err(TxnError::NothingNamed),
            false => Ok(asked),
        }
    }

    /// The partition as the catalog has it.
    fn existing(&self, asked: &pb::TopicPartition) -> Result<TxnPartition, TxnError> {
        let name = asked.topic.as_str();
        let found = self.catalog.as_ref().and_then(|it| it.topics.get_key_value(name));
        let is_same = |id: &[u8]| asked.topic_id.is_empty() || asked.topic_id[..] == *id;
        let (name, topic) = found
            .filter(|(_, topic)| is_same(topic.id.as_bytes()))
            .ok_or_else(|| TxnError::UnknownTopic { topic: name.to_owned() })?;
        match u32::try_from(asked.partition) {
            Ok(number) if number < topic.partitions => Ok(TxnPartition {
                topic: Arc::clone(name),
                topic_id: topic.id,
                partition: PartitionId(number),
            }),
            _ => Err(TxnError::UnknownPartition {
                topic: asked.topic.clone(),
                partition: asked.partition,
                partitions: topic.partitions,
            }),
        }
    }

    /// Where a group's coordinator keeps its offsets (G1).
    fn offsets_partition(&self, group: &str) -> Result<TxnPartition, TxnError> {
        let found = self.catalog.as_ref().and_then(|it| it.topics.get_key_value(OFFSETS_TOPIC));
        let unknown = || TxnError::UnknownTopic { topic: OFFSETS_TOPIC.to_owned() };
        let (name, topic) = found.ok_or_else(unknown)?;
        let partition = coordinator_partition(group, topic.partitions);
        Ok(TxnPartition { topic: Arc::clone(name), topic_id: topic.id, partition })
    }

    /// Whether there is such a partition still. Without a catalog nothing is known to be gone.
    pub(super) fn exists(&self, partition: &TxnPartition) -> bool {
        let Some(catalog) = &self.catalog else { return true };
        let PartitionKey { topic_id, partition: number } = partition.key();
        let topic = catalog.topics.get(&partition.topic);
        topic.is_some_and(|topic| topic.id == topic_id && number.0 < topic.partitions)
    }
}

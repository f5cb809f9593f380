//! What `__transaction_state` holds: one [`Change`] is one record, and says all of one transactional id.

use super::ReplayError;
use super::partition::{ClientVersion, Producer, TxnPartition};
use super::state::{Outcome, State};
use super::transaction::Transaction;
use crate::time::Time;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::Arc;
use troupe_proto::ids::{PartitionId, ProducerEpoch, ProducerId, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::transaction_record_key::Of as Key;

/// Of the records' format. Another one has another number, and is refused by whoever does not know it.
const VERSION: u32 = 1;

/// One record of the log: the state of a transactional id, or without value its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub key: pb::TransactionRecordKey,
    pub value: Option<pb::TransactionRecordValue>,
}

impl Change {
    /// The record's key and value.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let value = self.value.as_ref().map(|value| value.encode_to_vec().into());
        (self.key.encode_to_vec().into(), value)
    }

    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Change, ReplayError> {
        let key = pb::TransactionRecordKey::decode(key);
        let key = key.map_err(|_| ReplayError::Malformed("key"))?;
        let value = value.map(pb::TransactionRecordValue::decode).transpose();
        Ok(Change { key, value: value.map_err(|_| ReplayError::Malformed("value"))? })
    }

    pub(super) fn put(transactional_id: &str, transaction: &Transaction) -> Change {
        Change { key: key(transactional_id), value: Some(transaction.to_record()) }
    }

    pub(super) fn remove(transactional_id: &str) -> Change {
        Change { key: key(transactional_id), value: None }
    }

    /// Of key and value in the log.
    pub(super) fn bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Message::encoded_len);
        self.key.encoded_len() + value
    }

    /// How the transaction ends, of a record that says that it does.
    pub fn decides(&self) -> Option<Outcome> {
        self.value.as_ref().and_then(|value| State::from_id(value.state)?.prepared())
    }

    pub(super) fn transactional_id(&self) -> Result<&str, ReplayError> {
        match &self.key.of {
            Some(Key::TransactionalId(id)) => Ok(id),
            None => Err(ReplayError::UnknownKind),
        }
    }
}

fn key(transactional_id: &str) -> pb::TransactionRecordKey {
    pb::TransactionRecordKey { of: Some(Key::TransactionalId(transactional_id.to_owned())) }
}

impl Transaction {
    pub fn to_record(&self) -> pb::TransactionRecordValue {
        let of_another = |previous: &Producer| previous.id != self.producer.id;
        pb::TransactionRecordValue {
            version: VERSION,
            state: self.state.id(),
            producer_id: self.producer.id.0,
            producer_epoch: self.producer.epoch.0,
            last_producer_epoch: self.previous.map(|previous| previous.epoch.0),
            previous_producer_id: self.previous.filter(of_another).map_or(0, |it| it.id.0),
            next_producer_id: self.next.map_or(0, |next| next.0),
            client_version: self.version as u32,
            timeout_ms: self.timeout_ms,
            start_time_ms: self.started.map(Time::as_timestamp),
            update_time_ms: self.updated.as_timestamp(),
            topics: topics(&self.partitions),
        }
    }

    pub fn from_record(value: &pb::TransactionRecordValue) -> Result<Transaction, ReplayError> {
        if value.version != VERSION {
            return Err(ReplayError::UnknownVersion(value.version));
        }
        let malformed = ReplayError::Malformed;
        let id = ProducerId::from_wire(value.producer_id).ok_or(malformed("producer id"))?;
        let previous = value.last_producer_epoch.map(|epoch| Producer {
            id: ProducerId::from_wire(value.previous_producer_id).unwrap_or(id),
            epoch: ProducerEpoch(epoch),
        });
        Ok(Transaction {
            state: State::from_id(value.state).ok_or(malformed("state"))?,
            producer: Producer { id, epoch: ProducerEpoch(value.producer_epoch) },
            previous,
            next: ProducerId::from_wire(value.next_producer_id),
            version: version(value.client_version).ok_or(malformed("client version"))?,
            timeout_ms: value.timeout_ms,
            started: value.start_time_ms.map(time),
            updated: time(value.update_time_ms),
            partitions: partitions(&value.topics)?,
        })
    }
}

/// In order, so that those of one topic come together.
fn topics(partitions: &BTreeSet<TxnPartition>) -> Vec<pb::TransactionTopic> {
    let mut topics: Vec<pb::TransactionTopic> = Vec::new();
    for TxnPartition { topic, topic_id, partition } in partitions {
        // Partition numbers have 31 bits.
        let number = i32::try_from(partition.0).unwrap_or(i32::MAX);
        match topics.last_mut() {
            Some(last) if *last.topic == **topic && last.topic_id == topic_id.as_bytes()[..] => {
                last.partitions.push(number);
            }
            _ => topics.push(pb::TransactionTopic {
                topic: topic.to_string(),
                topic_id: topic_id.to_wire(),
                partitions: vec![number],
            }),
        }
    }
    topics
}

fn partitions(topics: &[pb::TransactionTopic]) -> Result<BTreeSet<TxnPartition>, ReplayError> {
    let mut partitions = BTreeSet::new();
    for of_topic in topics {
        let topic: Arc<str> = of_topic.topic.as_str().into();
        let id = TopicId::from_wire(&of_topic.topic_id);
        let topic_id = id.ok_or(ReplayError::Malformed("topic id"))?;
        for number in &of_topic.partitions {
            let number = u32::try_from(*number).map_err(|_| ReplayError::Malformed("partition"))?;
            let (topic, partition) = (Arc::clone(&topic), PartitionId(number));
            partitions.insert(TxnPartition { topic, topic_id, partition });
        }
    }
    Ok(partitions)
}

fn version(number: u32) -> Option<ClientVersion> {
    [ClientVersion::First, ClientVersion::Second].into_iter().find(|it| *it as u32 == number)
}

fn time(ms: i64) -> Time {
    Time(u64::try_from(ms).unwrap_or(0))
}

//! What `__consumer_offsets` holds: one [`Change`] is one record.

use super::state::{Current, Held, Info, Target};
use super::subscription::Subscription;
use super::{GroupPartition, ReplayError};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::{PartitionId, ProducerId, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;
use troupe_proto::log::v1::group_record_value::Of as Value;

/// One record of the log: a value by key, or without value the end of what the key said.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub key: pb::GroupRecordKey,
    pub value: Option<pb::GroupRecordValue>,
}

impl Change {
    /// The record's key and value.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let value = self.value.as_ref().map(|value| value.encode_to_vec().into());
        (self.key.encode_to_vec().into(), value)
    }

    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Change, ReplayError> {
        let key = pb::GroupRecordKey::decode(key).map_err(|_| ReplayError::Malformed("key"))?;
        let value = value.map(pb::GroupRecordValue::decode).transpose();
        Ok(Change { key, value: value.map_err(|_| ReplayError::Malformed("value"))? })
    }

    /// It says that an offset is committed.
    pub fn is_commit(&self) -> bool {
        matches!(self.key.of, Some(Key::Offset(_))) && self.value.is_some()
    }

    pub(super) fn put(group: &str, key: Key, value: Value) -> Change {
        let value = Some(pb::GroupRecordValue { of: Some(value) });
        Change { key: pb::GroupRecordKey { group_id: group.to_owned(), of: Some(key) }, value }
    }

    pub(super) fn remove(group: &str, key: Key) -> Change {
        let key = pb::GroupRecordKey { group_id: group.to_owned(), of: Some(key) };
        Change { key, value: None }
    }
}

pub(super) fn member_key(member_id: &str) -> pb::MemberKey {
    pb::MemberKey { member_id: member_id.to_owned() }
}

pub(super) fn offset_key(partition: &GroupPartition) -> Key {
    let number = number_to_wire(partition.partition);
    Key::Offset(pb::OffsetKey { topic: partition.topic.to_string(), partition: number })
}

pub(super) fn pending_key(id: ProducerId, partition: &GroupPartition) -> Key {
    Key::PendingOffset(pb::PendingOffsetKey {
        producer_id: id.0,
        topic: partition.topic.to_string(),
        partition: number_to_wire(partition.partition),
    })
}

/// Of whom an offset is pending, and of which partition, if the record is about one.
pub(super) fn pending_of(
    change: &Change,
) -> Result<Option<(ProducerId, GroupPartition)>, ReplayError> {
    let Some(Key::PendingOffset(key)) = &change.key.of else { return Ok(None) };
    Ok(Some((producer_id(key.producer_id)?, group_partition(&key.topic, key.partition)?)))
}

pub(super) fn producer_id(number: u64) -> Result<ProducerId, ReplayError> {
    ProducerId::from_wire(number).ok_or(ReplayError::Malformed("producer id"))
}

/// A partition as a key names it.
pub(super) fn group_partition(topic: &str, partition: i32) -> Result<GroupPartition, ReplayError> {
    Ok(GroupPartition { topic: topic.into(), partition: partition_id(partition)? })
}

/// Partition numbers have 31 bits.
pub(super) fn number_to_wire(partition: PartitionId) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

pub(super) fn topic_id(bytes: &[u8]) -> Result<TopicId, ReplayError> {
    TopicId::from_wire(bytes).ok_or(ReplayError::Malformed("topic id"))
}

pub(super) fn partition_id(number: i32) -> Result<PartitionId, ReplayError> {
    u32::try_from(number).map(PartitionId).map_err(|_| ReplayError::Malformed("partition"))
}

impl Info {
    pub(super) fn to_record(&self) -> pb::MemberValue {
        pb::MemberValue {
            instance_id: self.instance_id.as_deref().unwrap_or_default().to_owned(),
            client_id: self.client_id.clone(),
            host: self.host.clone(),
            topics: self.subscription.topics.iter().map(|topic| topic.to_string()).collect(),
            pattern: self.subscription.pattern_source().to_owned(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
        }
    }

    pub(super) fn from_record(value: &pb::MemberValue) -> Result<Info, ReplayError> {
        let subscription = Subscription::parse(&value.topics, &value.pattern)
            .map_err(|_| ReplayError::Malformed("pattern"))?;
        let instance_id = value.instance_id.as_str();
        Ok(Info {
            instance_id: (!instance_id.is_empty()).then(|| instance_id.into()),
            client_id: value.client_id.clone(),
            host: value.host.clone(),
            subscription,
            session_timeout_ms: value.session_timeout_ms,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
        })
    }
}

impl Target {
    pub(super) fn to_record(&self) -> pb::TargetValue {
        let partitions = self.partitions.iter().map(|(partition, id)| (partition, *id, 0));
        pb::TargetValue { epoch: self.epoch, partitions: assigned_to_wire(partitions) }
    }

    pub(super) fn from_record(value: &pb::TargetValue) -> Result<Target, ReplayError> {
        let partitions = assigned_from_wire(&value.partitions)?
            .into_iter()
            .map(|(partition, held)| (partition, held.topic_id))
            .collect();
        Ok(Target { epoch: value.epoch, partitions })
    }
}

impl Current {
    pub(super) fn to_record(&self) -> pb::CurrentValue {
        pb::CurrentValue {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            assigned: held_to_wire(&self.assigned),
            revoking: held_to_wire(&self.revoking),
        }
    }

    pub(super) fn from_record(value: &pb::CurrentValue) -> Result<Current, ReplayError> {
        Ok(Current {
            epoch: value.epoch,
            previous_epoch: value.previous_epoch,
            assigned: assigned_from_wire(&value.assigned)?,
            revoking: assigned_from_wire(&value.revoking)?,
        })
    }
}

fn held_to_wire(held: &BTreeMap<GroupPartition, Held>) -> Vec<pb::AssignedPartitions> {
    assigned_to_wire(held.iter().map(|(partition, held)| (partition, held.topic_id, held.epoch)))
}

/// In order, so that those of one topic come together.
fn assigned_to_wire<'a>(
    partitions: impl Iterator<Item = (&'a GroupPartition, TopicId, u32)>,
) -> Vec<pb::AssignedPartitions> {
    let mut topics: Vec<pb::AssignedPartitions> = Vec::new();
    for (partition, id, epoch) in partitions {
        let number = number_to_wire(partition.partition);
        let one = pb::AssignedPartition { partition: number, epoch };
        match topics.last_mut() {
            Some(last) if last.topic == *partition.topic && last.topic_id == id.as_bytes()[..] => {
                last.partitions.push(one);
            }
            _ => topics.push(pb::AssignedPartitions {
                topic: partition.topic.to_string(),
                topic_id: id.to_wire(),
                partitions: vec![one],
            }),
        }
    }
    topics
}

fn assigned_from_wire(
    topics: &[pb::AssignedPartitions],
) -> Result<BTreeMap<GroupPartition, Held>, ReplayError> {
    let mut held = BTreeMap::new();
    for topic in topics {
        let (name, topic_id): (Arc<str>, _) =
            (topic.topic.as_str().into(), topic_id(&topic.topic_id)?);
        for one in &topic.partitions {
            let partition = partition_id(one.partition)?;
            let key = GroupPartition { topic: Arc::clone(&name), partition };
            held.insert(key, Held { topic_id, epoch: one.epoch });
        }
    }
    Ok(held)
}

/// In order, so that those of one topic come together.
pub(super) fn topic_partitions<'a>(
    partitions: impl Iterator<Item = (&'a GroupPartition, TopicId)>,
) -> Vec<pb::TopicPartitions> {
    let mut topics: Vec<pb::TopicPartitions> = Vec::new();
    for (partition, id) in partitions {
        let number = number_to_wire(partition.partition);
        match topics.last_mut() {
            Some(last) if last.topic == *partition.topic && last.topic_id == id.as_bytes()[..] => {
                last.partitions.push(number);
            }
            _ => topics.push(pb::TopicPartitions {
                topic: partition.topic.to_string(),
                topic_id: id.to_wire(),
                partitions: vec![number],
            }),
        }
    }
    topics
}

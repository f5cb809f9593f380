//! The records of `__consumer_offsets` as JSON, in the shape of Kafka's formatters (G4).
//!
//! ```text
//! {"key":{"type":"offset_commit","version":1,"data":{"group":"g","topic":"t","partition":0}},
//!  "value":{"version":1,"data":{"offset":42,"leaderEpoch":0,"metadata":"","commitTimestamp":1790000000000}}}
//! ```
//! A value of null takes back what its key said. Types: `offset_commit`, `group_metadata`, `member_metadata`,
//! `target_assignment`, `current_assignment`, `pending_offset` (of a transaction that is open) and `transactional_producer`
//! (what its markers said last), which Kafka has as batches.

use prost::Message;
use serde_json::{Map, Value, json};
use troupe_proto::ids::TopicId;
use troupe_proto::log::v1::group_record_key::Of as KeyOf;
use troupe_proto::log::v1::group_record_value::Of as ValueOf;
use troupe_proto::log::v1::{AssignedPartitions, GroupRecordKey, GroupRecordValue, OffsetValue};

/// Of keys and values: there has been no other.
const VERSION: u32 = 1;

/// A record as one JSON document.
///
/// # Errors
/// What is wrong with it, if it is no record of `__consumer_offsets`.
pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Value, String> {
    let key = key.ok_or("it has no key")?;
    let key = GroupRecordKey::decode(key).map_err(|error| format!("its key: {error}"))?;
    let value = match value {
        None => Value::Null,
        Some(bytes) => {
            let value =
                GroupRecordValue::decode(bytes).map_err(|error| format!("its value: {error}"))?;
            let value = value.of.ok_or("its value is of no known type")?;
            json!({ "version": VERSION, "data": value_data(value) })
        }
    };
    let (name, data) = key_data(key)?;
    Ok(json!({ "key": { "type": name, "version": VERSION, "data": data }, "value": value }))
}

/// The type and the facts of a key.
fn key_data(key: GroupRecordKey) -> Result<(&'static str, Value), &'static str> {
    let group = key.group_id;
    let of_member = |member: &str| json!({ "group": group, "memberId": member });
    Ok(match key.of.ok_or("its key is of no known type")? {
        KeyOf::Group(_) => ("group_metadata", json!({ "group": group })),
        KeyOf::Member(member) => ("member_metadata", of_member(&member.member_id)),
        KeyOf::Target(member) => ("target_assignment", of_member(&member.member_id)),
        KeyOf::Current(member) => ("current_assignment", of_member(&member.member_id)),
        KeyOf::Offset(offset) => {
            let (topic, partition) = (offset.topic, offset.partition);
            let data = json!({ "group": group, "topic": topic, "partition": partition });
            ("offset_commit", data)
        }
        KeyOf::PendingOffset(key) => {
            let (producer, topic, partition) = (key.producer_id, key.topic, key.partition);
            let data = json!({ "group": group, "producerId": producer, "topic": topic,
                "partition": partition });
            ("pending_offset", data)
        }
        KeyOf::Producer(key) => {
            ("transactional_producer", json!({ "producerId": key.producer_id }))
        }
    })
}

fn value_data(value: ValueOf) -> Value {
    match value {
        ValueOf::Group(group) => json!({
            "epoch": group.epoch,
            "assignor": group.assignor,
            "emptySince": group.empty_since_ms,
        }),
        ValueOf::Member(member) => json!({
            "instanceId": member.instance_id,
            "clientId": member.client_id,
            "clientHost": member.host,
            "subscribedTopicNames": member.topics,
            "subscribedTopicRegex": member.pattern,
            "sessionTimeoutMs": member.session_timeout_ms,
            "rebalanceTimeoutMs": member.rebalance_timeout_ms,
        }),
        ValueOf::Target(target) => json!({
            "assignmentEpoch": target.epoch,
            "topicPartitions": assigned(&target.partitions, false),
        }),
        ValueOf::Current(current) => json!({
            "memberEpoch": current.epoch,
            "previousMemberEpoch": current.previous_epoch,
            "assignedPartitions": assigned(&current.assigned, true),
            "partitionsPendingRevocation": assigned(&current.revoking, true),
        }),
        ValueOf::Offset(offset) => offset_data(offset),
        ValueOf::PendingOffset(pending) => json!({
            "producerEpoch": pending.producer_epoch,
            "number": pending.number,
            "offset": pending.offset.map(offset_data),
        }),
        ValueOf::Producer(producer) => json!({
            "producerEpoch": producer.producer_epoch,
            "coordinatorEpoch": producer.coordinator_epoch,
            "clientVersion": producer.client_version,
            "updateTimestamp": producer.update_time_ms,
        }),
    }
}

fn offset_data(offset: OffsetValue) -> Value {
    let mut data = json!({
        "offset": offset.offset,
        "leaderEpoch": offset.leader_epoch.map_or(-1, i64::from),
        "metadata": offset.metadata,
        "commitTimestamp": offset.commit_timestamp_ms,
    });
    if let (Some(topic_id), Some(data)) = (topic_id(&offset.topic_id), data.as_object_mut()) {
        data.insert("topicId".to_owned(), topic_id);
    }
    data
}

/// `epochs`: also the member's epoch when it got each partition, in the order of the partitions.
fn assigned(topics: &[AssignedPartitions], epochs: bool) -> Vec<Value> {
    let view = |topic: &AssignedPartitions| {
        let mut view = Map::new();
        if let Some(topic_id) = topic_id(&topic.topic_id) {
            view.insert("topicId".to_owned(), topic_id);
        }
        view.insert("topic".to_owned(), json!(topic.topic));
        let numbers: Vec<i32> = topic.partitions.iter().map(|at| at.partition).collect();
        view.insert("partitions".to_owned(), json!(numbers));
        if epochs {
            let epochs: Vec<u32> = topic.partitions.iter().map(|at| at.epoch).collect();
            view.insert("assignmentEpochs".to_owned(), json!(epochs));
        }
        Value::Object(view)
    };
    topics.iter().map(view).collect()
}

fn topic_id(bytes: &[u8]) -> Option<Value> {
    TopicId::from_wire(bytes).map(|id| json!(id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use troupe_proto::log::v1::{
        AssignedPartition, CurrentValue, GroupKey, GroupValue, MemberKey, MemberValue, OffsetKey,
        PendingOffsetKey, PendingOffsetValue, TargetValue, TransactionalProducerKey,
        TransactionalProducerValue,
    };

    fn line(key: KeyOf, value: Option<ValueOf>) -> String {
        let key = GroupRecordKey { group_id: "g".into(), of: Some(key) }.encode_to_vec();
        let value = value.map(|of| GroupRecordValue { of: Some(of) }.encode_to_vec());
        decode(Some(&key), value.as_deref()).unwrap().to_string()
    }

    fn offset_key() -> KeyOf {
        KeyOf::Offset(OffsetKey { topic: "t".into(), partition: 3 })
    }

    fn member_key() -> MemberKey {
        MemberKey { member_id: "c-1".into() }
    }

    /// G3, G4.
    #[test]
    fn a_committed_offset_has_the_shape_of_kafka_s_formatter() {
        let value = OffsetValue {
            offset: 42,
            leader_epoch: Some(7),
            metadata: "m".into(),
            commit_timestamp_ms: 1_790_000_000_000,
            ..OffsetValue::default()
        };
        assert_eq!(
            line(offset_key(), Some(ValueOf::Offset(value.clone()))),
            r#"{"key":{"type":"offset_commit","version":1,"data":{"group":"g","topic":"t","partition":3}},"value":{"version":1,"data":{"offset":42,"leaderEpoch":7,"metadata":"m","commitTimestamp":1790000000000}}}"#
        );
        let unknown = OffsetValue { leader_epoch: None, ..value };
        let unknown = line(offset_key(), Some(ValueOf::Offset(unknown)));
        assert!(unknown.contains(r#""leaderEpoch":-1"#), "{unknown}");
    }

    /// G3: a null value takes the offset back.
    #[test]
    fn a_tombstone_has_a_null_value() {
        assert_eq!(
            line(offset_key(), None),
            r#"{"key":{"type":"offset_commit","version":1,"data":{"group":"g","topic":"t","partition":3}},"value":null}"#
        );
    }

    #[test]
    fn groups_members_and_assignments_have_types_of_their_own() {
        let topic_id = TopicId::random();
        let partitions = vec![AssignedPartitions {
            topic: "t".into(),
            topic_id: topic_id.to_wire(),
            partitions: vec![
                AssignedPartition { partition: 0, epoch: 4 },
                AssignedPartition { partition: 2, epoch: 5 },
            ],
        }];
        let group = GroupValue { epoch: 5, assignor: "range".into(), empty_since_ms: None };
        assert_eq!(
            line(KeyOf::Group(GroupKey {}), Some(ValueOf::Group(group))),
            r#"{"key":{"type":"group_metadata","version":1,"data":{"group":"g"}},"value":{"version":1,"data":{"epoch":5,"assignor":"range","emptySince":null}}}"#
        );
        let member = MemberValue { topics: vec!["t".into()], ..MemberValue::default() };
        let member = line(KeyOf::Member(member_key()), Some(ValueOf::Member(member)));
        assert!(member.contains(r#""type":"member_metadata""#), "{member}");
        assert!(member.contains(r#""memberId":"c-1""#), "{member}");
        assert!(member.contains(r#""subscribedTopicNames":["t"]"#), "{member}");
        let target = TargetValue { epoch: 5, partitions: partitions.clone() };
        let target = line(KeyOf::Target(member_key()), Some(ValueOf::Target(target)));
        assert!(target.contains(r#""type":"target_assignment""#), "{target}");
        assert!(
            target.contains(&format!(
                r#""topicPartitions":[{{"topicId":"{topic_id}","topic":"t","partitions":[0,2]}}]"#
            )),
            "{target}"
        );
        let current = CurrentValue {
            epoch: 5,
            previous_epoch: 4,
            assigned: partitions,
            revoking: Vec::new(),
        };
        let current = line(KeyOf::Current(member_key()), Some(ValueOf::Current(current)));
        assert!(current.contains(r#""type":"current_assignment""#), "{current}");
        assert!(current.contains(r#""assignmentEpochs":[4,5]"#), "{current}");
        assert!(current.contains(r#""partitionsPendingRevocation":[]"#), "{current}");
    }

    #[test]
    fn what_is_pending_and_whose_it_is_have_types_of_their_own() {
        let key = PendingOffsetKey { producer_id: 5, topic: "t".into(), partition: 3 };
        let offset = OffsetValue { offset: 42, ..OffsetValue::default() };
        let pending = PendingOffsetValue { producer_epoch: 2, number: 7, offset: Some(offset) };
        let pending = line(KeyOf::PendingOffset(key), Some(ValueOf::PendingOffset(pending)));
        assert_eq!(
            pending,
            r#"{"key":{"type":"pending_offset","version":1,"data":{"group":"g","producerId":5,"topic":"t","partition":3}},"value":{"version":1,"data":{"producerEpoch":2,"number":7,"offset":{"offset":42,"leaderEpoch":-1,"metadata":"","commitTimestamp":0}}}}"#
        );
        let heard = TransactionalProducerValue {
            producer_epoch: 3,
            coordinator_epoch: 1,
            client_version: 2,
            update_time_ms: 9,
        };
        let key = KeyOf::Producer(TransactionalProducerKey { producer_id: 5 });
        assert_eq!(
            line(key, Some(ValueOf::Producer(heard))),
            r#"{"key":{"type":"transactional_producer","version":1,"data":{"producerId":5}},"value":{"version":1,"data":{"producerEpoch":3,"coordinatorEpoch":1,"clientVersion":2,"updateTimestamp":9}}}"#
        );
    }

    #[test]
    fn what_is_no_record_of_it_is_told_so() {
        assert!(decode(None, None).unwrap_err().contains("no key"));
        assert!(decode(Some(b"\xff\xff"), None).unwrap_err().contains("key"));
        assert!(decode(Some(b""), None).unwrap_err().contains("no known type"));
        let key = GroupRecordKey { group_id: "g".into(), of: Some(offset_key()) }.encode_to_vec();
        assert!(decode(Some(&key), Some(b"")).unwrap_err().contains("its value"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(key: Vec<u8>, value: Option<Vec<u8>>) {
            let _ = decode(Some(&key), value.as_deref());
        }
    }
}

//! The records of `__transaction_state` as JSON, in the shape of Kafka's formatter (X2).
//!
//! ```text
//! {"key":{"type":"transaction_log","version":1,"data":{"transactionalId":"t"}},
//!  "value":{"version":1,"data":{"producerId":7,"producerEpoch":3,"transactionStatus":1,"transactionState":"ONGOING",…}}}
//! ```
//! A value of null: the transactional id has expired.

use prost::Message;
use serde_json::{Value, json};
use troupe_proto::ids::TopicId;
use troupe_proto::log::v1::transaction_record_key::Of as KeyOf;
use troupe_proto::log::v1::{TransactionRecordKey, TransactionRecordValue, TransactionTopic};

/// Of keys: there has been no other.
const VERSION: u32 = 1;
/// By their numbers.
const STATES: [&str; 6] =
    ["EMPTY", "ONGOING", "PREPARE_COMMIT", "PREPARE_ABORT", "COMPLETE_COMMIT", "COMPLETE_ABORT"];

/// A record as one JSON document.
///
/// # Errors
/// What is wrong with it, if it is no record of `__transaction_state`.
pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Value, String> {
    let key = key.ok_or("it has no key")?;
    let key = TransactionRecordKey::decode(key).map_err(|error| format!("its key: {error}"))?;
    let KeyOf::TransactionalId(id) = key.of.ok_or("its key is of no known type")?;
    let value = match value {
        None => Value::Null,
        Some(bytes) => {
            let value = TransactionRecordValue::decode(bytes);
            let value = value.map_err(|error| format!("its value: {error}"))?;
            json!({ "version": value.version, "data": value_data(&value) })
        }
    };
    let data = json!({ "transactionalId": id });
    let key = json!({ "type": "transaction_log", "version": VERSION, "data": data });
    Ok(json!({ "key": key, "value": value }))
}

fn value_data(value: &TransactionRecordValue) -> Value {
    let or_minus_one = |id: u64| if id == 0 { json!(-1) } else { json!(id) };
    let topic = |topic: &TransactionTopic| {
        let id = TopicId::from_wire(&topic.topic_id).map(|id| id.to_string());
        json!({ "topic": topic.topic, "topicId": id, "partitionIds": topic.partitions })
    };
    json!({
        "producerId": value.producer_id,
        "producerEpoch": value.producer_epoch,
        "previousProducerId": or_minus_one(value.previous_producer_id),
        "nextProducerId": or_minus_one(value.next_producer_id),
        "lastProducerEpoch": value.last_producer_epoch.map_or(-1, i64::from),
        "transactionTimeoutMs": value.timeout_ms,
        "transactionStatus": value.state,
        "transactionState": STATES.get(value.state as usize),
        "transactionPartitions": value.topics.iter().map(topic).collect::<Vec<_>>(),
        "transactionLastUpdateTimestampMs": value.update_time_ms,
        "transactionStartTimestampMs": value.start_time_ms.unwrap_or(-1),
        "clientTransactionVersion": value.client_version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Vec<u8> {
        let of = Some(KeyOf::TransactionalId("t".into()));
        TransactionRecordKey { of }.encode_to_vec()
    }

    #[test]
    fn a_transaction_has_the_words_of_kafka_s_formatter() {
        let id = TopicId::from_wire(&[7; 16]).unwrap();
        let topic = TransactionTopic {
            topic: "orders".into(),
            topic_id: id.to_wire(),
            partitions: vec![0, 3],
        };
        let value = TransactionRecordValue {
            version: 1,
            state: 1,
            producer_id: 7,
            producer_epoch: 3,
            last_producer_epoch: Some(2),
            timeout_ms: 60_000,
            client_version: 2,
            start_time_ms: Some(1_790_000_000_000),
            update_time_ms: 1_790_000_000_001,
            topics: vec![topic],
            ..TransactionRecordValue::default()
        };
        let told = decode(Some(&key()), Some(&value.encode_to_vec())).unwrap();
        assert_eq!(told["key"]["data"], json!({ "transactionalId": "t" }));
        let expected = json!({
            "producerId": 7,
            "producerEpoch": 3,
            "previousProducerId": -1,
            "nextProducerId": -1,
            "lastProducerEpoch": 2,
            "transactionTimeoutMs": 60_000,
            "transactionStatus": 1,
            "transactionState": "ONGOING",
            "transactionPartitions":
                [{ "topic": "orders", "topicId": id.to_string(), "partitionIds": [0, 3] }],
            "transactionLastUpdateTimestampMs": 1_790_000_000_001_i64,
            "transactionStartTimestampMs": 1_790_000_000_000_i64,
            "clientTransactionVersion": 2,
        });
        assert_eq!(told["value"], json!({ "version": 1, "data": expected }));
    }

    #[test]
    fn an_id_that_has_expired_has_no_value_and_another_record_is_refused() {
        assert_eq!(decode(Some(&key()), None).unwrap()["value"], Value::Null);
        assert!(decode(None, None).is_err() && decode(Some(b""), None).is_err());
        assert!(decode(Some(b"\xff"), None).is_err());
    }
}

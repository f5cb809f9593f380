//! What stands in the records of the metadata log, as JSON: with the shape that Kafka's tool gives its own, and the
//! names of the contract in proto JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Value, json};
use troupe_proto::ids::TopicId;
use troupe_proto::internal::v1::MetadataRecord;

/// There has been one so far.
const VERSION: u32 = 0;
const RECORD: &str = "troupe.internal.v1.MetadataRecord";

/// Knows the records.
pub struct MetadataRecords {
    descriptor: MessageDescriptor,
}

impl MetadataRecords {
    /// # Errors
    /// This binary's own description of the contract is unsound.
    pub fn new() -> Result<MetadataRecords, String> {
        let pool = DescriptorPool::decode(troupe_proto::FILE_DESCRIPTOR_SET);
        let pool = pool.map_err(|error| error.to_string())?;
        let descriptor = pool.get_message_by_name(RECORD).ok_or("the record is not described")?;
        Ok(MetadataRecords { descriptor })
    }

    /// A record as one JSON document: its type, and what it says.
    ///
    /// # Errors
    /// It is of a kind that this version does not know.
    pub fn show(&self, record: &MetadataRecord) -> Result<Value, String> {
        let bytes = record.encode_to_vec();
        let decoded = DynamicMessage::decode(self.descriptor.clone(), bytes.as_slice());
        let decoded = decoded.map_err(|error| error.to_string())?;
        let options =
            SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(false);
        let fields = decoded
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|error| error.to_string())?;
        let Value::Object(fields) = fields else { return Err("it is no record".to_owned()) };
        let (kind, mut data) = fields.into_iter().next().ok_or("its type is not known")?;
        show_ids(&mut data);
        Ok(json!({ "type": type_name(&kind), "version": VERSION, "data": data }))
    }
}

/// As Kafka calls them, where it has them.
fn type_name(field: &str) -> String {
    match field {
        "broker" => "REGISTER_BROKER_RECORD".to_owned(),
        "brokerFencing" => "BROKER_REGISTRATION_CHANGE_RECORD".to_owned(),
        "brokerRemoval" => "UNREGISTER_BROKER_RECORD".to_owned(),
        "topicRemoval" => "REMOVE_TOPIC_RECORD".to_owned(),
        other => {
            let mut name = String::new();
            for character in other.chars() {
                if character.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(character.to_ascii_uppercase());
            }
            name + "_RECORD"
        }
    }
}

/// Ids of topics as they are shown everywhere: proto JSON has bytes in base64.
fn show_ids(data: &mut Value) {
    let Value::Object(fields) = data else { return };
    if let Some(id) = fields.get_mut("topicId")
        && let Some(bytes) = id.as_str().and_then(|text| STANDARD.decode(text).ok())
        && let Some(topic_id) = TopicId::from_wire(&bytes)
    {
        *id = json!(topic_id.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::internal::v1::metadata_record::Record;
    use troupe_proto::internal::v1::{ClusterRecord, TopicRecord, TopicRemovalRecord};

    fn shown(record: Record) -> String {
        let record = MetadataRecord { record: Some(record) };
        MetadataRecords::new().unwrap().show(&record).unwrap().to_string()
    }

    #[test]
    fn a_record_of_the_metadata_log_has_the_shape_of_kafka_s() {
        let id = TopicId::random();
        let topic = TopicRecord { topic_id: id.to_wire(), name: "orders".to_owned() };
        assert_eq!(
            shown(Record::Topic(topic)),
            format!(
                r#"{{"type":"TOPIC_RECORD","version":0,"data":{{"topicId":"{id}","name":"orders"}}}}"#
            )
        );
        let removal = TopicRemovalRecord { topic_id: id.to_wire() };
        assert!(shown(Record::TopicRemoval(removal)).contains("REMOVE_TOPIC_RECORD"));
        let cluster = ClusterRecord { cluster_id: "c".to_owned(), ..ClusterRecord::default() };
        assert_eq!(
            shown(Record::Cluster(cluster)),
            r#"{"type":"CLUSTER_RECORD","version":0,"data":{"clusterId":"c","metadataVersion":0}}"#
        );
        assert!(MetadataRecords::new().unwrap().show(&MetadataRecord { record: None }).is_err());
    }
}

//! What stands in the records of internal topics, as JSON: which decoders there are.

use crate::{group_records, transaction_records};
use clap::ValueEnum;
use serde_json::Value;
use troupe_proto::batch::RecordRef;

/// What the records of an internal topic are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Decoder {
    /// Committed offsets and groups, as in `__consumer_offsets`
    #[value(alias = "groups")]
    Offsets,
    /// Transactions, as in `__transaction_state`
    Transactions,
}

impl Decoder {
    /// A record as one JSON document.
    ///
    /// # Errors
    /// What is wrong with a record that is of another kind.
    pub fn decode(self, record: &RecordRef<'_>) -> Result<Value, String> {
        let (topic, decoded) = match self {
            Decoder::Offsets => {
                ("__consumer_offsets", group_records::decode(record.key, record.value))
            }
            Decoder::Transactions => {
                ("__transaction_state", transaction_records::decode(record.key, record.value))
            }
        };
        decoded.map_err(|cause| {
            format!("the record at offset {} is none of {topic}: {cause}", record.offset)
        })
    }
}

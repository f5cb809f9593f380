//! What stands in the records of internal topics, as JSON: which decoders there are.

use crate::{group_records, transaction_records};
use clap::ValueEnum;
use serde_json::Value;
use troupe_proto::batch::RecordRef;
use troupe_proto::ids::Offset;

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
        self.decode_parts(record.offset, record.key, record.value)
    }

    /// The same of what stands in one.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_parts(
        self,
        offset: Offset,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Value, String> {
        let (topic, decoded) = match self {
            Decoder::Offsets => ("__consumer_offsets", group_records::decode(key, value)),
            Decoder::Transactions => {
                ("__transaction_state", transaction_records::decode(key, value))
            }
        };
        decoded
            .map_err(|cause| format!("the record at offset {offset} is none of {topic}: {cause}"))
    }
}

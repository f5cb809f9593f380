//! I16: every byte that is given out passed its checksums, which cover offset, epoch and partition.

use crate::violation::{Checked, Violation};
use bytes::Bytes;
use troupe_proto::batch::{BatchError, BatchHeader, Batches, Limits, RecordSet};
use troupe_proto::ids::PartitionKey;

/// The headers of the batches, all of whose records can be read.
pub fn checksums_hold(key: &PartitionKey, bytes: Bytes) -> Checked<Vec<BatchHeader>> {
    let corrupt = |error: BatchError| Violation::new("I16 checksums hold", error.to_string());
    let mut headers = Vec::new();
    for batch in Batches::verified(bytes, *key) {
        let (header, payload) = batch.map_err(corrupt)?;
        let records = RecordSet::decode(&header, payload, Limits::default()).map_err(corrupt)?;
        for record in records.iter() {
            record.map_err(corrupt)?;
        }
        headers.push(header);
    }
    Ok(headers)
}

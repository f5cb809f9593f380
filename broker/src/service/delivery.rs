//! Records as clients of the thin API get them.

use crate::forward::Slice;
use troupe_proto::batch::{BatchError, Batches, Limits, Record, RecordSet, Records};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::v1 as pb;

/// The records of a slice that were asked for, in order; an error is the last.
pub(super) struct SliceRecords {
    batches: Batches,
    records: Option<Records>,
    from: Offset,
    end: Option<Offset>,
    failed: bool,
}

impl SliceRecords {
    pub fn new(slice: Slice) -> Self {
        let batches = Batches::verified(slice.bytes, slice.target.key);
        Self { batches, records: None, from: slice.from, end: slice.end, failed: false }
    }

    fn fail(&mut self, error: &BatchError) -> Option<Result<Record, Error>> {
        self.failed = true;
        let message = format!("stored data is damaged: {error}");
        Some(Err(Error::new(ErrorCode::CorruptLog, message)))
    }
}

impl Iterator for SliceRecords {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.records.as_mut().and_then(Iterator::next) {
                Some(Ok(record)) => {
                    let asked = record.offset >= self.from
                        && self.end.is_none_or(|end| record.offset < end);
                    if asked {
                        return Some(Ok(record));
                    }
                }
                Some(Err(error)) => return self.fail(&error),
                None => {
                    let decoded = self.batches.next()?.and_then(|(header, payload)| {
                        RecordSet::decode(&header, payload, Limits::default())
                    });
                    match decoded {
                        Ok(records) => self.records = Some(records.records()),
                        Err(error) => return self.fail(&error),
                    }
                }
            }
        }
        None
    }
}

/// A record as it is delivered, where nobody acknowledges.
pub(super) fn delivery(topic: String, partition: i32, record: Record) -> pb::Delivery {
    let headers = record.headers.into_iter().map(|(key, value)| pb::Header { key, value });
    pb::Delivery {
        topic,
        partition,
        offset: record.offset.to_wire(),
        ack_id: String::new(),
        attempt: 0,
        record: Some(pb::Record {
            key: record.key,
            value: record.value,
            headers: headers.collect(),
            timestamp_ms: Some(record.timestamp_ms),
            partition: None,
        }),
    }
}

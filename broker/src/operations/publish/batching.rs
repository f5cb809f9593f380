//! Records become batches that their topic takes.
//!
//! Promises: a request whose records cannot all be appended is refused before any of them is sent; each batch fits
//! into the topic's `max.message.bytes` and `segment.bytes`, however many records come together.

use super::record::Record;
use crate::clock::wall_clock;
use crate::forward::{Batch, Target};
use crate::registry::TopicEntry;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use troupe_proto::batch::{Compression, OVERHEAD, RecordSetBuilder};
use troupe_proto::error::{Error, ErrorCode, MAX_RECORDS, RecordError};
use troupe_proto::partitioner::partition_of_key;

/// Records of one partition are cut into batches of about this size, or less if the topic takes less.
const BATCH_BYTES: usize = 512 << 10;

/// A batch to be sent, and which records it holds, in order, with their timestamps. Records are counted over all
/// requests that were joined.
pub struct BatchedRecords {
    pub target: Target,
    pub batch: Batch,
    pub records: Vec<(usize, i64)>,
}

/// Takes requests, gives batches.
pub struct Batcher<'t> {
    topic: &'t TopicEntry,
    partition_count: u32,
    /// For records without a key.
    unkeyed: i32,
    clock: i64,
    timestamps: RangeInclusive<i64>,
    limit: Limit,
    filling: BTreeMap<i32, Filling>,
    full: Vec<BatchedRecords>,
    /// Records so far.
    count: usize,
}

/// What a batch may take, framing and all.
#[derive(Clone, Copy)]
struct Limit {
    bytes: usize,
    key: &'static str,
}

impl Limit {
    fn of(topic: &TopicEntry) -> Self {
        let (message, segment) = (topic.config().max_message_bytes, topic.config().segment_bytes);
        let (bytes, key) = match message <= segment {
            true => (message, "max.message.bytes"),
            false => (segment, "segment.bytes"),
        };
        Self { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), key }
    }
}

/// A batch being filled.
struct Filling {
    keyless: bool,
    builder: RecordSetBuilder,
    records: Vec<(usize, i64)>,
}

impl Filling {
    fn new() -> Self {
        Self { keyless: false, builder: RecordSetBuilder::new(), records: Vec::new() }
    }

    fn push(&mut self, index: usize, record: &impl Record, timestamp: i64) {
        let (key, value) = (record.key(), record.value());
        self.keyless |= key.is_none();
        self.builder.push_with(timestamp, key, value, record.headers());
        self.records.push((index, timestamp));
    }

    fn finish(self, target: Target) -> Result<BatchedRecords, Error> {
        let built = self
            .builder
            .finish(Compression::None, None)
            .map_err(|error| Error::new(error.code(), error.to_string()))?;
        Ok(BatchedRecords { target, batch: Batch::new(built, self.keyless), records: self.records })
    }
}

/// Bytes by which the record makes a batch longer.
fn len_in(builder: &RecordSetBuilder, record: &impl Record, timestamp: i64) -> usize {
    builder.encoded_len_with(timestamp, record.key(), record.value(), record.headers())
}

impl<'t> Batcher<'t> {
    pub fn new(topic: &'t TopicEntry) -> Self {
        let partition_count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let unkeyed = rand::random_range(0..partition_count.max(1));
        let clock = wall_clock().as_timestamp();
        Self {
            topic,
            partition_count,
            unkeyed: i32::try_from(unkeyed).unwrap_or(0),
            clock,
            timestamps: topic.config().timestamps_taken(clock),
            limit: Limit::of(topic),
            filling: BTreeMap::new(),
            full: Vec::new(),
            count: 0,
        }
    }

    /// Adds the records of one request: all of them, or none.
    ///
    /// # Errors
    /// Why the first of those that cannot be appended cannot, and which they are.
    pub fn add(&mut self, records: &[impl Record]) -> Result<(), Error> {
        let places: Vec<_> = records.iter().map(|record| self.place(record)).collect();
        if places.iter().any(Result::is_err) {
            return Err(naming_records(places));
        }
        for (record, partition) in records.iter().zip(places) {
            self.push(record, partition?)?;
        }
        Ok(())
    }

    /// The partition of a record that can be appended.
    fn place(&self, record: &impl Record) -> Result<i32, Error> {
        self.check(record)?;
        match (record.partition(), record.key()) {
            (Some(partition), _) => self.topic.partition(partition).map(|_| partition),
            (None, Some(key)) => {
                Ok(i32::try_from(partition_of_key(key, self.partition_count).0).unwrap_or(0))
            }
            (None, None) => Ok(self.unkeyed),
        }
    }

    fn check(&self, record: &impl Record) -> Result<(), Error> {
        let timestamp = record.timestamp_ms().unwrap_or(self.clock);
        let actual = OVERHEAD + len_in(&RecordSetBuilder::new(), record, timestamp);
        let Limit { bytes: limit, key } = self.limit;
        if actual > limit {
            let message =
                format!("a record of {actual} bytes is over the topic's {key} of {limit}");
            return Err(Error::new(ErrorCode::RecordTooLarge, message)
                .with("limit", limit)
                .with("actual", actual));
        }
        if self.topic.config().cleanup.compact && record.key().is_none() {
            let message =
                format!("topic `{}` is compacted: every record needs a key", self.topic.name);
            return Err(Error::new(ErrorCode::InvalidRecord, message));
        }
        // The leader's clock decides in the end.
        if record.timestamp_ms().is_some() && !self.timestamps.contains(&timestamp) {
            let (earliest, latest) = (self.timestamps.start(), self.timestamps.end());
            let message = format!("timestamp {timestamp} is not between {earliest} and {latest}");
            return Err(Error::new(ErrorCode::InvalidTimestamp, message)
                .with("actual", timestamp)
                .with("earliest", earliest)
                .with("latest", latest));
        }
        Ok(())
    }

    fn push(&mut self, record: &impl Record, partition: i32) -> Result<(), Error> {
        let timestamp = record.timestamp_ms().unwrap_or(self.clock);
        let room = BATCH_BYTES.min(self.limit.bytes.saturating_sub(OVERHEAD));
        let batch = self.filling.entry(partition).or_insert_with(Filling::new);
        let builder = &batch.builder;
        if !builder.is_empty() && builder.len() + len_in(builder, record, timestamp) > room {
            let full = std::mem::replace(batch, Filling::new());
            let target = target(self.topic, partition)?;
            self.full.push(full.finish(target)?);
        }
        // It was there a moment ago.
        let batch = self.filling.entry(partition).or_insert_with(Filling::new);
        batch.push(self.count, record, timestamp);
        self.count += 1;
        Ok(())
    }

    pub fn topic_name(&self) -> &'t str {
        &self.topic.name
    }

    /// Records that were added.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// All batches, in order for each partition.
    pub fn finish(self) -> Result<Vec<BatchedRecords>, Error> {
        let mut batches = self.full;
        for (partition, batch) in self.filling {
            batches.push(batch.finish(target(self.topic, partition)?)?);
        }
        Ok(batches)
    }
}

/// The first refusal, and for which of the records.
fn naming_records(places: Vec<Result<i32, Error>>) -> Error {
    let (mut first, mut records, mut count) = (None, Vec::new(), 0);
    let refused = (0..).zip(places).filter_map(|(index, place)| Some((index, place.err()?)));
    for (index, error) in refused {
        count += 1;
        if records.len() < MAX_RECORDS {
            let message = error.message.clone();
            records.push(RecordError { index, reason: error.code.into(), message });
        }
        first.get_or_insert(error);
    }
    let unknown = || Error::new(ErrorCode::InvalidRecord, "a record cannot be appended");
    first.unwrap_or_else(unknown).of_records(records, count)
}

fn target(topic: &TopicEntry, partition: i32) -> Result<Target, Error> {
    let (key, _) = topic.partition(partition)?;
    Ok(Target { topic: Arc::clone(&topic.name), key })
}

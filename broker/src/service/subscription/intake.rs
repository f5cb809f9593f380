//! What a session reads: one slice at a time, of all its partitions.
//!
//! Damage is next for as long as its slice is in stock: it is not passed, and neither is what is behind it.

use crate::context::Context;
use crate::forward::{Failed, Slice, Target, TopicReader};
use crate::service::delivery::SliceRecords;
use futures::FutureExt;
use std::sync::Arc;
use troupe_proto::batch::Record;
use troupe_proto::error::Error;
use troupe_proto::ids::{Offset, PartitionKey};

pub(super) struct Intake {
    reader: TopicReader,
    stock: Option<Stock>,
}

/// A slice that is being delivered.
struct Stock {
    target: Target,
    /// None: the partition could not be read, as `first` says.
    records: Option<SliceRecords>,
    /// The next record, or the damage in its place, if it has been looked at. Damage stays.
    first: Option<Result<Record, Error>>,
    next: Offset,
}

/// What is next in stock.
pub(super) enum Next<'a> {
    /// Nothing has come.
    Nothing,
    Record(&'a Target, &'a Record),
    /// Everything before has been looked at.
    End(PartitionKey, Offset),
    /// Nothing more of the partition can be read.
    Damaged(PartitionKey, &'a Error),
}

impl Intake {
    pub fn new(context: &Arc<Context>) -> Intake {
        Intake { reader: TopicReader::new(Arc::clone(context)), stock: None }
    }

    /// Has a partition read from there on, or not at all.
    pub fn place(&mut self, target: Target, at: Option<Offset>) {
        self.stock.take_if(|stock| stock.target.key == target.key);
        match at {
            Some(at) => self.reader.add(target, at, None),
            None => self.reader.remove(&target.key),
        }
    }

    pub fn remove(&mut self, key: &PartitionKey) {
        self.stock.take_if(|stock| stock.target.key == *key);
        self.reader.remove(key);
    }

    /// Something could come.
    pub fn is_waiting(&self) -> bool {
        self.stock.is_none() && !self.reader.is_empty()
    }

    /// Waits until there is something. May be dropped at any time.
    pub async fn fill(&mut self) -> Result<(), Failed> {
        self.stock = self.reader.next().await?.map(Stock::new);
        Ok(())
    }

    /// Takes what is there already. False: nothing is.
    pub fn fill_now(&mut self) -> Result<bool, Failed> {
        if !self.is_waiting() {
            return Ok(false);
        }
        match self.fill().now_or_never() {
            Some(filled) => filled.map(|()| self.stock.is_some()),
            None => Ok(false),
        }
    }

    /// A partition cannot be read because of damage; nothing may be in stock.
    pub fn damaged(&mut self, target: Target, error: Error) {
        self.stock = Some(Stock::damaged(target, error));
    }

    pub fn next(&mut self) -> Next<'_> {
        self.stock.as_mut().map_or(Next::Nothing, Stock::next)
    }

    /// Takes the record that is next.
    pub fn take(&mut self) -> Option<Record> {
        self.stock.as_mut()?.take()
    }

    /// Takes the end of what was in stock.
    pub fn end(&mut self) {
        self.stock = None;
    }
}

impl Stock {
    fn new(slice: Slice) -> Stock {
        let (target, next) = (slice.target.clone(), slice.next);
        Stock { target, records: Some(SliceRecords::new(slice)), first: None, next }
    }

    fn damaged(target: Target, error: Error) -> Stock {
        Stock { target, records: None, first: Some(Err(error)), next: Offset::default() }
    }

    fn next(&mut self) -> Next<'_> {
        if self.first.is_none() {
            self.first = self.records.as_mut().and_then(Iterator::next);
        }
        match &self.first {
            Some(Ok(record)) => Next::Record(&self.target, record),
            Some(Err(error)) => Next::Damaged(self.target.key, error),
            None => Next::End(self.target.key, self.next),
        }
    }

    fn take(&mut self) -> Option<Record> {
        self.first.take_if(|first| first.is_ok())?.ok()
    }
}

/// What a record counts in the window.
pub(super) fn size_of(record: &Record) -> usize {
    let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let headers = record.headers.iter().map(|(key, value)| key.len() + len(value));
    len(&record.key) + len(&record.value) + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::batch::{Compression, RecordSetBuilder};
    use troupe_proto::error::ErrorCode;
    use troupe_proto::ids::{PartitionId, TopicId};

    fn target() -> Target {
        let key = PartitionKey {
            topic_id: TopicId::from_wire(&[7; 16]).unwrap(),
            partition: PartitionId(0),
        };
        Target { topic: "t".into(), key }
    }

    /// Batches of one record each; of one of them, one bit is another.
    fn stock(batches: u64, damaged: u64) -> Stock {
        let mut bytes = Vec::new();
        for offset in 0..batches {
            let mut records = RecordSetBuilder::new();
            records.push(1, None, Some(b"value"), &[]);
            let mut built = records.finish(Compression::None, None).unwrap();
            built.header.base_offset = Offset(offset);
            bytes.extend_from_slice(&built.header.encode(&target().key));
            bytes.extend_from_slice(&built.payload);
            if offset == damaged {
                *bytes.last_mut().unwrap() ^= 1;
            }
        }
        let next = Offset(batches);
        let bytes = bytes.into();
        let (target, from, end) = (target(), Offset(0), None);
        Stock::new(Slice { target, from, end, bytes, next, high_watermark: next })
    }

    /// The offsets that come, and how it ends: looked at twice, as whoever asks first may not take it.
    fn walk(stock: &mut Stock) -> (Vec<u64>, Result<Offset, ErrorCode>) {
        let mut offsets = Vec::new();
        loop {
            stock.next();
            match stock.next() {
                Next::Record(_, record) => offsets.push(record.offset.0),
                Next::End(_, next) => return (offsets, Ok(next)),
                Next::Damaged(_, error) => return (offsets, Err(error.code)),
                Next::Nothing => panic!("a stock has an end"),
            }
            assert!(stock.take().is_some());
        }
    }

    #[test]
    fn damage_stays_next_and_nothing_behind_it_is_passed() {
        for damaged in 0..3 {
            let mut stock = stock(3, damaged);
            let before: Vec<u64> = (0..damaged).collect();
            assert_eq!(walk(&mut stock), (before, Err(ErrorCode::CorruptLog)));
            assert!(stock.take().is_none(), "damage cannot be taken");
            assert_eq!(walk(&mut stock), (Vec::new(), Err(ErrorCode::CorruptLog)));
        }
        assert_eq!(walk(&mut stock(3, 3)), (vec![0, 1, 2], Ok(Offset(3))));
    }

    #[test]
    fn a_partition_that_cannot_be_read_stays_damaged() {
        let error = Error::new(ErrorCode::CorruptLog, "stored data is damaged");
        let mut stock = Stock::damaged(target(), error);
        for _ in 0..2 {
            assert_eq!(walk(&mut stock), (Vec::new(), Err(ErrorCode::CorruptLog)));
            assert!(stock.take().is_none());
        }
    }
}

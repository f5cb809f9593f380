//! What a session reads: one slice at a time, of all its partitions.

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
    records: SliceRecords,
    /// The next record, if it has been looked at.
    first: Option<Record>,
    next: Offset,
}

/// What is next in stock.
pub(super) enum Next<'a> {
    /// Nothing has come.
    Nothing,
    Record(&'a Target, &'a Record),
    /// Everything before has been looked at.
    End(PartitionKey, Offset),
    Damaged(Error),
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

    pub fn next(&mut self) -> Next<'_> {
        let Some(stock) = &mut self.stock else { return Next::Nothing };
        if stock.first.is_none() {
            match stock.records.next() {
                Some(Ok(record)) => stock.first = Some(record),
                Some(Err(error)) => return Next::Damaged(error),
                None => {}
            }
        }
        match &stock.first {
            Some(record) => Next::Record(&stock.target, record),
            None => Next::End(stock.target.key, stock.next),
        }
    }

    /// Takes the record that is next.
    pub fn take(&mut self) -> Option<Record> {
        self.stock.as_mut()?.first.take()
    }

    /// Takes the end of what was in stock.
    pub fn end(&mut self) {
        self.stock = None;
    }
}

impl Stock {
    fn new(slice: Slice) -> Stock {
        let (target, next) = (slice.target.clone(), slice.next);
        Stock { target, records: SliceRecords::new(slice), first: None, next }
    }
}

/// What a record counts in the window.
pub(super) fn size_of(record: &Record) -> usize {
    let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let headers = record.headers.iter().map(|(key, value)| key.len() + len(value));
    len(&record.key) + len(&record.value) + headers.sum::<usize>()
}

//! What a session reads: one slice at a time, of all its partitions.
//!
//! Damage is next for as long as its slice is in stock: it is not passed, and neither is what is behind it.

use crate::forward::{Failed, Leaders, Slice, Start, Target, TopicReader};
use crate::operations::delivery::{Choice, Found, SliceCursor, Step};
use crate::partition::Isolation;
use crate::unpacker::Unpacked;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use troupe_proto::batch::Batches;
use troupe_proto::error::Error;
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

pub struct Intake {
    leaders: Arc<Leaders>,
    reader: TopicReader,
    stock: Option<Stock>,
    /// Of what came, and was not asked for yet.
    epochs: Vec<(PartitionKey, LeaderEpoch, Offset)>,
}

/// A slice that is being delivered.
struct Stock {
    target: Target,
    content: Content,
    next: Offset,
    /// The batch that is next, on its way.
    unpacking: Option<BoxFuture<'static, Unpacked>>,
}

enum Content {
    Records(Box<SliceCursor>),
    /// The partition could not be read.
    Damage(Error),
}

/// What is next in stock.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<R> {
    /// Nothing has come.
    Nothing,
    /// A record.
    Seen(PartitionKey, R),
    /// A record of a batch that is being unpacked.
    Packed,
    /// Everything before has been looked at.
    End(PartitionKey, Offset),
    /// Nothing more of the partition can be read: see [`Intake::damage`].
    Damaged(PartitionKey),
}

/// What can be said of what is next without looking at it.
pub enum Outlook {
    Nothing,
    /// A record, and what it counts in the window, if that is known.
    Record(Option<usize>),
    /// That will be looked at when its batch has been unpacked.
    Unpacking,
    Damaged(PartitionKey),
}

impl Intake {
    pub fn new(leaders: Arc<Leaders>, isolation: Isolation) -> Intake {
        let reader = TopicReader::new(Arc::clone(&leaders), isolation);
        Intake { leaders, reader, stock: None, epochs: Vec::new() }
    }

    /// Has a partition read from there on, or not at all.
    pub fn place(&mut self, target: Target, at: Option<Start>) {
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

    /// What is next is on its way.
    pub fn is_unpacking(&self) -> bool {
        self.stock.as_ref().is_some_and(|stock| stock.unpacking.is_some())
    }

    /// Something could come.
    pub fn is_waiting(&self) -> bool {
        self.stock.is_none() && !self.reader.is_empty()
    }

    /// Waits until there is something, or what is next has been unpacked. May be dropped at any time.
    pub async fn go_on(&mut self) -> Result<(), Failed> {
        match &mut self.stock {
            Some(stock) => {
                stock.unpacked().await;
                Ok(())
            }
            None => self.fill().await,
        }
    }

    async fn fill(&mut self) -> Result<(), Failed> {
        let slice = self.reader.next().await?;
        if let Some(slice) = &slice {
            self.note_epochs(slice);
        }
        self.stock = slice.map(Stock::new);
        Ok(())
    }

    fn note_epochs(&mut self, slice: &Slice) {
        let key = slice.target.key;
        // Damage is found when the records are looked at.
        for (header, _) in Batches::new(slice.bytes.clone()).map_while(Result::ok) {
            let from = header.base_offset.max(slice.from);
            let goes_on = self.epochs.last().is_some_and(|(of, epoch, at)| {
                *of == key && *epoch == header.leader_epoch && *at <= from
            });
            if !goes_on {
                self.epochs.push((key, header.leader_epoch, from));
            }
        }
    }

    /// From where on which leader epoch's batches came, since this was last asked.
    pub fn take_epochs(&mut self) -> Vec<(PartitionKey, LeaderEpoch, Offset)> {
        std::mem::take(&mut self.epochs)
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

    pub fn damage(&self) -> Option<&Error> {
        match &self.stock.as_ref()?.content {
            Content::Records(cursor) => cursor.damage(),
            Content::Damage(error) => Some(error),
        }
    }

    pub fn outlook(&self) -> Outlook {
        let Some(stock) = &self.stock else { return Outlook::Nothing };
        match &stock.content {
            _ if stock.unpacking.is_some() => Outlook::Unpacking,
            Content::Records(cursor) if cursor.damage().is_none() => Outlook::Record(cursor.size()),
            Content::Records(_) | Content::Damage(_) => Outlook::Damaged(stock.target.key),
        }
    }

    /// Looks at what is next. What is packed is unpacked, at once or by [`Intake::unpacked`].
    pub fn visit<R>(
        &mut self,
        mut visit: impl FnMut(&Target, &Found<'_>) -> (Choice, R),
    ) -> Next<R> {
        let Some(stock) = &mut self.stock else { return Next::Nothing };
        let Stock { target, content, next, unpacking } = stock;
        let Content::Records(cursor) = content else { return Next::Damaged(target.key) };
        if unpacking.is_some() {
            return Next::Packed;
        }
        loop {
            match cursor.visit(&mut |found| visit(target, found)) {
                Step::Seen(seen) => return Next::Seen(target.key, seen),
                Step::End => return Next::End(target.key, *next),
                Step::Damaged => return Next::Damaged(target.key),
                Step::Packed => {
                    let Some(packed) = cursor.packed() else { continue };
                    match self.leaders.unpacker.now(&packed) {
                        Some(records) => cursor.unpacked(records),
                        None => {
                            let unpacker = Arc::clone(&self.leaders.unpacker);
                            let get = async move { unpacker.get(packed).await };
                            *unpacking = Some(get.boxed());
                            return Next::Packed;
                        }
                    }
                }
            }
        }
    }

    /// Lets go of what others may want the memory for, until something is looked at again.
    pub fn release(&mut self) {
        if let Some(Stock { content: Content::Records(cursor), .. }) = &mut self.stock {
            cursor.release();
        }
    }

    /// Takes the end of what was in stock.
    pub fn end(&mut self) {
        self.stock = None;
    }
}

impl Stock {
    fn new(slice: Slice) -> Stock {
        let (target, next) = (slice.target.clone(), slice.next);
        let content = Content::Records(Box::new(SliceCursor::new(slice)));
        Stock { target, content, next, unpacking: None }
    }

    fn damaged(target: Target, error: Error) -> Stock {
        let (content, next) = (Content::Damage(error), Offset::default());
        Stock { target, content, next, unpacking: None }
    }

    /// Returns when what is next has been unpacked; never, if it is not being unpacked.
    async fn unpacked(&mut self) {
        let Some(under_way) = &mut self.unpacking else { return std::future::pending().await };
        let records = under_way.await;
        self.unpacking = None;
        if let Content::Records(cursor) = &mut self.content {
            cursor.unpacked(records);
        }
    }
}

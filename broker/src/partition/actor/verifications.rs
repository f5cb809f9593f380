//! Batches that wait for the coordinator's word on a transaction that opens here, or for the marker of the one before.

use crate::partition::messages::Append;
use actix::SpawnHandle;
use std::collections::{HashMap, VecDeque};
use troupe_machines::replica::Verification;
use troupe_machines::time::Time;
use troupe_machines::txn::Producer;
use troupe_proto::ids::ProducerId;

/// Promise: of one producer, no batch passes another.
#[derive(Default)]
pub struct Verifications {
    by_producer: HashMap<ProducerId, Asked>,
}

/// The coordinator was asked for the first of these, or will be; the others are behind it.
pub struct Asked {
    pub producer: Producer,
    pub ticket: Verification,
    pub waiting: VecDeque<(Append, Time)>,
    /// Rings when it has not answered in time.
    pub alarm: SpawnHandle,
    /// False: nobody is asked before the marker of the transaction before is here.
    pub asks: bool,
}

impl Verifications {
    /// Given back: a batch that need not wait.
    pub fn queue(&mut self, append: Append, deadline: Time) -> Option<Append> {
        if self.by_producer.is_empty() {
            return Some(append);
        }
        match append.batch.producer.and_then(|stamp| self.by_producer.get_mut(&stamp.id)) {
            Some(asked) => {
                asked.waiting.push_back((append, deadline));
                None
            }
            None => Some(append),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Asked> + '_ {
        self.by_producer.drain().map(|(_, asked)| asked)
    }

    pub fn begin(&mut self, asked: Asked) {
        self.by_producer.insert(asked.producer.id, asked);
    }

    /// The marker of the transaction before is here: those that have waited for it.
    pub fn end_before(&mut self, id: ProducerId) -> Option<Asked> {
        let waits = self.by_producer.get(&id).is_some_and(|asked| !asked.asks);
        waits.then(|| self.by_producer.remove(&id)).flatten()
    }

    /// Those that have waited for this word.
    pub fn end(&mut self, producer: Producer, ticket: Verification) -> Option<Asked> {
        let asked = self.by_producer.get(&producer.id)?;
        if asked.ticket != ticket {
            return None;
        }
        self.by_producer.remove(&producer.id)
    }
}

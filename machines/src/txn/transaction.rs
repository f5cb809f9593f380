//! What the newest record of a transactional id comes to, and each way from one to the next.
//!
//! ```text
//!  previous ------> producer ------> (next, 0)
//!  asks again       writes, ends     takes over when the markers are written; only where epochs are used up
//! ```

use super::partition::{ClientVersion, Producer, TxnPartition};
use super::state::{Event, Outcome, State, path};
use crate::time::Time;
use std::collections::BTreeSet;
use troupe_proto::ids::ProducerId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub state: State,
    /// Its markers are written for this one.
    pub producer: Producer,
    /// Whoever asks with this one asks again for what was decided. `None`: nobody may.
    pub previous: Option<Producer>,
    /// Takes over when the markers are written.
    pub next: Option<ProducerId>,
    pub version: ClientVersion,
    pub timeout_ms: u32,
    /// When it got its first partition (X10).
    pub started: Option<Time>,
    pub updated: Time,
    /// None, unless it is ongoing or prepared.
    pub partitions: BTreeSet<TxnPartition>,
}

impl Transaction {
    /// A producer that has just been initialised.
    pub fn empty(
        now: Time,
        producer: Producer,
        previous: Option<Producer>,
        (timeout_ms, version): (u32, ClientVersion),
    ) -> Transaction {
        Transaction {
            state: State::Empty,
            producer,
            previous,
            next: None,
            version,
            timeout_ms,
            started: None,
            updated: now,
            partitions: BTreeSet::new(),
        }
    }

    /// What the client has, or is told when it asks again.
    pub fn identity(&self) -> Producer {
        self.next.map_or(self.producer, Producer::first)
    }

    /// X10, of one that is ongoing.
    pub fn deadline(&self) -> Option<Time> {
        let started = self.started.filter(|_| self.state == State::Ongoing)?;
        Some(started.plus(u64::from(self.timeout_ms)))
    }

    /// With these partitions too. The first ones begin a transaction, and say how its client speaks.
    pub fn added(
        &self,
        now: Time,
        version: ClientVersion,
        more: &BTreeSet<TxnPartition>,
    ) -> Transaction {
        let begins = self.state != State::Ongoing;
        let mut partitions = self.partitions.clone();
        partitions.extend(more.iter().cloned());
        Transaction {
            state: self.after(Event::Add),
            version: if begins { version } else { self.version },
            started: if begins { Some(now) } else { self.started },
            updated: now,
            partitions,
            ..self.clone()
        }
    }

    /// X4: decided. `fresh` is taken where the epochs are used up.
    pub fn ended(&self, now: Time, outcome: Outcome, fresh: Option<ProducerId>) -> Transaction {
        let decided =
            Transaction { state: self.after(Event::End(outcome)), updated: now, ..self.clone() };
        match self.version {
            ClientVersion::First => decided,
            ClientVersion::Second => Transaction {
                producer: self.producer.next_epoch(),
                previous: Some(self.producer),
                next: fresh.filter(|_| self.producer.is_exhausted()),
                ..decided
            },
        }
    }

    /// Aborted, in an epoch that nobody has. `by`: the producer itself, which may ask again.
    pub fn fenced(&self, now: Time, by: Option<Producer>) -> Transaction {
        Transaction {
            state: self.after(Event::Fence),
            producer: self.producer.next_epoch(),
            previous: by,
            updated: now,
            ..self.clone()
        }
    }

    /// Every partition has its marker, or is gone.
    pub fn completed(&self, now: Time) -> Transaction {
        Transaction {
            state: self.after(Event::MarkersWritten),
            producer: self.identity(),
            next: None,
            started: None,
            updated: now,
            partitions: BTreeSet::new(),
            ..self.clone()
        }
    }

    /// As the table has it.
    fn after(&self, event: Event) -> State {
        let path = path(Some(self.state), event).and_then(|path| path.last());
        *path.expect("who decides has looked whether it may happen")
    }
}

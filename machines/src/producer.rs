//! Who writes in transactions, as coordinators of transactions, partitions and coordinators of groups know it.

use std::fmt;
use troupe_proto::ids::{ProducerEpoch, ProducerId};

/// Epochs have 15 bits for Kafka's clients, and the last one is for markers alone (X9).
pub(crate) const LAST_EPOCH: ProducerEpoch = ProducerEpoch(32_766);

/// What a producer calls itself by. Of one id, a newer epoch fences the older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// The first epoch of a new id.
    pub(crate) fn first(id: ProducerId) -> Producer {
        Producer { id, epoch: ProducerEpoch(0) }
    }

    /// The same id in its next epoch.
    pub(crate) fn next_epoch(self) -> Producer {
        Producer { id: self.id, epoch: ProducerEpoch(self.epoch.0 + 1) }
    }

    /// There is no next epoch for a client.
    pub(crate) fn is_exhausted(self) -> bool {
        self.epoch >= LAST_EPOCH
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {} in epoch {}", self.id, self.epoch)
    }
}

/// How a client speaks of its transactions (X19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientVersion {
    /// The epoch stays from transaction to transaction: a late request is told from one of the next by time alone, and
    /// partitions are verified when the transaction opens there.
    First = 1,
    /// KIP-890: every transaction has an epoch of its own.
    Second = 2,
}

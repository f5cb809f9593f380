//! Producers and consumers. What they send, what they are told, and what they conclude.
//!
//! An idempotent producer sends a batch with acks all, up to five at once, until it hears that it stands;
//! the other one sends each batch once, with acks all or leader, and takes what it hears for its outcome.

mod consumer;
mod producer;

pub use consumer::{Consumer, Fetched};
pub use producer::{Outcome, ProduceRequest, Produced, Producer, append_facts};

use crate::world::World;
use troupe_proto::ids::PartitionKey;

impl World {
    /// Whom a client asks for a partition: the leader as some broker knows it that can be reached, or anyone.
    pub fn guess_leader(&mut self, from: usize, key: &PartitionKey) -> usize {
        let broker = self.whim.index(self.settings.brokers);
        let reachable = !self.network.is_cut(from, broker)
            && !self.network.is_cut(broker, from)
            && self.sites[broker].up
            && !self.sites[broker].paused;
        let image = self.sites[broker].broker.as_ref().map(|known| &known.image);
        let leader = image.and_then(|image| image.partition(key)).and_then(|known| known.leader);
        match leader {
            Some(leader) if reachable => self.site_of(leader),
            _ => self.whim.index(self.settings.brokers),
        }
    }
}

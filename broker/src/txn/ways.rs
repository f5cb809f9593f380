//! Which markers are under way, and which were.
//!
//! Of one producer and partition one marker goes at a time. An order may be older than the word that its marker is
//! written, which came by while it waited: it is of no use, and where epochs stay from transaction to transaction it
//! would do harm.

use super::outbound::Origin;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use troupe_machines::txn::Ticket;
use troupe_proto::ids::{PartitionKey, ProducerId};

/// How long it is remembered what was written. No order waits for longer.
const MEMORY: Duration = Duration::from_secs(60);
/// More entries than this are looked through for old ones.
const MANY: usize = 4_096;

/// What one marker ends.
pub type Place = (ProducerId, PartitionKey);
/// Who told it, and in which round. Of one coordinator, a later one is greater.
pub type Round = (Origin, Ticket);

enum Way {
    UnderWay,
    Written(Round, Instant),
}

#[derive(Default)]
pub struct Ways(HashMap<Place, Way>);

impl Ways {
    /// Whether the marker may go: none is under way, and it was not ordered before one that was written.
    pub fn sets_out(&mut self, place: Place, round: Round) -> bool {
        if self.0.len() > MANY {
            self.0.retain(|_, way| !matches!(way, Way::Written(_, at) if at.elapsed() > MEMORY));
        }
        let sets_out = match self.0.get(&place) {
            None => true,
            Some(Way::UnderWay) => false,
            Some(Way::Written(written, _)) => round > *written,
        };
        if sets_out {
            self.0.insert(place, Way::UnderWay);
        }
        sets_out
    }

    /// Nothing of it is under way any more.
    pub fn over(&mut self, place: &Place) {
        self.0.remove(place);
    }

    /// Nor is it to go again because of an older order.
    pub fn written(&mut self, place: Place, round: Round) {
        self.0.insert(place, Way::Written(round, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::{LeaderEpoch, PartitionId, TopicId};

    fn place() -> Place {
        let topic_id = TopicId::from_wire(&[1; 16]).unwrap();
        (ProducerId(5), PartitionKey { topic_id, partition: PartitionId(0) })
    }

    fn round(life: u64, ticket: u64) -> Round {
        let origin = Origin { partition: PartitionId(3), leader_epoch: LeaderEpoch(7), life };
        (origin, Ticket(ticket))
    }

    #[test]
    fn of_one_producer_and_partition_one_marker_is_under_way() {
        let mut ways = Ways::default();
        assert!(ways.sets_out(place(), round(0, 1)));
        assert!(!ways.sets_out(place(), round(0, 1)), "it is told again");
        assert!(!ways.sets_out(place(), round(1, 1)), "by the next life of the coordinator");
        ways.over(&place());
        assert!(ways.sets_out(place(), round(0, 1)));
    }

    #[test]
    fn an_order_that_waited_while_its_marker_was_written_is_dropped() {
        let mut ways = Ways::default();
        assert!(ways.sets_out(place(), round(0, 2)));
        ways.written(place(), round(0, 2));
        assert!(!ways.sets_out(place(), round(0, 2)) && !ways.sets_out(place(), round(0, 1)));
        assert!(ways.sets_out(place(), round(0, 3)), "the next transaction");
        ways.written(place(), round(0, 3));
        assert!(ways.sets_out(place(), round(1, 1)), "whoever comes next knows of no word");
    }
}

//! What the coordinators of a node have decided and partitions are to be told, until somebody carries it.

use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;
use troupe_machines::txn::Marker;
use troupe_proto::ids::{LeaderEpoch, PartitionId};

/// Who tells it: only in that life does the ticket of a marker mean anything. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Of `__transaction_state`.
    pub partition: PartitionId,
    /// The epoch in which that coordinates.
    pub leader_epoch: LeaderEpoch,
    /// Of the actor.
    pub life: u64,
}

/// A marker, for all of its partitions.
#[derive(Clone, Debug)]
pub struct Order {
    pub origin: Origin,
    pub marker: Marker,
}

#[derive(Default)]
pub struct Outbound {
    orders: Mutex<Vec<Order>>,
    filled: Notify,
}

impl Outbound {
    pub fn push(&self, origin: Origin, markers: Vec<Marker>) {
        let orders = markers.into_iter().map(|marker| Order { origin, marker });
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).extend(orders);
        self.filled.notify_one();
    }

    /// All that there are; waits for the first.
    pub async fn take(&self) -> Vec<Order> {
        loop {
            let orders =
                std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner));
            if !orders.is_empty() {
                return orders;
            }
            self.filled.notified().await;
        }
    }
}

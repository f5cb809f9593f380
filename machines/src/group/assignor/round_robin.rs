//! G23: all partitions in order, dealt over the ring of members.

use super::subscriptions::{Slot, Subscriptions};

/// What each member gets, by its place. The ring goes on from one topic to the next, past the members
/// that do not subscribe to it.
pub fn share_out(subscriptions: &Subscriptions<'_>) -> Vec<Vec<Slot>> {
    let mut given = vec![Vec::new(); subscriptions.members()];
    let mut ring = 0;
    for slot in subscriptions.slots() {
        let subscribers = &subscriptions.topics[slot.topic].subscribers;
        let next = subscribers.partition_point(|member| *member < ring);
        let member = *subscribers.get(next).unwrap_or(&subscribers[0]);
        given[member].push(slot);
        ring = member + 1;
    }
    given
}

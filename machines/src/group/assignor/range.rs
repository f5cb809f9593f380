//! G22: each topic by itself, in contiguous ranges.

use super::subscriptions::{Slot, Subscriptions};

/// What each member gets, by its place.
pub fn share_out(subscriptions: &Subscriptions<'_>) -> Vec<Vec<Slot>> {
    let mut given = vec![Vec::new(); subscriptions.members()];
    for (topic, of) in subscriptions.topics.iter().enumerate() {
        let each = of.partitions as usize / of.subscribers.len();
        let one_more = of.partitions as usize % of.subscribers.len();
        let mut numbers = 0..of.partitions;
        for (nth, member) in of.subscribers.iter().enumerate() {
            let count = each + usize::from(nth < one_more);
            let range = numbers.by_ref().take(count).map(|number| Slot { topic, number });
            given[*member].extend(range);
        }
    }
    given
}

//! G24: even counts first, then as few partitions as possible change hands.
//!
//! Here: members that all subscribe to the same, where the counts are known beforehand and the least
//! number of moves is reached. Different subscriptions are balanced step by step (`sticky_general`).

use super::sticky_general;
use super::subscriptions::{Slot, Subscriptions};
use std::collections::VecDeque;

/// What each member gets, by its place.
pub fn share_out(subscriptions: &Subscriptions<'_>) -> Vec<Vec<Slot>> {
    if subscriptions.members() == 0 {
        Vec::new()
    } else if subscriptions.equal() {
        equally(subscriptions)
    } else {
        sticky_general::share_out(subscriptions)
    }
}

/// Everyone gets `least` partitions and the first few one more.
fn equally(subscriptions: &Subscriptions<'_>) -> Vec<Vec<Slot>> {
    let count = subscriptions.slots().count();
    let least = count / subscriptions.members();
    let mut one_more = count % subscriptions.members();
    let mut given = subscriptions.claims();
    for kept in &mut given {
        kept.sort_unstable_by_key(|slot| (slot.number, slot.topic));
        let extra = usize::from(one_more > 0 && kept.len() > least);
        one_more -= extra;
        kept.truncate(least + extra);
    }
    let missing = subscriptions.missing_from(&given);
    let (mut below, mut at_least): (VecDeque<usize>, VecDeque<usize>) = (0..given.len())
        .filter(|member| given[*member].len() <= least)
        .partition(|member| given[*member].len() < least);
    for slot in missing {
        let member = below
            .pop_front()
            .or_else(|| at_least.pop_front())
            .expect("the counts add up: whoever is not at the most yet takes one");
        given[member].push(slot);
        match given[member].len() {
            length if length < least => below.push_back(member),
            length if length == least => at_least.push_back(member),
            _ => {}
        }
    }
    given
}

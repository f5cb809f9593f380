//! G24 where members subscribe to different topics: balanced step by step, as Kafka's general assignor.
//!
//! To a member the partitions of one topic are all alike, so this counts first and names partitions last:
//! [`Balance`] settles how many of each topic a member gets, [`name_partitions`] lets it keep as many of its own
//! as that allows. Topics go by the number of their subscribers, fewest first: those leave least choice.
//!
//! Promise: no partition could go to a subscriber that has two or more fewer than its owner.

use super::subscriptions::{Slot, Subscriptions};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// What each member gets, by its place.
pub fn share_out(subscriptions: &Subscriptions<'_>) -> Vec<Vec<Slot>> {
    let mut order: Vec<usize> = (0..subscriptions.topics.len()).collect();
    order.sort_by_key(|topic| subscriptions.topics[*topic].subscribers.len());
    let claims = subscriptions.claims();
    let mut balance = Balance::new(subscriptions, &order, &claims);
    balance.fill();
    balance.even_out(Moving::NewlyGiven);
    balance.even_out(Moving::Anything);
    name_partitions(&balance, claims)
}

/// What may go from one member to another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moving {
    /// What the member did not own before, so that nothing is lost.
    NewlyGiven,
    Anything,
}

/// A set of topics by their rank.
#[derive(Clone)]
struct Ranks(Vec<u64>);

impl Ranks {
    fn none_of(topics: usize) -> Ranks {
        Ranks(vec![0; topics.div_ceil(64)])
    }

    fn set(&mut self, rank: usize, is_in: bool) {
        let bit = 1 << (rank % 64);
        if is_in {
            self.0[rank / 64] |= bit;
        } else {
            self.0[rank / 64] &= !bit;
        }
    }

    /// The least that is in both.
    fn first_shared(&self, other: &Ranks) -> Option<usize> {
        let both = self.0.iter().zip(&other.0).map(|(mine, theirs)| mine & theirs);
        let (word, bits) = both.enumerate().find(|(_, bits)| *bits != 0)?;
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

struct Member {
    /// Partitions it has now, of all topics.
    load: usize,
    /// How many it has now, and how many it owned before, by rank of the topic.
    counts: BTreeMap<usize, Count>,
    subscribed: Ranks,
    /// Topics of which it has at least one partition.
    has: Ranks,
    /// Topics of which it has more than it owned before.
    newly_given: Ranks,
}

#[derive(Clone, Copy, Default)]
struct Count {
    now: usize,
    before: usize,
}

impl Member {
    fn none_of(topics: usize) -> Member {
        let none = Ranks::none_of(topics);
        Member {
            load: 0,
            counts: BTreeMap::new(),
            subscribed: none.clone(),
            has: none.clone(),
            newly_given: none,
        }
    }

    /// Changes how many it has of the topic.
    fn count(&mut self, rank: usize, change: impl FnOnce(&mut Count)) {
        let count = self.counts.entry(rank).or_default();
        self.load -= count.now;
        change(count);
        self.load += count.now;
        self.has.set(rank, count.now > 0);
        self.newly_given.set(rank, count.now > count.before);
    }
}

/// How many partitions of which topic each member has.
struct Balance<'a> {
    subscriptions: &'a Subscriptions<'a>,
    /// Topics by rank.
    order: &'a [usize],
    members: Vec<Member>,
    /// Partitions that nobody has, by rank of the topic.
    free: Vec<usize>,
}

impl<'a> Balance<'a> {
    /// Everyone has what it claims.
    fn new(
        subscriptions: &'a Subscriptions<'a>,
        order: &'a [usize],
        claims: &[Vec<Slot>],
    ) -> Balance<'a> {
        let none = || Member::none_of(order.len());
        let mut members: Vec<Member> = claims.iter().map(|_| none()).collect();
        let mut free = Vec::with_capacity(order.len());
        let mut ranks = vec![0; order.len()];
        for (rank, topic) in order.iter().enumerate() {
            ranks[*topic] = rank;
            let topic = &subscriptions.topics[*topic];
            free.push(topic.partitions as usize);
            for member in &topic.subscribers {
                members[*member].subscribed.set(rank, true);
            }
        }
        for (member, claims) in members.iter_mut().zip(claims) {
            for slot in claims {
                let rank = ranks[slot.topic];
                free[rank] -= 1;
                member.count(rank, |count| {
                    count.now += 1;
                    count.before += 1;
                });
            }
        }
        Balance { subscriptions, order, members, free }
    }

    /// Gives each partition that nobody has to the subscriber that has the fewest.
    fn fill(&mut self) {
        for (rank, topic) in self.order.iter().enumerate() {
            if self.free[rank] == 0 {
                continue;
            }
            let subscribers = &self.subscriptions.topics[*topic].subscribers;
            let mut fewest: BinaryHeap<Reverse<(usize, usize)>> =
                subscribers.iter().map(|at| Reverse((self.members[*at].load, *at))).collect();
            for _ in 0..std::mem::take(&mut self.free[rank]) {
                let Some(mut least) = fewest.peek_mut() else { break };
                let Reverse((load, member)) = &mut *least;
                self.members[*member].count(rank, |count| count.now += 1);
                *load += 1;
            }
        }
    }

    /// Moves partitions from those that have many to those that have two or more fewer, until there is no
    /// such move. Each makes the counts more even, so this ends.
    fn even_out(&mut self, moving: Moving) {
        let mut by_load: BTreeSet<(usize, usize)> =
            self.members.iter().enumerate().map(|(at, member)| (member.load, at)).collect();
        loop {
            let mut moved = false;
            // Those with the most first: what they give needs not be moved on.
            let mut most: BinaryHeap<(usize, Reverse<usize>)> =
                by_load.iter().map(|(load, at)| (*load, Reverse(*at))).collect();
            while let Some((load, Reverse(from))) = most.pop() {
                if load != self.members[from].load {
                    continue;
                }
                let Some((to, rank)) = self.receiver(&by_load, from, moving) else { continue };
                moved = true;
                for (member, change) in [(from, -1), (to, 1)] {
                    by_load.remove(&(self.members[member].load, member));
                    self.members[member].count(rank, |count| {
                        count.now = count.now.saturating_add_signed(change);
                    });
                    by_load.insert((self.members[member].load, member));
                    most.push((self.members[member].load, Reverse(member)));
                }
            }
            if !moved {
                break;
            }
        }
    }

    /// The member with the fewest partitions that `from` can give one to, two or more below its own number,
    /// and the topic. Rather one that `from` did not own before.
    fn receiver(
        &self,
        by_load: &BTreeSet<(usize, usize)>,
        from: usize,
        moving: Moving,
    ) -> Option<(usize, usize)> {
        let giver = &self.members[from];
        let fewer = by_load.iter().take_while(|(load, _)| load + 2 <= giver.load);
        fewer.map(|(_, to)| *to).find_map(|to| {
            let subscribed = &self.members[to].subscribed;
            let mut rank = giver.newly_given.first_shared(subscribed);
            if moving == Moving::Anything {
                rank = rank.or_else(|| giver.has.first_shared(subscribed));
            }
            Some((to, rank?))
        })
    }
}

/// Partitions to the counts: each member keeps its own, lowest first, as far as its count goes; the others
/// are dealt to whoever has the fewest by then.
fn name_partitions(balance: &Balance<'_>, claims: Vec<Vec<Slot>>) -> Vec<Vec<Slot>> {
    let ranks: BTreeMap<usize, usize> =
        balance.order.iter().enumerate().map(|(rank, topic)| (*topic, rank)).collect();
    let mut given = claims;
    let mut wanting: Vec<Vec<(usize, usize)>> = vec![Vec::new(); balance.order.len()];
    for (at, (member, kept)) in balance.members.iter().zip(&mut given).enumerate() {
        let mut left: BTreeMap<usize, usize> =
            member.counts.iter().map(|(rank, count)| (*rank, count.now)).collect();
        kept.retain(|slot| {
            let left = left.entry(ranks[&slot.topic]).or_default();
            let keep = *left > 0;
            *left -= usize::from(keep);
            keep
        });
        for (rank, count) in left.into_iter().filter(|(_, count)| *count > 0) {
            wanting[rank].push((at, count));
        }
    }
    let mut missing: Vec<Vec<Slot>> = vec![Vec::new(); balance.order.len()];
    for slot in balance.subscriptions.missing_from(&given) {
        missing[ranks[&slot.topic]].push(slot);
    }
    for (missing, wanting) in missing.into_iter().zip(wanting) {
        let mut fewest: BinaryHeap<Reverse<(usize, usize, usize)>> = wanting
            .into_iter()
            .map(|(member, count)| Reverse((given[member].len(), member, count)))
            .collect();
        for slot in missing {
            let Reverse((_, member, count)) =
                fewest.pop().expect("the counts of a topic add up to its partitions");
            given[member].push(slot);
            if count > 1 {
                fewest.push(Reverse((given[member].len(), member, count - 1)));
            }
        }
    }
    given
}

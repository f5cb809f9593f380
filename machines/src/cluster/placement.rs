//! Where replicas go (R28, R31): racks take turns, brokers within a rack take turns, and after as many
//! partitions as there are active brokers the order is shuffled, so that the followers of one leader
//! spread over all others. After Kafka's `StripedReplicaPlacer`.
//!
//! Where that leaves brokers uneven, as it does with racks of different sizes and with partitions that are not a multiple
//! of the brokers, it is levelled: replicas and leaderships of what is placed differ by one at most, as far as the racks
//! allow, and whoever has less of everything else gets the one more. So many small topics come out even, too.

pub(super) mod classic;

use super::Broker;
use super::balance::{Held, Layout, Levelling, Load, Role, Site};
use std::collections::{BTreeMap, BTreeSet};
use troupe_proto::ids::NodeId;

/// A broker as a place for replicas.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub node_id: NodeId,
    pub rack: Option<String>,
    pub fenced: bool,
    /// What it has already: how much it leads, how many replicas.
    pub leaders: u64,
    pub replicas: u64,
}

impl Place {
    /// With nothing on it.
    pub fn of(broker: &Broker) -> Place {
        let (node_id, rack, fenced) = (broker.node_id, broker.rack.clone(), !broker.is_active());
        Place { node_id, rack, fenced, leaders: 0, replicas: 0 }
    }
}

/// The replicas of `partitions` partitions, the preferred leader first. A fenced broker never comes first
/// and is taken only when the active ones do not suffice.
///
/// The caller has checked that there is an active broker and that `replicas` is at most the number of
/// brokers.
pub(super) fn place(
    brokers: &[Place],
    partitions: u32,
    replicas: u32,
    seed: u64,
) -> Vec<Vec<NodeId>> {
    assert!(brokers.iter().any(|broker| !broker.fenced), "somebody has to lead");
    assert!(replicas as usize <= brokers.len(), "one replica per broker at most");
    let used = needed(brokers, replicas as usize);
    let mut racks = Racks::new(&used, seed);
    let striped = (0..partitions).map(|_| racks.next(replicas as usize)).collect();
    level(&used, striped)
}

/// Without the fenced ones, if the active ones suffice: for every rack one, or a rack for every replica.
fn needed(brokers: &[Place], replicas: usize) -> Vec<Place> {
    let active = || brokers.iter().filter(|broker| !broker.fenced);
    let led: BTreeSet<_> = active().map(|broker| &broker.rack).collect();
    let all: BTreeSet<_> = brokers.iter().map(|broker| &broker.rack).collect();
    let suffice = replicas <= led.len() || (led == all && replicas <= active().count());
    brokers.iter().filter(|broker| !suffice || !broker.fenced).cloned().collect()
}

/// Moves replicas, and who is preferred, from who has more than it must to who has less.
fn level(brokers: &[Place], striped: Vec<Vec<NodeId>>) -> Vec<Vec<NodeId>> {
    let site = |broker: &Place| Site {
        node_id: broker.node_id,
        rack: broker.rack.clone(),
        role: if broker.fenced { Role::Keeps } else { Role::Takes },
        beside: Load { leaders: broker.leaders, replicas: broker.replicas, bytes: 0 },
    };
    let place: BTreeMap<NodeId, usize> =
        brokers.iter().enumerate().map(|(at, broker)| (broker.node_id, at)).collect();
    let held = |list: Vec<NodeId>| {
        let replicas: Vec<usize> = list.iter().map(|node| place[node]).collect();
        Held { topic: 0, origin: replicas.clone(), factor: replicas.len(), replicas, size: 0 }
    };
    let partitions: Vec<Held> = striped.into_iter().map(held).collect();
    let count = partitions.len();
    let mut layout = Layout::new(brokers.iter().map(site).collect(), partitions, true);
    layout.displace_kept();
    layout.level_replicas(&Levelling::New);
    layout.level_leaders(&Levelling::New);
    (0..count).map(|partition| layout.nodes(partition)).collect()
}

/// A few random numbers from a seed (SplitMix64): chance is an argument here.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Brokers that take turns: each partition starts one further on.
#[derive(Default)]
struct Turn {
    brokers: Vec<NodeId>,
    partition: usize,
    taken: usize,
    start: usize,
}

impl Turn {
    fn next(&mut self, partition: usize) -> Option<NodeId> {
        if self.partition != partition {
            self.partition = partition;
            self.taken = 0;
            self.start += 1;
        }
        if self.taken >= self.brokers.len() {
            return None;
        }
        let broker = self.brokers[(self.start + self.taken) % self.brokers.len()];
        self.taken += 1;
        Some(broker)
    }
}

#[derive(Default)]
struct Rack {
    active: Turn,
    fenced: Turn,
}

struct Racks {
    racks: Vec<Rack>,
    chance: Chance,
    active_brokers: usize,
    /// Partitions since the last shuffle.
    partition: usize,
    first_rack: usize,
}

impl Racks {
    fn new(brokers: &[Place], seed: u64) -> Racks {
        let mut by_name: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
        for broker in brokers {
            let rack = by_name.entry(broker.rack.as_deref()).or_default();
            let turn = if broker.fenced { &mut rack.fenced } else { &mut rack.active };
            turn.brokers.push(broker.node_id);
        }
        let mut racks: Vec<_> = by_name.into_values().collect();
        let mut chance = Chance(seed);
        for rack in &mut racks {
            for turn in [&mut rack.active, &mut rack.fenced] {
                turn.brokers.sort_unstable();
                turn.start = chance.below(turn.brokers.len().max(1));
            }
        }
        let first_rack = chance.below(racks.len());
        let active_brokers = brokers.iter().filter(|broker| !broker.fenced).count();
        Racks { racks, chance, active_brokers, partition: 0, first_rack }
    }

    fn next(&mut self, replicas: usize) -> Vec<NodeId> {
        if self.partition == self.active_brokers {
            self.shuffle();
        }
        let racks = self.racks.len();
        let mut chosen = Vec::with_capacity(replicas);
        let mut led_by = self.first_rack % racks;
        while chosen.is_empty() {
            match self.racks[led_by].active.next(self.partition) {
                Some(leader) => chosen.push(leader),
                None => led_by = (led_by + 1) % racks,
            }
        }
        // The leader's rack is passed over once: it has its replica already.
        let mut passed_over = Some(led_by);
        let mut rack = self.first_rack % racks;
        while chosen.len() < replicas {
            if passed_over == Some(rack) {
                passed_over = None;
            } else {
                let partition = self.partition;
                let place = &mut self.racks[rack];
                let next = place.active.next(partition).or_else(|| place.fenced.next(partition));
                chosen.extend(next);
            }
            rack = (rack + 1) % racks;
        }
        self.partition += 1;
        self.first_rack = (self.first_rack + 1) % racks;
        chosen
    }

    fn shuffle(&mut self) {
        self.chance.shuffle(&mut self.racks);
        for rack in &mut self.racks {
            for turn in [&mut rack.active, &mut rack.fenced] {
                self.chance.shuffle(&mut turn.brokers);
                turn.partition = 0;
                turn.taken = 0;
                turn.start = 0;
            }
        }
        self.partition = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn brokers(count: i32, racks: i32) -> Vec<Place> {
        let rack = |id| (racks > 1).then(|| format!("r{}", id % racks));
        let place = |id| Place {
            node_id: NodeId(id),
            rack: rack(id),
            fenced: false,
            leaders: 0,
            replicas: 0,
        };
        (0..count).map(place).collect()
    }

    fn counts(of: impl Iterator<Item = NodeId>) -> BTreeMap<NodeId, i64> {
        of.fold(BTreeMap::new(), |mut counts, node| {
            *counts.entry(node).or_default() += 1;
            counts
        })
    }

    fn spread(counts: &BTreeMap<NodeId, i64>, brokers: usize) -> i64 {
        let most = counts.values().max().copied().unwrap_or(0);
        let least = counts.values().min().copied().unwrap_or(0);
        most - if counts.len() < brokers { 0 } else { least }
    }

    /// R31's example, up to the random start.
    #[test]
    fn four_brokers_take_turns() {
        for seed in 0..16 {
            let placed = place(&brokers(4, 1), 4, 3, seed);
            let start = placed[0][0].0;
            for (p, replicas) in (0..).zip(&placed) {
                let expected: Vec<_> = (0..3).map(|j| NodeId((start + p + j) % 4)).collect();
                assert_eq!(replicas, &expected);
            }
        }
    }

    /// R28: when a broker goes, its leaderships go to all others, not to one.
    #[test]
    fn the_followers_of_one_leader_spread_over_all_others() {
        for seed in 0..16 {
            let led_by_0 = place(&brokers(5, 1), 200, 2, seed)
                .into_iter()
                .filter(|list| list[0] == NodeId(0))
                .map(|list| list[1]);
            assert_eq!(led_by_0.collect::<BTreeSet<_>>().len(), 4, "seed {seed}");
        }
    }

    #[test]
    fn the_same_seed_places_the_same_way() {
        assert_eq!(place(&brokers(7, 3), 50, 3, 11), place(&brokers(7, 3), 50, 3, 11));
    }

    #[test]
    fn a_fenced_broker_never_leads_and_is_used_last() {
        let mut all = brokers(3, 1);
        all[1].fenced = true;
        for replicas in place(&all, 30, 2, 5) {
            assert!(!replicas.contains(&NodeId(1)));
        }
        for replicas in place(&all, 30, 3, 5) {
            assert_eq!(replicas[2], NodeId(1));
        }
    }

    proptest! {
        /// R31's test properties.
        #[test]
        fn no_duplicates_and_leaders_and_replicas_are_even(
            count in 1..9i32, cycles in 1..6u32, extra in 0..8u32, factor in 1..5u32, seed: u64
        ) {
            let replicas = factor.min(count as u32);
            let all = brokers(count, 1);
            let partitions = cycles * count as u32 + extra % count as u32;
            let placed = place(&all, partitions, replicas, seed);
            for list in &placed {
                prop_assert_eq!(list.len(), replicas as usize);
                prop_assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len());
            }
            let leaders = counts(placed.iter().map(|list| list[0]));
            prop_assert!(spread(&leaders, count as usize) <= 1);
            let full = &placed[..(cycles * count as u32) as usize];
            let held = counts(full.iter().flatten().copied());
            prop_assert!(spread(&held, count as usize) <= 1);
        }

        /// R30's promise, which R31 keeps.
        #[test]
        fn racks_come_first(racks in 2..5i32, per_rack in 1..4i32, factor in 1..5u32, seed: u64) {
            let all = brokers(racks * per_rack, racks);
            let replicas = factor.min(all.len() as u32);
            for list in place(&all, 40, replicas, seed) {
                let used: BTreeSet<_> = list.iter().map(|node| node.0 % racks).collect();
                prop_assert_eq!(used.len(), (replicas as usize).min(racks as usize));
            }
        }
    }
}

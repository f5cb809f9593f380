//! The fewest moves that make loads as even as can be: from any plan, as long as a cycle in the network of partitions,
//! their racks, and brokers makes it more even or cheaper, it is made. Where there is none, there is no better plan.
//!
//! Written for itself: it knows nothing of how a plan is found, and takes partitions apart by rack, as that does not.

use super::random::racks;
use crate::cluster::balance::{Layout, Role};

/// Evenness comes before price.
const EVEN: i64 = 100_000;

struct Network {
    rack_of: Vec<usize>,
    racks: usize,
    /// Of each partition, whether a broker has it, and had it.
    has: Vec<Vec<bool>>,
    had: Vec<Vec<bool>>,
    factors: Vec<usize>,
    loads: Vec<i64>,
}

#[derive(Clone, Copy)]
struct Arc {
    from: usize,
    to: usize,
    price: i64,
    /// A broker gets a partition or loses it.
    change: Option<(usize, usize)>,
}

impl Network {
    fn of(layout: &Layout) -> Network {
        let takes = |site: &usize| layout.sites[*site].role == Role::Takes;
        let takers: Vec<usize> = (0..layout.sites.len()).filter(takes).collect();
        let open: Vec<_> = takers.iter().map(|site| layout.sites[*site].clone()).collect();
        let (rack_of, racks) = racks(&open);
        let at = |list: &[usize]| takers.iter().map(|site| list.contains(site)).collect();
        let has: Vec<Vec<bool>> = layout.partitions.iter().map(|held| at(&held.replicas)).collect();
        let load = |broker: usize| has.iter().filter(|has| has[broker]).count() as i64;
        Network {
            loads: (0..takers.len()).map(load).collect(),
            had: layout.partitions.iter().map(|held| at(&held.origin)).collect(),
            factors: layout.partitions.iter().map(|held| held.factor).collect(),
            has,
            rack_of,
            racks,
        }
    }

    fn nodes(&self) -> usize {
        1 + self.loads.len() + self.has.len() * (1 + self.racks)
    }

    fn arcs(&self) -> Vec<Arc> {
        let brokers = self.loads.len();
        let mut arcs = Vec::new();
        let mut arc = |from, to, price, change| arcs.push(Arc { from, to, price, change });
        for (broker, load) in self.loads.iter().enumerate() {
            arc(1 + broker, 0, EVEN * (2 * load + 1), None);
            arc(0, 1 + broker, -EVEN * (2 * load - 1), None);
        }
        for (partition, has) in self.has.iter().enumerate() {
            let free = 1 + brokers + partition * (1 + self.racks);
            for rack in 0..self.racks {
                let node = free + 1 + rack;
                let within = || (0..brokers).filter(|broker| self.rack_of[*broker] == rack);
                let there = within().filter(|broker| has[*broker]).count();
                let many = self.factors[partition] >= self.racks;
                if many || there == 0 {
                    arc(free, node, 0, None);
                }
                if there > usize::from(many) {
                    arc(node, free, 0, None);
                }
                for broker in within() {
                    let price = i64::from(!self.had[partition][broker]);
                    let change = Some((partition, broker));
                    match has[broker] {
                        true => arc(1 + broker, node, -price, change),
                        false => arc(node, 1 + broker, price, change),
                    }
                }
            }
        }
        arcs
    }

    fn turn(&mut self, cycle: &[Arc]) {
        for (partition, broker) in cycle.iter().filter_map(|arc| arc.change) {
            let has = &mut self.has[partition][broker];
            *has = !*has;
            self.loads[broker] += if *has { 1 } else { -1 };
        }
    }

    fn moves(&self) -> usize {
        let lists = self.has.iter().zip(&self.had);
        lists
            .flat_map(|(has, had)| has.iter().zip(had))
            .filter(|(has, had)| **has && !**had)
            .count()
    }
}

fn cheaper(arcs: &[Arc], nodes: usize) -> Option<Vec<Arc>> {
    let mut price = vec![0; nodes];
    let mut by: Vec<Option<Arc>> = vec![None; nodes];
    for pass in 1.. {
        let mut changed = false;
        for arc in arcs {
            if price[arc.from] + arc.price < price[arc.to] {
                price[arc.to] = price[arc.from] + arc.price;
                by[arc.to] = Some(*arc);
                changed = true;
            }
        }
        if !changed {
            return None;
        }
        if pass % 8 == 0
            && let Some(cycle) = cycle(&by)
        {
            return Some(cycle);
        }
    }
    None
}

/// A cycle among the arcs by which nodes were made cheapest.
fn cycle(by: &[Option<Arc>]) -> Option<Vec<Arc>> {
    let mut seen = vec![0; by.len()];
    for start in 0..by.len() {
        let mut at = start;
        while seen[at] == 0 {
            seen[at] = start + 1;
            let Some(arc) = by[at] else { break };
            at = arc.from;
        }
        if seen[at] == start + 1 && by[at].is_some() {
            let (first, mut arcs) = (at, Vec::new());
            loop {
                let arc = by[at]?;
                arcs.push(arc);
                at = arc.from;
                if at == first {
                    return Some(arcs);
                }
            }
        }
    }
    None
}

/// What the best plan comes to: what the brokers have, the least first, and the replicas that have to be copied.
pub fn best(layout: &Layout) -> (Vec<u64>, usize) {
    let mut network = Network::of(layout);
    while let Some(cycle) = cheaper(&network.arcs(), network.nodes()) {
        network.turn(&cycle);
    }
    let mut loads: Vec<u64> = network.loads.iter().map(|load| *load as u64).collect();
    loads.sort_unstable();
    (loads, network.moves())
}

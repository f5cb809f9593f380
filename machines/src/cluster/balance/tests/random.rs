//! Clusters from a seed.

use crate::cluster::balance::{Held, Load, Role, Site};
use troupe_proto::ids::NodeId;

/// SplitMix64.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    pub fn within(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }
}

/// 3 to 30 brokers in 1 to 5 racks, of whatever sizes.
pub fn sites(chance: &mut Chance) -> Vec<Site> {
    let count = chance.within(3, 30);
    let racks = chance.within(1, 5.min(count));
    let uneven = chance.below(2) == 0;
    let rack = |id: usize, chance: &mut Chance| match id {
        id if id < racks => id,
        _ if uneven => chance.below(racks),
        id => id % racks,
    };
    let site = |id: usize, chance: &mut Chance| Site {
        node_id: NodeId(id as i32),
        rack: (racks > 1).then(|| format!("r{}", rack(id, chance))),
        role: Role::Takes,
        beside: Load::default(),
    };
    (0..count).map(|id| site(id, chance)).collect()
}

/// 1 to 200 partitions with as many replicas each, wherever chance has put them: on all sites that are there, on the
/// first of them, or more on some than on others.
pub fn partitions(chance: &mut Chance, sites: usize) -> Vec<Held> {
    let count = chance.within(1, 200);
    let factor = chance.within(1, 4.min(sites));
    let used = match chance.below(3) {
        0 => sites,
        1 => chance.within(factor, sites),
        _ => (sites - 1).max(factor),
    };
    let skewed = chance.below(2) == 0;
    let topics = chance.within(1, 9);
    let replicas = |chance: &mut Chance| {
        let mut left: Vec<usize> = (0..used).collect();
        let pick = |left: &mut Vec<usize>, chance: &mut Chance| {
            let mut at = chance.below(left.len());
            if skewed {
                at = at.min(chance.below(left.len()));
            }
            left.remove(at)
        };
        (0..factor).map(|_| pick(&mut left, chance)).collect::<Vec<_>>()
    };
    let held = |topic: usize, chance: &mut Chance| {
        let replicas = replicas(chance);
        Held { topic, origin: replicas.clone(), replicas, size: 1000, factor }
    };
    (0..count).map(|at| held(at % topics, chance)).collect()
}

/// Which broker is in which rack, by numbers, and how many racks there are.
pub fn racks(sites: &[Site]) -> (Vec<usize>, usize) {
    let mut names: Vec<_> = sites.iter().map(|site| site.rack.clone()).collect();
    names.sort();
    names.dedup();
    let of = |site: &Site| names.iter().position(|name| *name == site.rack).unwrap();
    (sites.iter().map(of).collect(), names.len())
}

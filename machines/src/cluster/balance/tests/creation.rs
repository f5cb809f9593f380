//! Placement of what is new: 200 clusters from seeds, and many small topics one after the other.

use super::levelling::check;
use super::random::{Chance, sites};
use crate::cluster::balance::{Held, Layout, Load, Role, Site};
use crate::cluster::placement::{Place, place};
use std::collections::{BTreeMap, BTreeSet};
use troupe_proto::ids::NodeId;

fn places(sites: &[Site]) -> Vec<Place> {
    let place = |site: &Site| Place {
        node_id: site.node_id,
        rack: site.rack.clone(),
        fenced: site.role != Role::Takes,
        leaders: site.beside.leaders,
        replicas: site.beside.replicas,
    };
    sites.iter().map(place).collect()
}

fn placed(sites: &[Site], lists: &[Vec<NodeId>]) -> Layout {
    let at = |node: &NodeId| sites.iter().position(|site| site.node_id == *node).unwrap();
    let held = |list: &Vec<NodeId>| {
        let replicas: Vec<usize> = list.iter().map(at).collect();
        Held { topic: 0, origin: replicas.clone(), factor: replicas.len(), replicas, size: 0 }
    };
    Layout::new(sites.to_vec(), lists.iter().map(held).collect(), true)
}

/// R28, R30, R31: leaders within one of even always, replicas as even as racks allow; whatever there was before.
#[test]
fn new_topics_are_even_in_replicas_and_leaders_with_racks_too() {
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let mut sites = sites(&mut chance);
        let loaded = chance.below(2) == 0;
        for site in sites.iter_mut().filter(|_| loaded) {
            let (leaders, more) = (chance.below(50) as u64, chance.below(100) as u64);
            site.beside = Load { leaders, replicas: leaders + more, bytes: 0 };
        }
        let factor = chance.within(1, 5.min(sites.len())) as u32;
        let partitions = chance.within(1, 200) as u32;
        let lists = place(&places(&sites), partitions, factor, seed);
        sites.iter_mut().for_each(|site| site.beside = Load::default());
        check(seed, &placed(&sites, &lists));
    }
}

/// An example that came out as 4, 0, 2 and 2 leaders once.
#[test]
fn two_racks_of_two_lead_two_partitions_each() {
    for seed in 0..50 {
        let site = |id: i32| Site {
            node_id: NodeId(id),
            rack: Some(format!("r{}", (id + 1) / 2)),
            role: Role::Takes,
            beside: Load::default(),
        };
        let sites: Vec<Site> = (1..=4).map(site).collect();
        let layout = placed(&sites, &place(&places(&sites), 8, 2, seed));
        for at in 0..4 {
            assert_eq!(
                (layout.total(at).leaders, layout.total(at).replicas),
                (2, 4),
                "seed {seed}"
            );
        }
    }
}

/// Each topic alone is even wherever it is: what the brokers have of others decides.
#[test]
fn many_topics_of_one_partition_come_out_even_and_fill_a_broker_that_comes_later() {
    for seed in 0..20 {
        let mut chance = Chance(seed);
        let mut sites = sites(&mut chance);
        let racks: Vec<_> = sites.iter().map(|site| site.rack.clone()).collect();
        let (factor, brokers) = (chance.within(1, 3) as u32, sites.len());
        for topic in 0..20 * brokers as u64 + 100 {
            if topic == 10 * brokers as u64 {
                let node_id = NodeId(brokers as i32);
                let rack = racks[chance.below(racks.len())].clone();
                sites.push(Site { node_id, rack, role: Role::Takes, beside: Load::default() });
            }
            let list = place(&places(&sites), 1, factor, seed * 1000 + topic).remove(0);
            for (at, node) in list.iter().enumerate() {
                let beside = &mut sites[node.0 as usize].beside;
                beside.replicas += 1;
                beside.leaders += u64::from(at == 0);
            }
        }
        let mut by_rack: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for site in &sites {
            by_rack.entry(site.rack.clone()).or_default().push(site.beside.replicas);
        }
        for loads in by_rack.values() {
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            assert!(most - least <= 1, "seed {seed}: {loads:?}");
        }
        let leaders: Vec<u64> = sites.iter().map(|site| site.beside.leaders).collect();
        let (least, most) = (leaders.iter().min().unwrap(), leaders.iter().max().unwrap());
        assert!(most - least <= 2, "seed {seed}: leaders {leaders:?}");
    }
}

/// Racks come first, even where one has nobody active; the active ones are used before the fenced ones.
#[test]
fn a_fenced_broker_is_used_only_where_no_active_one_can_be() {
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let mut sites = sites(&mut chance);
        let active = chance.within(1, sites.len());
        sites.iter_mut().skip(active).for_each(|site| site.role = Role::Keeps);
        let factor = chance.within(1, 4.min(sites.len()));
        let lists = place(&places(&sites), chance.within(1, 40) as u32, factor as u32, seed);
        let layout = placed(&sites, &lists);
        let racks = |sites: &[Site]| {
            sites.iter().map(|site| site.rack.clone()).collect::<BTreeSet<_>>().len()
        };
        let (all, led) = (racks(&sites), racks(&sites[..active]));
        for (at, list) in lists.iter().enumerate() {
            assert!(list[0].0 < active as i32, "seed {seed}: an active one leads");
            let fenced = list.iter().filter(|node| node.0 >= active as i32).count();
            let for_racks = factor.min(all).saturating_sub(led);
            let needed = for_racks.max(factor.saturating_sub(active));
            assert!(fenced <= needed, "seed {seed}: {list:?}, {needed} needed");
            assert!(layout.is_separated(at) || factor <= led, "seed {seed}: {list:?}");
        }
    }
}

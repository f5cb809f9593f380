//! Even, and by the fewest moves: 200 clusters from seeds, after creations that were skewed, after a broker has come
//! (the last ones hold nothing), and with racks that somebody has mixed up.

use super::cycles::best;
use super::random::{Chance, partitions, sites};
use crate::cluster::balance::{Held, Layout, Levelling, Role, Site};
use std::collections::BTreeSet;

const CLUSTERS: u64 = 200;
/// Of what is looked at beside.
const FEWER_CLUSTERS: u64 = 60;

fn rebalanced(sites: Vec<Site>, partitions: Vec<Held>) -> Layout {
    let mut layout = Layout::new(sites, partitions, true);
    layout.fill();
    layout.separate();
    layout.level_replicas(&Levelling::Even);
    layout.cheapen();
    layout.move_leaders();
    layout.level_bytes();
    layout
}

fn takers(layout: &Layout) -> Vec<usize> {
    (0..layout.sites.len()).filter(|site| layout.sites[*site].role == Role::Takes).collect()
}

/// What holds of every layout that is as even as can be. The fewest replicas that have to be copied for that.
pub fn check(seed: u64, layout: &Layout) -> usize {
    for (at, held) in layout.partitions.iter().enumerate() {
        let mut different = held.replicas.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), held.factor, "seed {seed}: {:?}", held.replicas);
        assert!(layout.is_separated(at), "seed {seed}: {:?}", held.replicas);
    }
    let (loads, fewest) = best(layout);
    let takers = takers(layout);
    let mut replicas: Vec<u64> = takers.iter().map(|at| layout.total(*at).replicas).collect();
    replicas.sort_unstable();
    assert_eq!(replicas, loads, "seed {seed}: replicas are as even as the racks allow");
    let racks: BTreeSet<_> = takers.iter().map(|site| &layout.sites[*site].rack).collect();
    if racks.len() == 1 {
        assert!(loads[loads.len() - 1] - loads[0] <= 1, "seed {seed}: {loads:?}");
    }
    let leaders: Vec<u64> = takers.iter().map(|site| layout.total(*site).leaders).collect();
    let (least, most) = (leaders.iter().min().unwrap(), leaders.iter().max().unwrap());
    assert!(most - least <= 1, "seed {seed}: leaders {leaders:?}");
    fewest
}

fn check_moves(seed: u64, layout: &Layout, slack: &mut (usize, usize)) {
    let (fewest, moves) = (check(seed, layout), layout.moves());
    assert!(moves * 10 <= fewest * 11 + 9, "seed {seed}: {moves} moves, {fewest} are the fewest");
    slack.0 += moves;
    slack.1 += fewest;
}

fn assert_nearly_fewest((moves, fewest): (usize, usize)) {
    assert!(moves * 10 <= fewest * 11, "{moves} moves in all, {fewest} are the fewest");
}

#[test]
fn a_rebalance_is_as_even_as_racks_allow_by_the_fewest_moves_and_a_tenth() {
    let mut slack = (0, 0);
    for seed in 0..CLUSTERS {
        let mut chance = Chance(seed);
        let sites = sites(&mut chance);
        let partitions = partitions(&mut chance, sites.len());
        let layout = rebalanced(sites, partitions);
        check_moves(seed, &layout, &mut slack);
    }
    assert_nearly_fewest(slack);
}

/// Once even, one or two brokers more.
#[test]
fn brokers_that_come_get_their_share_and_nothing_else_moves() {
    let mut slack = (0, 0);
    for seed in 0..CLUSTERS {
        let mut chance = Chance(seed);
        let mut all = sites(&mut chance);
        let new = chance.within(1, 2.min(all.len() - 2));
        let came = all.len() - new;
        let mut partitions = partitions(&mut chance, came.max(1));
        partitions.iter_mut().for_each(|held| held.factor = held.factor.min(came));
        for site in &mut all[came..] {
            site.role = Role::Leaves;
        }
        let before = rebalanced(all.clone(), partitions);
        for site in &mut all[came..] {
            site.role = Role::Takes;
        }
        let settled = |held: &Held| Held { origin: held.replicas.clone(), ..held.clone() };
        let partitions: Vec<Held> = before.partitions.iter().map(settled).collect();
        let layout = rebalanced(all, partitions);
        check_moves(seed, &layout, &mut slack);
    }
    assert_nearly_fewest(slack);
}

/// Once even, a broker has to go.
#[test]
fn what_a_broker_has_that_goes_is_shared_by_the_others() {
    let mut slack = (0, 0);
    for seed in 0..CLUSTERS {
        let mut chance = Chance(seed);
        let mut all = sites(&mut chance);
        let mut partitions = partitions(&mut chance, all.len());
        for held in &mut partitions {
            held.factor = held.factor.min(all.len() - 1);
            held.replicas.truncate(held.factor);
            held.origin.truncate(held.factor);
        }
        let before = rebalanced(all.clone(), partitions);
        let settled = |held: &Held| Held { origin: held.replicas.clone(), ..held.clone() };
        let partitions: Vec<Held> = before.partitions.iter().map(settled).collect();
        let goes = chance.below(all.len());
        all[goes].role = Role::Leaves;
        let layout = rebalanced(all, partitions);
        assert_eq!(layout.total(goes).replicas, 0, "seed {seed}");
        check_moves(seed, &layout, &mut slack);
    }
    assert_nearly_fewest(slack);
}

#[test]
fn what_is_even_already_stays_and_a_second_rebalance_does_nothing() {
    for seed in 0..FEWER_CLUSTERS {
        let mut chance = Chance(seed);
        let sites = sites(&mut chance);
        let partitions = partitions(&mut chance, sites.len());
        let once = rebalanced(sites.clone(), partitions);
        let settled = |held: &Held| Held { origin: held.replicas.clone(), ..held.clone() };
        let partitions: Vec<Held> = once.partitions.iter().map(settled).collect();
        let twice = rebalanced(sites, partitions.clone());
        for (before, after) in partitions.iter().zip(&twice.partitions) {
            assert_eq!(before.replicas, after.replicas, "seed {seed}");
        }
    }
}

/// Leaderships that are uneven only by the order of replicas cost no data.
#[test]
fn leaderships_are_levelled_by_order_before_data_moves() {
    for seed in 0..FEWER_CLUSTERS {
        let mut chance = Chance(seed);
        let sites = sites(&mut chance);
        let partitions = partitions(&mut chance, sites.len());
        let even = rebalanced(sites.clone(), partitions);
        let by_number = |held: &Held| {
            let mut replicas = held.replicas.clone();
            replicas.sort_unstable();
            Held { origin: replicas.clone(), replicas, ..held.clone() }
        };
        let partitions: Vec<Held> = even.partitions.iter().map(by_number).collect();
        let layout = rebalanced(sites, partitions);
        assert_eq!(layout.moves(), 0, "seed {seed}");
        check(seed, &layout);
    }
}

/// Bytes come third: what is moved for them leaves replicas and leaderships as even as they are.
#[test]
fn bytes_are_levelled_too_where_sizes_differ() {
    let (mut off_before, mut off_after) = (0, 0);
    for seed in 0..FEWER_CLUSTERS {
        let mut chance = Chance(seed);
        let sites = sites(&mut chance);
        let mut partitions = partitions(&mut chance, sites.len());
        for held in &mut partitions {
            held.size = [10, 100, 1000, 5000][chance.below(4)] * chance.within(1, 9) as u64;
        }
        let before = Layout::new(sites.clone(), partitions.clone(), true);
        let layout = rebalanced(sites, partitions);
        check(seed, &layout);
        off_before += worst_excess_percent(&before);
        off_after += worst_excess_percent(&layout);
        let copied = layout.moves();
        assert!(copied <= layout.partitions.iter().map(|held| held.factor).sum());
    }
    assert!(off_after * 4 < off_before, "{off_after} of {off_before}");
}

/// How much more the fullest broker has than its replicas would have on average.
fn worst_excess_percent(layout: &Layout) -> u64 {
    let sites: Vec<usize> = takers(layout);
    let bytes: u64 = sites.iter().map(|site| layout.total(*site).bytes).sum();
    let replicas: u64 = sites.iter().map(|site| layout.total(*site).replicas).sum();
    let excess = |site: &usize| {
        let load = layout.total(*site);
        let share = bytes * load.replicas / replicas;
        load.bytes.saturating_sub(share) * 100 / share.max(1)
    };
    sites.iter().map(excess).max().unwrap_or(0)
}

/// Only the brokers that are to be filled take, and no more than their share.
#[test]
fn filling_a_broker_moves_its_share_onto_it_and_nothing_else() {
    for seed in 0..CLUSTERS {
        let mut chance = Chance(seed);
        let sites = sites(&mut chance);
        let new = sites.len() - 1;
        let partitions: Vec<Held> = {
            let mut held = partitions(&mut chance, new);
            held.iter_mut().for_each(|held| held.factor = held.replicas.len());
            held
        };
        let mut layout = Layout::new(sites, partitions, false);
        let levelling = Levelling::Fill(vec![new]);
        layout.level_replicas(&levelling);
        layout.level_leaders(&levelling);
        let all: u64 = (0..=new).map(|site| layout.total(site).replicas).sum();
        let share = all / (new as u64 + 1);
        let got = layout.total(new).replicas;
        assert!(got == share || got == share + 1, "seed {seed}: {got} of {share}");
        assert_eq!(layout.moves() as u64, got, "seed {seed}");
        let leads = layout.total(new).leaders;
        let led = layout.partitions.len() as u64 / (new as u64 + 1);
        assert!(leads >= led.min(got), "seed {seed}: leads {leads} of {led}");
    }
}

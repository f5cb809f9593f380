//! Three replicas of one partition, a controller, producers, and everything that can go wrong between them,
//! in one thread and from one seed.
//!
//! - `world`: the state of everything, and the order of events, by `chance`.
//! - `actions`: carrying out what the machines ask for.
//! - `faults`: what breaks, and how it is healed.
//! - `disk`: a log that loses what was not flushed. `network`: streams that break.
//! - `controller`: R9 and R12, one change after another. `clients`: producers that send until they hear.
//! - `transactions`: producers with transactions, of both versions, and who coordinates them. `markers`: what partitions
//!   are told of their ends, late, twice, and by coordinators that have been replaced.
//! - `invariants`: what has to hold after every step, one promise a file.
//!
//! First faults, then healing: whatever was acknowledged is there, and the replicas become equal.

mod actions;
mod chance;
mod clients;
mod controller;
mod disk;
mod faults;
mod invariants;
mod markers;
mod network;
mod transactions;
mod world;

use super::planted::Bug;
use chance::{Stats, Violation};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// Runs of the default test. More with the variable `TROUPE_SIMULATION_SEEDS`.
const SEEDS: u64 = 1_500;

fn run(seed: u64, bug: Option<Bug>) -> Result<Stats, Violation> {
    let mut world = World::new(seed, bug);
    let steps = 200 + world.chance.below(1_000);
    for _ in 0..steps {
        world.step()?;
    }
    world.heal()?;
    Ok(world.stats)
}

/// I1–I8 and R20, and that the runs have met what they are for.
#[test]
fn no_schedule_of_faults_breaks_a_promise() {
    let seeds = std::env::var("TROUPE_SIMULATION_SEEDS").ok().and_then(|n| n.parse().ok());
    let mut total = Stats::default();
    for seed in 0..seeds.unwrap_or(SEEDS) {
        match run(seed, None) {
            Ok(stats) => total.add(&stats),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    println!("{total:?}");
    total.assert_all_happened();
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None), run(seed, None));
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 0, ..Default::default() })]
    #[test]
    fn no_schedule_from_anywhere_breaks_a_promise(seed in any::<u64>()) {
        if let Err(violation) = run(seed, None) {
            panic!("seed {seed}: {violation}");
        }
    }
}

/// How many seeds it takes until the bug shows, as a broken invariant or a failed assertion.
fn seeds_to_find(bug: Bug) -> (u64, String) {
    for seed in 0..5_000 {
        match catch_unwind(AssertUnwindSafe(|| run(seed, Some(bug)))) {
            Ok(Ok(_)) => {}
            Ok(Err(violation)) => return (seed + 1, violation.to_string()),
            Err(_) => return (seed + 1, "an assertion of the machine".to_owned()),
        }
    }
    panic!("{bug:?} is not found");
}

/// reliability.md §10: a simulation that finds nothing proves nothing.
#[test]
fn every_planted_bug_is_found() {
    for bug in [
        Bug::AcknowledgeBeforeFlush,
        Bug::TruncateByHighWatermark,
        Bug::JoinTooEarly,
        Bug::ForgetProducers,
        Bug::IgnorePendingExpansion,
        Bug::ForgetStaleRequest,
        Bug::ServeAfterEpochEnded,
        Bug::ConfirmAlone,
        Bug::ForgetOpenTransactions,
        Bug::JoinTheNextTransaction,
        Bug::TakeOldCoordinators,
        Bug::AnyMarkerEnds,
    ] {
        let (seeds, how) = seeds_to_find(bug);
        println!("{bug:?}: {seeds} seeds: {how}");
    }
}

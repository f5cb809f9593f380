//! Random histories: clients that crash, wait too long and ask again, a network that keeps, doubles and loses what it
//! carries, coordinators that fail with what they had not written, partitions that are deleted. Each comes from a seed.
//!
//! - `world`: the coordinator with its log, and what happens to it. `clients`: producers, and what they are told.
//!   `partitions`: what is written, and what markers do. `truth`: what has to hold, whatever happens.

mod clients;
mod partitions;
mod truth;
mod world;

use super::*;
use crate::txn::planted::Bug;
use world::World;

/// SplitMix64: all that is random in a history.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Steps of one history, before all that is under way arrives.
const STEPS: usize = 200;

/// What is wrong with the history of that seed.
fn history(seed: u64, bug: Option<Bug>) -> (Result<(), String>, truth::Seen) {
    let mut world = World::new(seed, bug);
    for _ in 0..STEPS {
        world.step();
        if world.truth.wrong.is_some() {
            break;
        }
    }
    if world.truth.wrong.is_none() {
        world.settle();
    }
    let seen = world.truth.seen.clone();
    (world.truth.wrong.map_or(Ok(()), Err), seen)
}

/// `TROUPE_TXN_FIRST` and `TROUPE_TXN_SEEDS` choose others.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let first = number("TROUPE_TXN_FIRST", 0);
    first..first + number("TROUPE_TXN_SEEDS", 20_000)
}

/// I9, I10, I11, I15, and that decide and replay are one.
#[test]
fn random_histories_keep_the_promises() {
    let mut seen = truth::Seen::default();
    for seed in seeds() {
        let (outcome, of_this) = history(seed, None);
        assert_eq!(outcome, Ok(()), "seed {seed}");
        seen.add(&of_this);
    }
    // Whatever the histories are for has happened in some of them.
    if seeds().count() >= 1_000 {
        let never: Vec<_> = seen.0.iter().filter(|(_, times)| **times == 0).collect();
        assert!(never.is_empty(), "{never:?}");
        assert_eq!(seen.0.len(), truth::SIGHTS.len());
    }
}

/// The checks of the histories above are such that find what they are for.
#[test]
fn random_histories_find_what_goes_wrong_in_the_field() {
    for (bug, said) in [
        (Bug::DecideAgain, "decided otherwise"),
        (Bug::EndInTheSameEpoch, ""),
        (Bug::TimeOutWithoutFence, ""),
        (Bug::InitWithoutFence, ""),
        (Bug::OldInstanceAsksAgain, ""),
        (Bug::CompleteAtTheFirstMarker, ""),
        (Bug::MarkersAreForgotten, "is not over"),
    ] {
        let found = (0..5_000).find_map(|seed| {
            let (outcome, _) = history(seed, Some(bug));
            outcome.err().map(|wrong| (seed, wrong))
        });
        let Some((seed, wrong)) = found else { panic!("{bug:?} was not found") };
        assert!(wrong.contains(said), "{bug:?}, seed {seed}: {wrong}");
        println!("{bug:?}: seed {seed}");
    }
}

/// Nothing but the seed decides.
#[test]
fn a_history_is_the_same_each_time() {
    for seed in 0..50 {
        let all = |seed| {
            let mut world = World::new(seed, None);
            (0..STEPS).for_each(|_| world.step());
            world.log().to_vec()
        };
        assert_eq!(all(seed), all(seed));
    }
}

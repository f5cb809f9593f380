//! Runs of seeds, over threads; each run in one.

use crate::chance::Chance;
use crate::counts::{Counts, GroupCounts, TxnCounts};
use crate::settings::{Bug, Settings};
use crate::violation::{Checked, Violation};
use crate::world::World;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A run that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub hash: u64,
    pub events: u64,
    pub simulated_ms: u64,
    pub counts: Counts,
    pub group_counts: GroupCounts,
    pub txn_counts: TxnCounts,
}

/// Which world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Replicas,
    /// And disks go bad, in half of the runs.
    Decay,
    Groups,
    Transactions,
}

/// A run that did not.
#[derive(Clone, Debug)]
pub struct Failed {
    pub seed: u64,
    pub why: String,
    /// The last events.
    pub tail: String,
}

pub fn run(kind: Kind, seed: u64, bug: Option<Bug>) -> Result<Finished, Failed> {
    let mut chance = Chance::new(seed);
    let settings = match kind {
        Kind::Replicas if bug.is_none() => {
            Settings::draw(seed, &mut chance, bug).with_reassignment(seed)
        }
        Kind::Replicas | Kind::Decay => {
            Settings::draw(seed, &mut chance, bug).with_reassignment(seed).with_decay(seed)
        }
        Kind::Groups => Settings::draw_groups(&mut chance, bug),
        Kind::Transactions => Settings::draw_transactions(seed, &mut chance, bug),
    };
    run_with(seed, settings, chance)
}

/// As seeds were run before some of them got a topic that is compacted.
pub fn run_without_compaction(kind: Kind, seed: u64) -> Result<Finished, Failed> {
    let mut chance = Chance::new(seed);
    let settings = match kind {
        Kind::Replicas | Kind::Decay => Settings::draw(seed, &mut chance, None),
        Kind::Groups => Settings::draw_groups(&mut chance, None),
        Kind::Transactions => Settings::draw_transactions(seed, &mut chance, None),
    };
    run_with(seed, Settings { compaction: None, ..settings }, chance)
}

fn run_with(seed: u64, settings: Settings, chance: Chance) -> Result<Finished, Failed> {
    let mut world = World::new(seed, settings, chance);
    let ended = catch_unwind(AssertUnwindSafe(|| -> Checked {
        world.run_until(world.settings.safety_ms)?;
        world.heal()
    }));
    let why = match ended {
        Ok(Ok(())) => {
            return Ok(Finished {
                hash: world.trace.hash(),
                events: world.trace.events(),
                simulated_ms: world.now,
                counts: world.counts,
                group_counts: world.group_counts,
                txn_counts: world.txn_counts,
            });
        }
        Ok(Err(violation)) => violation.to_string(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Violation::new("an assertion", text.unwrap_or_default()).to_string()
        }
    };
    let tail = format!("{:?}\n{}", world.settings, world.trace.tail());
    Err(Failed { seed, why, tail })
}

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Sweep {
    pub runs: u64,
    pub events: u64,
    pub simulated_ms: u64,
    pub counts: Counts,
    pub group_counts: GroupCounts,
    pub txn_counts: TxnCounts,
    /// By seed; nothing new is begun after the first.
    pub failed: Vec<Failed>,
}

/// Runs `count` seeds from `first` on, until one fails.
pub fn sweep(kind: Kind, first: u64, count: u64, bug: Option<Bug>) -> Sweep {
    quiet_panics();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let sweep = Mutex::new(Sweep::default());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            let result = run(kind, seed, bug);
            let mut sweep = sweep.lock().expect("nobody panics while it is held");
            match result {
                Ok(finished) => {
                    sweep.runs += 1;
                    sweep.events += finished.events;
                    sweep.simulated_ms += finished.simulated_ms;
                    sweep.counts.add(&finished.counts);
                    sweep.group_counts.add(&finished.group_counts);
                    sweep.txn_counts.add(&finished.txn_counts);
                }
                Err(failed) => {
                    if bug.is_none() {
                        // at once: a long run that is interrupted has not found it for nothing
                        let Failed { seed, why, .. } = &failed;
                        let _ = writeln!(std::io::stderr(), "seed {seed}: {why}");
                    }
                    let goes_on = std::env::var_os("TROUPE_SIMULATION_KEEP_GOING").is_some();
                    stop.store(!goes_on, Ordering::Relaxed);
                    sweep.failed.push(failed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let thread = std::thread::Builder::new().name(SIMULATED.to_owned());
            thread.spawn_scoped(scope, work).expect("a thread can be made");
        }
    });
    let mut sweep = sweep.into_inner().expect("nobody panics while it is held");
    sweep.failed.sort_by_key(|failed| failed.seed);
    sweep
}

const SIMULATED: &str = "simulated";

/// An assertion that a run fails is its result, and nothing to print when it happens.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let simulated = std::thread::current().name() == Some(SIMULATED);
            if !simulated || std::env::var_os("TROUPE_SIMULATION_PANICS").is_some() {
                usual(info);
            }
        }));
    });
}

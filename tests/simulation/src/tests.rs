//! The runs that every test of the workspace makes, and the proof that they would find something.

use crate::runner::{Sweep, run, sweep};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

fn assert_none_failed(sweep: &Sweep) {
    for failed in &sweep.failed {
        println!("seed {}: {}", failed.seed, failed.why);
    }
    if let Some(failed) = sweep.failed.first() {
        println!("{}", failed.tail);
        panic!(
            "seed {seed}: {why}\nagain: TROUPE_SIMULATION_FIRST={seed} TROUPE_SIMULATION_SEEDS=1 \
             cargo test -p troupe-simulation no_schedule",
            seed = failed.seed,
            why = failed.why
        );
    }
}

#[test]
fn no_schedule_of_faults_breaks_a_promise() {
    let count = number("TROUPE_SIMULATION_SEEDS").unwrap_or(500);
    let first = number("TROUPE_SIMULATION_FIRST").unwrap_or(0);
    let sweep = sweep(first, count, None);
    println!("{} runs, {} events, {} simulated s", sweep.runs, sweep.events, sweep.simulated_ms / 1000);
    for (what, times) in sweep.counts.table() {
        println!("{times:>12} {what}");
    }
    assert_none_failed(&sweep);
    if count >= 500 {
        let never: Vec<_> = sweep.counts.table().into_iter().filter(|(_, n)| *n == 0).collect();
        assert!(never.is_empty(), "never happened: {never:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..10 {
        let (one, other) = (run(seed, None), run(seed, None));
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "seed {seed}");
    }
}

//! The runs with groups that every test of the workspace makes, and the proof that they would find something.

use super::settings::GroupHostBug;
use crate::runner::{Kind, run, sweep};
use crate::settings::Bug;
use crate::tests::{assert_none_failed, find, number};
use troupe_machines::group::planted::Bug as GroupBug;

#[test]
fn no_storm_of_members_and_faults_breaks_a_promise_to_groups() {
    let count = number("TROUPE_SIMULATION_SEEDS").unwrap_or(300);
    let first = number("TROUPE_SIMULATION_FIRST").unwrap_or(0);
    let sweep = sweep(Kind::Groups, first, count, None);
    println!(
        "{} runs, {} events, {} simulated s",
        sweep.runs,
        sweep.events,
        sweep.simulated_ms / 1000
    );
    let tables = [sweep.counts.table(), sweep.group_counts.table()];
    for (what, times) in tables.iter().flatten() {
        println!("{times:>12} {what}");
    }
    assert_none_failed(&sweep, "no_storm");
    if count >= 300 {
        let table = sweep.group_counts.table().into_iter();
        let never: Vec<_> = table.filter(|(_, times)| *times == 0).collect();
        assert!(never.is_empty(), "never happened: {never:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_with_groups() {
    for seed in 0..10 {
        let (one, other) = (run(Kind::Groups, seed, None), run(Kind::Groups, seed, None));
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "seed {seed}");
    }
}

macro_rules! found {
    ($($name:ident: $bug:expr, within $seeds:literal;)*) => {
        $(#[test] fn $name() { find(Kind::Groups, $bug, $seeds); })*
    };
}

// reliability.md §10: a simulation that finds nothing proves nothing.
found! {
    a_partition_given_before_it_is_free_is_found:
        Bug::Group(GroupBug::GrantBeforeRelease), within 100;
    a_commit_by_a_stale_member_is_found: Bug::Group(GroupBug::CommitByStaleMember), within 100;
    a_record_skipped_at_hand_over_is_found: Bug::Group(GroupBug::SkipAtHandOver), within 100;
    an_answer_before_the_commit_is_found:
        Bug::GroupHost(GroupHostBug::AnswerBeforeCommitted), within 200;
    a_coordinator_that_loads_too_early_is_found:
        Bug::GroupHost(GroupHostBug::LoadTooEarly), within 200;
}

//! The runs with groups that every test of the workspace makes, and the proof that they would find something.

use super::settings::GroupHostBug;
use crate::runner::{Kind, run, sweep};
use crate::settings::Bug;
use crate::tests::{assert_all_happened, assert_none_failed, find, first_seed, number};
use troupe_machines::group::planted::Bug as GroupBug;

#[test]
fn no_storm_of_members_and_faults_breaks_a_promise_to_groups() {
    let count = number("TROUPE_SIMULATION_SEEDS").unwrap_or(300);
    let first = first_seed("no_storm");
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
        assert_all_happened(Kind::Groups, sweep.group_counts.table(), count);
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

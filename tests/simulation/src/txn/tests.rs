//! The runs with transactions that every test of the workspace makes, and the proof that they would find something.

use super::settings::TxnHostBug;
use crate::runner::{Kind, run, sweep};
use crate::settings::{Bug, HostBug};
use crate::tests::{assert_all_happened, assert_none_failed, find, first_seed, number};
use troupe_machines::replica::planted::Bug as MachineBug;
use troupe_machines::txn::planted::Bug as TxnBug;

#[test]
fn no_failure_breaks_a_promise_to_transactions() {
    let count = number("TROUPE_SIMULATION_SEEDS").unwrap_or(150);
    let first = first_seed("no_failure");
    let sweep = sweep(Kind::Transactions, first, count, None);
    println!(
        "{} runs, {} events, {} simulated s",
        sweep.runs,
        sweep.events,
        sweep.simulated_ms / 1000
    );
    let tables = [sweep.counts.table(), sweep.txn_counts.table()];
    for (what, times) in tables.iter().flatten() {
        println!("{times:>12} {what}");
    }
    assert_none_failed(&sweep, "no_failure");
    if count >= 150 {
        assert_all_happened(Kind::Transactions, sweep.txn_counts.table(), count);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_with_transactions() {
    for seed in 0..5 {
        let run = |seed| run(Kind::Transactions, seed, None);
        assert_eq!(format!("{:?}", run(seed)), format!("{:?}", run(seed)), "seed {seed}");
    }
}

macro_rules! found {
    ($($name:ident: $bug:expr, within $seeds:literal;)*) => {
        $(#[test] fn $name() { find(Kind::Transactions, $bug, $seeds); })*
    };
}

// reliability.md §10: a simulation that finds nothing proves nothing.
found! {
    a_leader_that_forgets_open_transactions_is_found:
        Bug::Machine(MachineBug::ForgetOpenTransactions), within 100;
    a_late_batch_in_the_next_transaction_is_found:
        Bug::Txn(TxnBug::EndInTheSameEpoch), within 100;
    a_marker_of_an_old_coordinator_is_found:
        Bug::Machine(MachineBug::TakeOldCoordinators), within 300;
    aborted_transactions_forgotten_in_a_truncation_are_found:
        Bug::Host(HostBug::ForgetAbortedInTruncation), within 300;
    aborted_transactions_that_followers_forget_are_found:
        Bug::Host(HostBug::FollowersForgetAborted), within 100;
    reads_above_what_is_stable_are_found: Bug::Host(HostBug::ReadAboveLastStable), within 100;
    a_late_marker_that_ends_the_next_transaction_is_found:
        Bug::Machine(MachineBug::AnyMarkerEnds), within 300;
    a_time_out_without_a_fence_is_found: Bug::Txn(TxnBug::TimeOutWithoutFence), within 100;
    an_instance_that_does_not_fence_is_found: Bug::Txn(TxnBug::InitWithoutFence), within 100;
    a_commit_that_one_marker_completes_is_found:
        Bug::Txn(TxnBug::CompleteAtTheFirstMarker), within 100;
    forgotten_markers_are_found: Bug::Txn(TxnBug::MarkersAreForgotten), within 100;
    an_outcome_told_before_it_is_committed_is_found:
        Bug::TxnHost(TxnHostBug::AnswerBeforeCommitted), within 300;
    a_coordinator_of_transactions_that_loads_too_early_is_found:
        Bug::TxnHost(TxnHostBug::LoadTooEarly), within 300;
}

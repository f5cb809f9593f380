//! X5, X6: what partitions are told.

use super::*;

/// A transaction of `t0` and `u1` that is committed, and what is to be told of it.
fn committed(version: ClientVersion) -> (Coordinator, Producer, Vec<Marker>) {
    let mut coordinator = Coordinator::new(version);
    let held = coordinator.init(None).unwrap();
    coordinator.add(held, "t", 0).unwrap();
    coordinator.add(held, "u", 1).unwrap();
    let (next, markers) = coordinator.end(held, Outcome::Commit).unwrap();
    (coordinator, next, markers)
}

fn mark(coordinator: &mut Coordinator, ticket: Ticket, partition: &TxnPartition) {
    let decision = coordinator.txns.marked(coordinator.now, "x", ticket, partition.key());
    coordinator.run(decision);
}

#[test]
fn a_transaction_is_complete_when_the_last_partition_has_its_marker() {
    let (mut coordinator, _, markers) = committed(ClientVersion::Second);
    let ticket = markers[0].ticket;
    for _ in 0..2 {
        mark(&mut coordinator, ticket, &partition("u", 2, 1));
        assert_eq!(coordinator.state(), Some(State::PrepareCommit));
    }
    mark(&mut coordinator, ticket, &partition("t", 1, 0));
    assert_eq!(coordinator.state(), Some(State::CompleteCommit));
    assert_eq!(coordinator.txns.describe("x").unwrap().partitions, []);
    let records = coordinator.log.len();
    mark(&mut coordinator, ticket, &partition("t", 1, 0));
    assert_eq!(coordinator.log.len(), records);
}

#[test]
fn who_has_not_said_that_it_has_its_marker_is_told_again() {
    let (mut coordinator, _, markers) = committed(ClientVersion::Second);
    assert_eq!(coordinator.pass(999), []);
    assert_eq!(coordinator.pass(1), markers);
    mark(&mut coordinator, markers[0].ticket, &partition("t", 1, 0));
    assert_eq!(coordinator.pass(500), []);
    let expected = [(Outcome::Commit, 1, names(&["u1"]))];
    assert_eq!(told(&coordinator.pass(500)), expected);
    assert_eq!(told(&coordinator.pass(1_000)), expected);
    mark(&mut coordinator, markers[0].ticket, &partition("u", 2, 1));
    assert_eq!(coordinator.pass(1_000), []);
}

/// X6, fault 39.
#[test]
fn the_next_coordinator_finishes_the_markers() {
    let (mut coordinator, next, markers) = committed(ClientVersion::Second);
    mark(&mut coordinator, markers[0].ticket, &partition("t", 1, 0));
    coordinator.fail_over();
    assert_eq!(coordinator.txns.next_deadline(), Some(coordinator.now));
    let again = coordinator.pass(0);
    assert_eq!(told(&again), told(&markers), "what was told before nobody knows");
    coordinator.write(&again);
    assert_eq!(coordinator.state(), Some(State::CompleteCommit));
    assert_eq!(coordinator.add(next, "t", 0), Ok(()));
}

/// X5.
#[test]
fn a_partition_that_is_deleted_owes_no_marker() {
    let (mut coordinator, _, markers) = committed(ClientVersion::Second);
    coordinator.topics(&TOPICS[..1]);
    assert_eq!(coordinator.state(), Some(State::PrepareCommit));
    assert_eq!(told(&coordinator.pass(1_000)), [(Outcome::Commit, 1, names(&["t0"]))]);
    mark(&mut coordinator, markers[0].ticket, &partition("t", 1, 0));
    assert_eq!(coordinator.state(), Some(State::CompleteCommit));

    // The last one that owes it, and a topic that was made again.
    let (mut coordinator, _, markers) = committed(ClientVersion::Second);
    mark(&mut coordinator, markers[0].ticket, &partition("t", 1, 0));
    coordinator.topics(&[("t", 1, 4), ("u", 7, 2)]);
    assert_eq!(coordinator.state(), Some(State::CompleteCommit));
}

#[test]
fn where_all_is_deleted_a_decision_is_complete_at_once() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    coordinator.add(held, "u", 0).unwrap();
    coordinator.topics(&TOPICS[..1]);
    assert_eq!(coordinator.state(), Some(State::Ongoing));
    let (next, markers) = coordinator.end(held, Outcome::Commit).unwrap();
    assert_eq!(markers, []);
    assert_eq!(coordinator.state(), Some(State::CompleteCommit));
    coordinator.add(next, "t", 0).unwrap();
    let (_, markers) = coordinator.end(next, Outcome::Commit).unwrap();
    coordinator.write(&markers);
    assert_eq!(coordinator.state(), Some(State::CompleteCommit), "tickets are as they were told");
}

/// Deleted while nobody coordinated.
#[test]
fn the_next_coordinator_waits_for_no_partition_that_is_gone() {
    let (mut coordinator, ..) = committed(ClientVersion::Second);
    coordinator.txns.set_catalog(catalog(&[]));
    coordinator.fail_over();
    assert_eq!(coordinator.state(), Some(State::CompleteCommit));
}

/// In an epoch that stays, nothing else tells one transaction's markers from the next one's.
#[test]
fn what_a_partition_says_counts_for_the_transaction_that_it_was_asked_about() {
    let (mut coordinator, held, first) = committed(ClientVersion::First);
    coordinator.write(&first);
    coordinator.now = coordinator.now.plus(1);
    coordinator.add(held, "t", 0).unwrap();
    let (_, second) = coordinator.end(held, Outcome::Abort).unwrap();
    mark(&mut coordinator, first[0].ticket, &partition("t", 1, 0));
    assert_eq!(coordinator.state(), Some(State::PrepareAbort));
    mark(&mut coordinator, second[0].ticket, &partition("t", 1, 0));
    assert_eq!(coordinator.state(), Some(State::CompleteAbort));
    let unknown =
        coordinator.txns.marked(coordinator.now, "y", Ticket(1), second[0].partitions[0].key());
    assert_eq!(unknown, Decision::default());
}

/// What the planted bug does: the next transaction is complete, and its partition was never told.
#[test]
fn a_planted_bug_takes_a_late_word_for_one_of_now() {
    let (mut coordinator, held, first) = committed(ClientVersion::First);
    coordinator.write(&first);
    coordinator.now = coordinator.now.plus(1);
    coordinator.add(held, "t", 0).unwrap();
    coordinator.end(held, Outcome::Abort).unwrap();
    coordinator.txns.plant(Bug::AnyWordCounts);
    mark(&mut coordinator, first[0].ticket, &partition("t", 1, 0));
    assert_eq!(coordinator.state(), Some(State::CompleteAbort));
}

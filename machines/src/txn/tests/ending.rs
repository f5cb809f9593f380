//! X4, X7, X8, X19: decisions, and those who ask again.

use super::*;

/// The record comes before the answer, and the markers behind it.
#[test]
fn a_decision_is_one_record_then_an_answer_then_markers() {
    for (outcome, state) in
        [(Outcome::Commit, State::PrepareCommit), (Outcome::Abort, State::PrepareAbort)]
    {
        let mut coordinator = Coordinator::second();
        let held = coordinator.init(None).unwrap();
        coordinator.add(held, "t", 0).unwrap();
        coordinator.add(held, "u", 1).unwrap();
        let request = EndRequest { transactional_id: "x", producer: held, outcome };
        let decision = coordinator.txns.end(coordinator.now, coordinator.now, request).unwrap();
        assert_eq!(decision.changes.len(), 1);
        assert_eq!(decision.answer, producer(1, 1));
        assert_eq!(told(&decision.markers), [(outcome, 1, names(&["t0", "u1"]))]);
        coordinator.run(decision);
        assert_eq!(coordinator.state(), Some(state));
    }
}

/// X19: late requests of a transaction are told from those of the next.
#[test]
fn each_transaction_of_the_second_version_has_an_epoch_of_its_own() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    let next = coordinator.transact(held, Outcome::Commit);
    assert_eq!(next, producer(1, 1));
    assert_eq!(coordinator.add(held, "t", 0), Err(ErrorCode::ProducerFenced));
    coordinator.add(next, "t", 0).unwrap();
    assert_eq!(coordinator.end(held, Outcome::Commit), Err(ErrorCode::ProducerFenced));
    assert_eq!(coordinator.end(next, Outcome::Abort).unwrap().0, producer(1, 2));
}

/// X19a.
#[test]
fn a_client_of_the_first_version_keeps_its_epoch() {
    let mut coordinator = Coordinator::new(ClientVersion::First);
    let held = coordinator.init(None).unwrap();
    for outcome in [Outcome::Commit, Outcome::Abort, Outcome::Commit] {
        coordinator.add(held, "t", 0).unwrap();
        let (next, markers) = coordinator.end(held, outcome).unwrap();
        assert_eq!(next, held);
        assert_eq!(markers[0].producer, held);
        coordinator.write(&markers);
        coordinator.now = coordinator.now.plus(1);
    }
}

/// X8, fault 14: the answer was lost.
#[test]
fn who_ends_a_transaction_twice_is_told_the_same() {
    for version in [ClientVersion::First, ClientVersion::Second] {
        for (outcome, other) in
            [(Outcome::Commit, Outcome::Abort), (Outcome::Abort, Outcome::Commit)]
        {
            let mut coordinator = Coordinator::new(version);
            let held = coordinator.init(None).unwrap();
            coordinator.add(held, "t", 0).unwrap();
            let (next, markers) = coordinator.end(held, outcome).unwrap();
            let again = coordinator.end(held, outcome);
            assert_eq!(again, Err(ErrorCode::ConcurrentTransactions), "X7");
            let undone = coordinator.end(held, other);
            assert_eq!(undone, Err(ErrorCode::InvalidTransactionState), "X6");
            coordinator.write(&markers);
            for _ in 0..2 {
                assert_eq!(coordinator.end(held, outcome), Ok((next, vec![])));
                let undone = coordinator.end(held, other);
                assert_eq!(undone, Err(ErrorCode::InvalidTransactionState));
                coordinator.fail_over();
            }
            assert_eq!(coordinator.log.len(), 4, "nothing was decided twice");
        }
    }
}

/// I11: asked again before its answer came, it arrives when the next transaction is open, in the same epoch.
#[test]
fn an_end_that_was_asked_twice_ends_one_transaction() {
    let mut coordinator = Coordinator::new(ClientVersion::First);
    let held = coordinator.init(None).unwrap();
    coordinator.add(held, "t", 0).unwrap();
    let (_, markers) = coordinator.end(held, Outcome::Commit).unwrap();
    let asked_again = coordinator.now.plus(10);
    coordinator.now = asked_again;
    coordinator.write(&markers);
    coordinator.now = asked_again.plus(10);
    coordinator.add(held, "t", 0).unwrap();
    let late = coordinator.end_at(asked_again, held, Outcome::Commit);
    assert_eq!(late, Err(ErrorCode::Overtaken));
    assert_eq!(coordinator.state(), Some(State::Ongoing));
    // What the planted bug does: half a transaction is committed.
    coordinator.txns.plant(Bug::LateRequestsCount);
    assert!(coordinator.end_at(asked_again, held, Outcome::Commit).is_ok());
    assert_eq!(coordinator.state(), Some(State::PrepareCommit));
}

/// X8.
#[test]
fn where_nothing_is_open_nothing_is_ended() {
    for version in [ClientVersion::First, ClientVersion::Second] {
        for outcome in [Outcome::Commit, Outcome::Abort] {
            let mut coordinator = Coordinator::new(version);
            let unknown = coordinator.end(producer(1, 0), outcome);
            assert_eq!(unknown, Err(ErrorCode::InvalidProducerIdMapping));
            let held = coordinator.init(None).unwrap();
            let empty = coordinator.end(held, outcome);
            assert_eq!(empty, Err(ErrorCode::InvalidTransactionState));
            let other_epoch = coordinator.end(producer(1, 7), outcome);
            assert_eq!(other_epoch, Err(ErrorCode::ProducerFenced));
            let other_id = coordinator.end(producer(2, 0), outcome);
            assert_eq!(other_id, Err(ErrorCode::InvalidProducerIdMapping));
        }
    }
}

/// Nothing was written in this epoch, whatever was done in the one before.
#[test]
fn an_epoch_in_which_nothing_was_written_is_not_committed_by_the_one_before() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    coordinator.add(held, "t", 0).unwrap();
    let (next, markers) = coordinator.end(held, Outcome::Commit).unwrap();
    for outcome in [Outcome::Commit, Outcome::Abort] {
        assert_eq!(coordinator.end(next, outcome), Err(ErrorCode::ConcurrentTransactions));
    }
    coordinator.write(&markers);
    for outcome in [Outcome::Commit, Outcome::Abort] {
        assert_eq!(coordinator.end(next, outcome), Err(ErrorCode::InvalidTransactionState));
    }
}

/// X9, X19: the producer of the last epoch ends its transaction, and goes on with another producer id.
#[test]
fn the_end_of_the_last_epoch_brings_a_new_producer_id() {
    let last = producer(100, 32_766);
    let empty = Transaction::empty(Time(1_000_000), last, None, (60_000, ClientVersion::Second));
    let mut coordinator = Coordinator::at(ClientVersion::Second, &empty);
    coordinator.add(last, "t", 0).unwrap();
    let (next, markers) = coordinator.end(last, Outcome::Commit).unwrap();
    assert_eq!(next, producer(1, 0));
    assert_eq!(markers[0].producer, producer(100, 32_767));
    coordinator.fail_over();
    let markers = coordinator.pass(0);
    assert_eq!(markers[0].producer, producer(100, 32_767));
    assert_eq!(coordinator.add(next, "t", 0), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(coordinator.end(last, Outcome::Commit), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(coordinator.init(Some(last)), Err(ErrorCode::ConcurrentTransactions));
    coordinator.write(&markers);
    coordinator.fail_over();
    assert_eq!(coordinator.end(last, Outcome::Commit), Ok((next, vec![])));
    assert_eq!(coordinator.init(Some(last)), Ok(next));
    assert_eq!(coordinator.add(next, "t", 0), Ok(()));
    assert_eq!(coordinator.end(next, Outcome::Commit).unwrap().0, producer(1, 1));
}

#[test]
fn without_a_producer_id_at_hand_the_last_epoch_is_not_ended() {
    let last = producer(100, 32_766);
    for version in [ClientVersion::First, ClientVersion::Second] {
        let empty = Transaction::empty(Time(1_000_000), last, None, (60_000, version));
        let mut coordinator = Coordinator::at(version, &empty);
        coordinator.add(last, "t", 0).unwrap();
        coordinator.txns.spare.clear();
        match (version, coordinator.end(last, Outcome::Commit)) {
            (ClientVersion::First, ended) => assert_eq!(ended.unwrap().0, last),
            (_, refused) => assert_eq!(refused, Err(ErrorCode::CoordinatorNotAvailable)),
        }
    }
}

/// Whatever the machine decides: the log of a live coordinator has nothing decided twice.
#[test]
fn a_record_that_undoes_a_decision_is_refused() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    coordinator.add(held, "t", 0).unwrap();
    coordinator.end(held, Outcome::Commit).unwrap();
    let (_, known) = coordinator.txns.get("x").unwrap();
    let undone = Change::put("x", &Transaction { state: State::PrepareAbort, ..known.clone() });
    let refused = coordinator.txns.replay(&undone);
    assert!(matches!(refused, Err(ReplayError::Impossible { .. })), "{refused:?}");
}

//! X3, X10: what time does.

use super::*;

/// Fault 5, I10, I15.
#[test]
fn a_transaction_that_lasts_too_long_is_aborted_and_its_producer_fenced() {
    for version in [ClientVersion::First, ClientVersion::Second] {
        let mut coordinator = Coordinator::new(version);
        let held = coordinator.init(None).unwrap();
        coordinator.now = coordinator.now.plus(5_000);
        coordinator.add(held, "t", 0).unwrap();
        let deadline = coordinator.now.plus(60_000);
        coordinator.now = coordinator.now.plus(30_000);
        coordinator.add(held, "t", 1).unwrap();
        assert_eq!(coordinator.txns.next_deadline(), Some(deadline), "from the first partition");
        assert_eq!(coordinator.pass(29_999), []);
        let markers = coordinator.pass(1);
        assert_eq!(told(&markers), [(Outcome::Abort, 1, names(&["t0", "t1"]))]);
        for outcome in [Outcome::Commit, Outcome::Abort] {
            assert_eq!(coordinator.end(held, outcome), Err(ErrorCode::ProducerFenced));
        }
        coordinator.write(&markers);
        assert_eq!(coordinator.state(), Some(State::CompleteAbort));
        for outcome in [Outcome::Commit, Outcome::Abort] {
            assert_eq!(coordinator.end(held, outcome), Err(ErrorCode::ProducerFenced));
        }
        assert_eq!(coordinator.add(held, "t", 0), Err(ErrorCode::ProducerFenced));
        assert_eq!(coordinator.init(Some(held)), Err(ErrorCode::ProducerFenced));
        assert_eq!(coordinator.init(None), Ok(producer(1, 2)));
    }
}

/// X6: whoever coordinates then.
#[test]
fn a_transaction_lasts_no_longer_because_its_coordinator_fails() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    coordinator.add(held, "t", 0).unwrap();
    coordinator.now = coordinator.now.plus(20_000);
    coordinator.fail_over();
    assert_eq!(coordinator.pass(39_999), []);
    assert_eq!(coordinator.pass(1).len(), 1);
}

/// Fault 32: the clock of the one that began was ahead by an hour.
#[test]
fn a_clock_that_was_ahead_keeps_no_transaction_open() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    coordinator.now = coordinator.now.plus(3_600_000);
    coordinator.add(held, "t", 0).unwrap();
    coordinator.now = Time(coordinator.now.0 - 3_600_000);
    coordinator.fail_over();
    assert_eq!(coordinator.pass(59_999), []);
    assert_eq!(coordinator.pass(1).len(), 1);
}

#[test]
fn an_id_that_nobody_uses_expires() {
    let week = 7 * 86_400_000;
    for state in [State::Empty, State::CompleteCommit, State::CompleteAbort] {
        let empty = Transaction::empty(
            Time(1_000_000),
            producer(100, 3),
            None,
            (60_000, ClientVersion::Second),
        );
        let transaction = Transaction { state, ..empty };
        let mut coordinator = Coordinator::at(ClientVersion::Second, &transaction);
        coordinator.pass(week - 1);
        assert_eq!(coordinator.state(), Some(state));
        assert!(
            coordinator
                .txns
                .next_deadline()
                .is_some_and(|at| at <= coordinator.now.plus(3_600_000))
        );
        coordinator.pass(3_600_000);
        assert_eq!(coordinator.state(), None);
        assert_eq!(coordinator.log.last().unwrap().value, None, "a tombstone");
        assert_eq!(coordinator.txns.next_deadline(), None);
        coordinator.fail_over();
        assert_eq!(coordinator.state(), None);
        let late = coordinator.add(producer(100, 3), "t", 0);
        assert_eq!(late, Err(ErrorCode::InvalidProducerIdMapping));
        assert_eq!(coordinator.init(None), Ok(producer(1, 0)));
    }
}

#[test]
fn an_id_that_is_used_stays() {
    let mut coordinator = Coordinator::second();
    let mut held = coordinator.init(None).unwrap();
    for _ in 0..10 {
        coordinator.pass(86_400_000);
        held = coordinator.transact(held, Outcome::Commit);
    }
    assert_eq!(coordinator.state(), Some(State::CompleteCommit));
    assert_eq!(held, producer(1, 10));
}

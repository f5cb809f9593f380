//! X9.

use super::*;

#[test]
fn a_new_id_has_a_producer_id_of_its_own_in_its_first_epoch() {
    let mut coordinator = Coordinator::second();
    assert_eq!(coordinator.init(None), Ok(producer(1, 0)));
    assert_eq!(coordinator.txns.wanted_ids(), 1);
    let other = InitRequest { transactional_id: "y", ..coordinator.request(None) };
    let now = coordinator.now;
    assert_eq!(coordinator.init_as(other, now), Ok((producer(2, 0), vec![])));
    assert_eq!(coordinator.state(), Some(State::Empty));
}

#[test]
fn without_a_producer_id_at_hand_nothing_is_begun() {
    let mut coordinator = Coordinator::second();
    coordinator.txns.spare.clear();
    assert_eq!(coordinator.init(None), Err(ErrorCode::CoordinatorNotAvailable));
    assert!(coordinator.log.is_empty());
}

/// X10.
#[test]
fn a_transaction_may_last_as_long_as_the_operator_says() {
    let mut coordinator = Coordinator::second();
    let now = coordinator.now;
    for (timeout_ms, code) in [
        (0, Some(ErrorCode::InvalidTransactionTimeout)),
        (1, None),
        (900_000, None),
        (900_001, Some(ErrorCode::InvalidTransactionTimeout)),
    ] {
        let request = InitRequest { timeout_ms, ..coordinator.request(None) };
        let refused = coordinator.init_as(request, now).err().map(|(code, _)| code);
        assert_eq!(refused, code, "{timeout_ms}");
    }
}

/// I10: the one before may do nothing any more.
#[test]
fn a_new_instance_fences_the_one_before() {
    for version in [ClientVersion::First, ClientVersion::Second] {
        let mut coordinator = Coordinator::new(version);
        let old = coordinator.init(None).unwrap();
        let new = coordinator.init(None).unwrap();
        assert_eq!(new, producer(old.id.0, old.epoch.0 + 1));
        assert_eq!(coordinator.add(old, "t", 0), Err(ErrorCode::ProducerFenced));
        assert_eq!(coordinator.end(old, Outcome::Commit), Err(ErrorCode::ProducerFenced));
        assert_eq!(coordinator.init(Some(old)), Err(ErrorCode::ProducerFenced));
        let verified = coordinator.txns.verify("x", old, &partition("t", 1, 0));
        assert_eq!(verified.unwrap_err().code(), ErrorCode::ProducerFenced);
        assert_eq!(coordinator.add(new, "t", 0), Ok(()));
    }
}

#[test]
fn a_new_instance_settles_what_the_one_before_left_open() {
    let mut coordinator = Coordinator::second();
    let old = coordinator.init(None).unwrap();
    coordinator.add(old, "t", 0).unwrap();
    let (request, now) = (coordinator.request(None), coordinator.now);
    let (code, markers) = coordinator.init_as(request, now).unwrap_err();
    assert_eq!(code, ErrorCode::ConcurrentTransactions);
    assert_eq!(told(&markers), [(Outcome::Abort, 1, names(&["t0"]))]);
    assert_eq!(coordinator.end(old, Outcome::Commit), Err(ErrorCode::ProducerFenced));
    assert_eq!(coordinator.init(None), Err(ErrorCode::ConcurrentTransactions), "until it is over");
    coordinator.write(&markers);
    assert_eq!(coordinator.state(), Some(State::CompleteAbort));
    assert_eq!(coordinator.init(Some(old)), Err(ErrorCode::ProducerFenced));
    assert_eq!(coordinator.init(None), Ok(producer(1, 2)));
}

/// Fault 14: the answer was lost.
#[test]
fn who_asks_again_with_its_last_epoch_is_told_the_same() {
    let mut coordinator = Coordinator::second();
    let first = coordinator.init(None).unwrap();
    let second = coordinator.init(Some(first)).unwrap();
    assert_eq!(second, producer(1, 1));
    assert_eq!(coordinator.init(Some(first)), Ok(second));
    coordinator.fail_over();
    assert_eq!(coordinator.init(Some(first)), Ok(second));
    coordinator.add(second, "t", 0).unwrap();
    assert_eq!(coordinator.init(Some(first)), Ok(second), "what came late aborts nothing");
    assert_eq!(coordinator.state(), Some(State::Ongoing));
    assert_eq!(coordinator.log.len(), 3);
}

#[test]
fn a_producer_that_wants_another_epoch_has_its_transaction_aborted_and_gets_it() {
    for version in [ClientVersion::First, ClientVersion::Second] {
        let mut coordinator = Coordinator::new(version);
        let held = coordinator.init(None).unwrap();
        coordinator.add(held, "t", 0).unwrap();
        let (request, now) = (coordinator.request(Some(held)), coordinator.now);
        let (code, markers) = coordinator.init_as(request, now).unwrap_err();
        assert_eq!(code, ErrorCode::ConcurrentTransactions);
        assert_eq!(
            coordinator.end(held, Outcome::Commit).err(),
            match version {
                ClientVersion::First => Some(ErrorCode::ProducerFenced),
                ClientVersion::Second => Some(ErrorCode::InvalidTransactionState),
            }
        );
        coordinator.write(&markers);
        assert_eq!(coordinator.init(Some(held)), Ok(producer(1, 1)));
        assert_eq!(coordinator.init(Some(held)), Ok(producer(1, 1)));
        assert_eq!(coordinator.add(held, "t", 0), Err(ErrorCode::ProducerFenced));
    }
}

#[test]
fn where_epochs_are_used_up_a_new_producer_id_takes_over() {
    let last = producer(100, 32_766);
    let settled = (60_000, ClientVersion::Second);
    let empty = Transaction::empty(Time(1_000_000), last, None, settled);
    for known in [None, Some(last)] {
        let mut coordinator = Coordinator::at(ClientVersion::Second, &empty);
        assert_eq!(coordinator.init(known), Ok(producer(1, 0)));
        match known {
            None => assert_eq!(coordinator.init(Some(last)), Err(ErrorCode::ProducerFenced)),
            Some(_) => {
                coordinator.fail_over();
                assert_eq!(coordinator.init(known), Ok(producer(1, 0)), "the same again");
            }
        }
        assert_eq!(coordinator.add(last, "t", 0), Err(ErrorCode::InvalidProducerIdMapping));
    }
    // The epoch behind the last one is for markers alone.
    let mut coordinator = Coordinator::at(ClientVersion::Second, &empty);
    coordinator.add(last, "t", 0).unwrap();
    let (request, now) = (coordinator.request(Some(last)), coordinator.now);
    let (_, markers) = coordinator.init_as(request, now).unwrap_err();
    assert_eq!(told(&markers), [(Outcome::Abort, 32_767, names(&["t0"]))]);
    coordinator.write(&markers);
    assert_eq!(coordinator.init(Some(last)), Ok(producer(1, 0)));
    assert_eq!(coordinator.init(Some(last)), Ok(producer(1, 0)));
}

#[test]
fn who_had_an_id_that_has_expired_goes_on_with_another_producer_id() {
    let mut coordinator = Coordinator::second();
    let held = producer(100, 3);
    assert_eq!(coordinator.init(Some(held)), Ok(producer(1, 0)));
    assert_eq!(coordinator.init(Some(held)), Ok(producer(1, 0)));
    assert_eq!(coordinator.init(Some(producer(101, 0))), Err(ErrorCode::ProducerFenced));
}

/// Fault 16: nothing but time tells an instance of before from one that comes now.
#[test]
fn an_instance_that_the_network_kept_fences_nobody() {
    let mut coordinator = Coordinator::second();
    let began = coordinator.now;
    coordinator.now = began.plus(100);
    let held = coordinator.init(None).unwrap();
    coordinator.add(held, "t", 0).unwrap();
    coordinator.now = began.plus(200);
    let request = coordinator.request(None);
    let (late, _) = coordinator.init_as(request, began).unwrap_err();
    assert_eq!(late, ErrorCode::Overtaken);
    assert_eq!(coordinator.state(), Some(State::Ongoing));
    // The next coordinator knows only that it was there before.
    coordinator.fail_over();
    coordinator.now = coordinator.now.plus(100);
    let (late, _) = coordinator.init_as(request, began).unwrap_err();
    assert_eq!(late, ErrorCode::Overtaken);
    coordinator.now = coordinator.now.plus(120_000);
    let forgotten = coordinator.init_as(request, began).unwrap_err();
    assert_eq!(forgotten.0, ErrorCode::Overtaken, "no request lasts that long");
    assert_eq!(coordinator.init(None), Err(ErrorCode::ConcurrentTransactions));
}

/// Whoever does it again, after however many tries that came to nothing.
#[test]
fn what_is_to_be_done_once_is_not_begun_again_when_it_is_committed() {
    let mut coordinator = Coordinator::second();
    let once = |coordinator: &mut Coordinator| {
        let request = InitRequest { once: true, ..coordinator.request(None) };
        let now = coordinator.now;
        coordinator.init_as(request, now).map(|(producer, _)| producer).map_err(|(code, _)| code)
    };
    let first = once(&mut coordinator).unwrap();
    coordinator.add(first, "t", 0).unwrap();
    let (_, markers) = coordinator.end(first, Outcome::Abort).unwrap();
    coordinator.write(&markers);
    let second = once(&mut coordinator).unwrap();
    coordinator.add(second, "t", 0).unwrap();
    let (_, markers) = coordinator.end(second, Outcome::Commit).unwrap();
    assert_eq!(once(&mut coordinator), Err(ErrorCode::ConcurrentTransactions));
    coordinator.write(&markers);
    assert_eq!(once(&mut coordinator), Err(ErrorCode::InvalidTransactionState));
    coordinator.fail_over();
    assert_eq!(once(&mut coordinator), Err(ErrorCode::InvalidTransactionState));
    coordinator.init(None).unwrap();
    assert!(once(&mut coordinator).is_ok(), "somebody uses the id otherwise");
}

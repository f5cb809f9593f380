//! X4, X7, X15, X19: what belongs to a transaction.

use super::*;

fn request<'a>(
    producer: Producer,
    partitions: &'a [pb::TopicPartition],
    groups: &'a [&'a str],
) -> AddRequest<'a> {
    let version = ClientVersion::Second;
    AddRequest { transactional_id: "x", producer, version, partitions, groups }
}

#[test]
fn the_first_partition_begins_a_transaction() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    coordinator.now = coordinator.now.plus(500);
    let began = coordinator.now;
    coordinator.add(held, "u", 1).unwrap();
    coordinator.now = coordinator.now.plus(500);
    coordinator.add(held, "t", 3).unwrap();
    let described = coordinator.txns.describe("x").unwrap();
    assert_eq!((described.state, described.started), (State::Ongoing, Some(began)));
    assert_eq!(described.partitions, [partition("t", 1, 3), partition("u", 2, 1)]);
    let records = coordinator.log.len();
    coordinator.add(held, "u", 1).unwrap();
    assert_eq!(coordinator.log.len(), records, "it is part of it already");
}

/// X15.
#[test]
fn offsets_of_a_group_belong_where_its_coordinator_keeps_them() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    let asked = [wire("t", 0)];
    let groups = ["my-group", "test"];
    let decision =
        coordinator.txns.add(coordinator.now, coordinator.now, request(held, &asked, &groups));
    coordinator.run(decision.unwrap());
    let (_, markers) = coordinator.end(held, Outcome::Commit).unwrap();
    let all = names(&["__consumer_offsets12", "__consumer_offsets48", "t0"]);
    assert_eq!(told(&markers), [(Outcome::Commit, 1, all)]);
}

/// All or none.
#[test]
fn what_cannot_belong_to_a_transaction_is_refused() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    let of_another = pb::TopicPartition { topic_id: topic_id(7).to_wire(), ..wire("t", 0) };
    for (asked, code) in [
        (vec![wire("t", 0), wire("v", 0)], ErrorCode::UnknownTopic),
        (vec![wire("t", 0), of_another], ErrorCode::UnknownTopic),
        (vec![wire("t", 4)], ErrorCode::UnknownPartition),
        (vec![wire("t", -1)], ErrorCode::UnknownPartition),
        (vec![], ErrorCode::InvalidRequest),
    ] {
        let refused =
            coordinator.txns.add(coordinator.now, coordinator.now, request(held, &asked, &[]));
        assert_eq!(refused.unwrap_err().code(), code, "{asked:?}");
    }
    let refused = coordinator.txns.add(coordinator.now, coordinator.now, request(held, &[], &[""]));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidGroupId);
    coordinator.topics(&TOPICS[..2]);
    let refused =
        coordinator.txns.add(coordinator.now, coordinator.now, request(held, &[], &["g"]));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::UnknownTopic);
    assert_eq!(coordinator.state(), Some(State::Empty));
}

/// X8.
#[test]
fn only_the_producer_of_the_id_writes() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    let later = producer(held.id.0, held.epoch.0 + 1);
    assert_eq!(coordinator.add(later, "t", 0), Err(ErrorCode::ProducerFenced));
    let other = producer(7, 0);
    assert_eq!(coordinator.add(other, "t", 0), Err(ErrorCode::InvalidProducerIdMapping));
    let partitions = [wire("t", 0)];
    let unknown = AddRequest { transactional_id: "y", ..request(held, &partitions, &[]) };
    let refused = coordinator.txns.add(coordinator.now, coordinator.now, unknown);
    assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidProducerIdMapping);
}

/// X7.
#[test]
fn the_next_transaction_waits_for_the_markers_of_the_one_before() {
    for version in [ClientVersion::First, ClientVersion::Second] {
        let mut coordinator = Coordinator::new(version);
        let held = coordinator.init(None).unwrap();
        coordinator.add(held, "t", 0).unwrap();
        let (next, markers) = coordinator.end(held, Outcome::Commit).unwrap();
        assert_eq!(coordinator.add(next, "t", 1), Err(ErrorCode::ConcurrentTransactions));
        let verified = coordinator.txns.verify("x", next, &partition("t", 1, 0));
        assert_eq!(verified.unwrap_err().code(), ErrorCode::ConcurrentTransactions);
        coordinator.write(&markers);
        assert_eq!(coordinator.add(next, "t", 1), Ok(()));
    }
}

/// X19: what a leader asks before it takes the first batch.
#[test]
fn a_partition_that_is_not_part_of_the_transaction_takes_nothing_of_it() {
    let mut coordinator = Coordinator::new(ClientVersion::First);
    let held = coordinator.init(None).unwrap();
    let verify = |coordinator: &Coordinator, producer, partition: &TxnPartition| {
        coordinator.txns.verify("x", producer, partition).map_err(|error| error.code())
    };
    let (in_it, other) = (partition("t", 1, 0), partition("t", 1, 1));
    assert_eq!(verify(&coordinator, held, &in_it), Err(ErrorCode::TransactionAbortable));
    coordinator.add(held, "t", 0).unwrap();
    assert_eq!(verify(&coordinator, held, &in_it), Ok(()));
    assert_eq!(verify(&coordinator, held, &other), Err(ErrorCode::TransactionAbortable));
    let of_another_topic = partition("t", 7, 0);
    let refused = verify(&coordinator, held, &of_another_topic);
    assert_eq!(refused, Err(ErrorCode::TransactionAbortable));
    let unknown = producer(9, 0);
    assert_eq!(verify(&coordinator, unknown, &in_it), Err(ErrorCode::InvalidProducerIdMapping));
}

/// I11, in an epoch that stays: what was kept on the way belongs to a transaction that is over.
#[test]
fn what_began_before_the_last_end_is_not_part_of_the_next_transaction() {
    let mut coordinator = Coordinator::new(ClientVersion::First);
    let held = coordinator.init(None).unwrap();
    let (first, second) = (coordinator.now.plus(1), coordinator.now.plus(2));
    coordinator.now = second;
    coordinator.add_at(second, held, "t", 1).unwrap();
    assert_eq!(coordinator.add_at(first, held, "t", 0), Ok(()), "two of the same, in any order");
    coordinator.now = coordinator.now.plus(1);
    let (_, markers) = coordinator.end(held, Outcome::Abort).unwrap();
    coordinator.write(&markers);
    assert_eq!(coordinator.add_at(second, held, "t", 2), Err(ErrorCode::Overtaken));
    assert_eq!(coordinator.add(held, "t", 0), Ok(()));
    let late = coordinator.end_at(second, held, Outcome::Commit);
    assert_eq!(late.unwrap_err(), ErrorCode::Overtaken);
    assert_eq!(coordinator.state(), Some(State::Ongoing));
}

/// X19a: an application that is upgraded says so when its next transaction begins; a transaction ends as it began.
#[test]
fn the_version_that_a_client_speaks_is_remembered() {
    let mut coordinator = Coordinator::new(ClientVersion::First);
    let held = coordinator.init(None).unwrap();
    assert_eq!(coordinator.transact(held, Outcome::Commit), held);
    coordinator.fail_over();
    coordinator.now = coordinator.now.plus(1);
    coordinator.version = ClientVersion::Second;
    coordinator.add(held, "t", 0).unwrap();
    coordinator.version = ClientVersion::First;
    coordinator.add(held, "t", 1).unwrap();
    let (next, _) = coordinator.end(held, Outcome::Commit).unwrap();
    assert_eq!(next.epoch.0, held.epoch.0 + 1);
}

#[test]
fn a_transaction_has_no_more_partitions_than_a_record_can_name() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    coordinator.txns.set_settings(Settings { max_record_bytes: 64, ..Settings::default() });
    coordinator.add(held, "t", 0).unwrap();
    assert_eq!(coordinator.add(held, "u", 0), Err(ErrorCode::PartitionLimitReached));
    assert_eq!(coordinator.txns.describe("x").unwrap().partitions.len(), 1);
    assert!(coordinator.end(held, Outcome::Commit).is_ok(), "what was begun can be ended");
}

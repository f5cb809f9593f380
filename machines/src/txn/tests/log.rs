//! X2: what the log holds, and what comes of it.

use super::*;

/// A record with everything in it.
fn full() -> Transaction {
    Transaction {
        state: State::PrepareCommit,
        producer: producer(7, 32_767),
        previous: Some(producer(7, 32_766)),
        next: Some(ProducerId(300)),
        version: ClientVersion::Second,
        timeout_ms: 60_000,
        started: Some(Time(1_790_000_000_000)),
        updated: Time(1_790_000_000_500),
        partitions: [partition("t", 1, 0), partition("t", 1, 3), partition("u", 2, 1)].into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What nodes of this version have written is read by all that come after.
#[test]
fn a_record_is_written_as_it_was_in_the_first_version() {
    let (key, value) = Change::put("x", &full()).encode();
    assert_eq!(hex(&key), "0a0178");
    assert_eq!(
        hex(&value.unwrap()),
        concat!(
            "0801",
            "1002",
            "1807",
            "20ffff01",
            "28feff01",
            "38ac02",
            "4002",
            "48e0d403",
            "5080d8c1a28c34",
            "58f4dbc1a28c34",
            "62190a01741210",
            "01010101010101010101010101010101",
            "1a020003",
            "62180a01751210",
            "02020202020202020202020202020202",
            "1a0101",
        )
    );
}

#[test]
fn a_record_comes_back_as_it_was() {
    let empty = Transaction::empty(
        Time(5),
        producer(9, 0),
        Some(producer(7, 4)),
        (1, ClientVersion::First),
    );
    for transaction in [full(), empty] {
        let record = transaction.to_record();
        assert_eq!(Transaction::from_record(&record), Ok(transaction));
    }
}

/// What cannot be is refused, because going on would mean to forget a decision.
#[test]
fn records_that_cannot_be_are_refused() {
    assert!(Change::decode(&[0xff], None).is_err());
    let mut txns = Transactions::new(Settings::default());
    let of_a_new_kind = Change { key: pb::TransactionRecordKey { of: None }, value: None };
    assert_eq!(txns.replay(&of_a_new_kind), Err(ReplayError::UnknownKind));
    let sound = full().to_record();
    let key = Change::put("x", &full()).key;
    let topic = pb::TransactionTopic { topic_id: topic_id(1).to_wire(), ..Default::default() };
    let records = [
        (
            pb::TransactionRecordValue { version: 2, ..sound.clone() },
            ReplayError::UnknownVersion(2),
        ),
        (pb::TransactionRecordValue { state: 6, ..sound.clone() }, ReplayError::Malformed("state")),
        (
            pb::TransactionRecordValue { producer_id: 0, ..sound.clone() },
            ReplayError::Malformed("producer id"),
        ),
        (
            pb::TransactionRecordValue { client_version: 3, ..sound.clone() },
            ReplayError::Malformed("client version"),
        ),
        (
            pb::TransactionRecordValue { topics: vec![Default::default()], ..sound.clone() },
            ReplayError::Malformed("topic id"),
        ),
        (
            pb::TransactionRecordValue {
                topics: vec![pb::TransactionTopic { partitions: vec![-1], ..topic }],
                ..sound
            },
            ReplayError::Malformed("partition"),
        ),
    ];
    for (value, error) in records {
        let change = Change { key: key.clone(), value: Some(value) };
        assert_eq!(txns.replay(&change), Err(error));
    }
    assert!(txns.by_id.is_empty());
}

/// S20: of each key the newest record, with or without the tombstones.
#[test]
fn a_compacted_log_comes_to_the_same() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    let other = InitRequest { transactional_id: "gone", ..coordinator.request(None) };
    let now = coordinator.now;
    coordinator.init_as(other, now).unwrap();
    coordinator.pass(4 * 86_400_000);
    let next = coordinator.transact(held, Outcome::Commit);
    coordinator.add(next, "u", 0).unwrap();
    coordinator.pass(4 * 86_400_000);
    let log = &coordinator.log;
    let newest = |at: usize| log[at + 1..].iter().all(|later| later.key != log[at].key);
    let compacted: Vec<_> = (0..log.len()).filter(|at| newest(*at)).map(|at| &log[at]).collect();
    assert_eq!(compacted.len(), 2);
    assert_eq!(replayed(compacted.iter().copied()).by_id, coordinator.txns.by_id);
    let without = compacted.into_iter().filter(|change| change.value.is_some());
    assert_eq!(replayed(without).by_id, coordinator.txns.by_id);
    assert_eq!(coordinator.state(), Some(State::PrepareAbort));
}

//! Transactions as a partition's log has them: what opens one, what is part of it, up to where readers may go.

use super::*;
use crate::txn::{ClientVersion, Producer};
use prost::Message;
use troupe_proto::batch::Marker;

pub(super) fn transactional(id: u64, epoch: u32, sequence: u32, count: u32) -> AppendFacts {
    AppendFacts {
        attributes: Attributes::default().with_transactional(true),
        transaction: Some(TWO),
        ..stamped(id, epoch, sequence, count)
    }
}

pub(super) const COMMIT: Marker = Marker { committed: true, coordinator_epoch: LeaderEpoch(1) };
pub(super) const ABORT: Marker = Marker { committed: false, coordinator_epoch: LeaderEpoch(1) };

pub(super) fn control(id: u64, epoch: u32, marker: Marker) -> BatchHeader {
    let built = marker.batch(ProducerId(id), ProducerEpoch(epoch), NOW.as_timestamp());
    built.unwrap().header
}

/// What an actor does with a marker.
pub(super) fn mark(
    replica: &mut Replica,
    (id, epoch): (u64, u32),
    marker: Marker,
    version: ClientVersion,
    token: u64,
) -> Result<Effects, AppendError> {
    let (mut out, deadline) = (Effects::new(), NOW.plus(30_000));
    match replica.decide_marker(NOW, &control(id, epoch, marker), version)? {
        MarkerDecision::Append(header) => {
            replica.on_marker_appended(NOW, &header, version, Token(token), deadline, &mut out);
        }
        MarkerDecision::AlreadyWritten => {
            let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) };
            replica.on_marker_found(NOW, producer, version, Token(token), deadline, &mut out);
        }
    }
    Ok(out)
}

pub(super) fn completed(effects: &Effects) -> Vec<Completed> {
    let ended = |effect: &Effect| match effect {
        Effect::Completed(completed) => Some(*completed),
        _ => None,
    };
    effects.iter().filter_map(ended).collect()
}

fn open_of(replica: &Replica, id: u64) -> Option<u64> {
    let of_id = replica.producers().find(|producer| producer.id == ProducerId(id));
    of_id.and_then(|producer| producer.transaction_first_offset).map(|offset| offset.0)
}

fn code(result: Result<Effects, AppendError>) -> ErrorCode {
    result.unwrap_err().code()
}

const TWO: ClientVersion = ClientVersion::Second;

/// X19.
#[test]
fn the_first_batch_of_a_transaction_is_verified_and_the_others_are_not() {
    let mut replica = leader();
    let first = transactional(9, 3, 0, 2);
    let producer = Producer { id: ProducerId(9), epoch: ProducerEpoch(3) };
    let decided = replica.decide_append(NOW, &first).unwrap();
    assert_eq!(decided, AppendDecision::Verify(producer));
    assert_eq!(replica.log_end(), Offset::ZERO);
    let verified = Some(replica.begin_verifying(producer));
    append(&mut replica, &AppendFacts { verified, ..first }, 1).unwrap();
    assert_eq!(open_of(&replica, 9), Some(0));
    let second = replica.decide_append(NOW, &transactional(9, 3, 2, 1)).unwrap();
    assert!(matches!(second, AppendDecision::Append(_)), "{second:?}");
}

#[test]
fn a_batch_that_cannot_be_taken_is_refused_before_anybody_is_asked() {
    let mut replica = leader_with(ReplicaConfig { compacted: true, ..config() });
    let keyless = AppendFacts { keyless: true, ..transactional(9, 0, 0, 1) };
    assert_eq!(code(append(&mut replica, &keyless, 1)), ErrorCode::InvalidRecord);
    append(&mut replica, &stamped(9, 0, 0, 3), 2).unwrap();
    let gap = transactional(9, 0, 7, 1);
    assert_eq!(code(append(&mut replica, &gap, 3)), ErrorCode::OutOfOrderSequence);
}

/// I6, KIP-890: what was before it was lost, or deleted with all that was known of its producer.
#[test]
fn a_transaction_with_its_own_epoch_begins_at_sequence_0() {
    let mut replica = leader();
    let second = transactional(9, 3, 4, 1);
    let error = append(&mut replica, &second, 1).unwrap_err();
    let wire = troupe_proto::error::Error::from(error);
    assert_eq!(wire.code, ErrorCode::OutOfOrderSequence);
    assert_eq!(wire.facts["expected_sequence"], "0");
    append(&mut replica, &transactional(9, 3, 0, 4), 2).unwrap();
    append(&mut replica, &second, 3).unwrap();
    let first = ClientVersion::First;
    let goes_on = AppendFacts { transaction: Some(first), ..transactional(8, 3, 777, 1) };
    append(&mut replica, &goes_on, 4).unwrap();
}

/// I9: the next transaction has another epoch, and whether a late batch is of one that has ended says its coordinator.
#[test]
fn a_producer_that_was_forgotten_begins_its_next_transaction_at_0() {
    let mut replica = leader();
    let old = transactional(9, 0, 0, 1);
    append(&mut replica, &old, 1).unwrap();
    append(&mut replica, &transactional(9, 0, 1, 1), 2).unwrap();
    mark(&mut replica, (9, 1), COMMIT, TWO, 3).unwrap();
    flush(&mut replica);
    replica.on_tick(NOW.plus(2 * ReplicaConfig::PRODUCER_ID_EXPIRATION_MS), &mut Effects::new());
    assert_eq!(replica.producer_count(), 0);
    let late = replica.decide_append(NOW, &old).unwrap();
    let producer = Producer { id: ProducerId(9), epoch: ProducerEpoch(0) };
    assert_eq!(late, AppendDecision::Verify(producer));
    append(&mut replica, &transactional(9, 1, 0, 1), 4).unwrap();
}

/// X19: what was verified before the end is no part of what comes after it.
#[test]
fn a_marker_voids_the_word_of_the_coordinator() {
    for version in [ClientVersion::First, TWO] {
        let mut replica = leader();
        let late = transactional(9, 0, 0, 1);
        let producer = Producer { id: ProducerId(9), epoch: ProducerEpoch(0) };
        let verified = Some(replica.begin_verifying(producer));
        let epoch = if version == TWO { 1 } else { 0 };
        mark(&mut replica, (9, epoch), ABORT, version, 1).unwrap();
        let expected = match version {
            ClientVersion::First => ErrorCode::TransactionAbortable,
            ClientVersion::Second => ErrorCode::ProducerFenced,
        };
        let late = AppendFacts { verified, ..late };
        assert_eq!(code(append(&mut replica, &late, 2)), expected, "{version:?}");
    }
}

#[test]
fn a_late_marker_does_not_void_the_next_transactions() {
    let mut replica = leader();
    append(&mut replica, &transactional(9, 0, 0, 1), 1).unwrap();
    mark(&mut replica, (9, 1), COMMIT, TWO, 2).unwrap();
    let producer = Producer { id: ProducerId(9), epoch: ProducerEpoch(1) };
    let verified = Some(replica.begin_verifying(producer));
    mark(&mut replica, (9, 1), COMMIT, TWO, 3).unwrap();
    let next = AppendFacts { verified, ..transactional(9, 1, 0, 1) };
    append(&mut replica, &next, 4).unwrap();
}

#[test]
fn a_ticket_is_for_one_batch_of_one_leadership() {
    let mut replica = leader();
    let producer = Producer { id: ProducerId(9), epoch: ProducerEpoch(0) };
    let verified = Some(replica.begin_verifying(producer));
    append(&mut replica, &AppendFacts { verified, ..transactional(9, 0, 0, 1) }, 1).unwrap();
    mark(&mut replica, (9, 0), COMMIT, ClientVersion::First, 2).unwrap();
    let again = AppendFacts { verified, ..transactional(9, 0, 1, 1) };
    assert_eq!(code(append(&mut replica, &again, 3)), ErrorCode::TransactionAbortable);
    let verified = Some(replica.begin_verifying(producer));
    replica.become_leader(NOW, state(4, &[1]), &mut Effects::new());
    assert!(
        replica.decide_append(NOW, &AppendFacts { verified, ..transactional(9, 0, 1, 1) }).is_ok()
    );
    replica.resign(&mut Effects::new());
    replica.become_leader(NOW, state(5, &[1]), &mut Effects::new());
    let stale = AppendFacts { verified, ..transactional(9, 0, 1, 1) };
    assert_eq!(code(append(&mut replica, &stale, 4)), ErrorCode::TransactionAbortable);
    let verified = replica.begin_verifying(producer);
    replica.end_verifying(producer, verified);
    let refused = AppendFacts { verified: Some(verified), ..transactional(9, 0, 1, 1) };
    assert_eq!(code(append(&mut replica, &refused, 5)), ErrorCode::TransactionAbortable);
}

/// X11.
#[test]
fn no_other_batch_of_the_producer_comes_between() {
    let mut replica = leader();
    append(&mut replica, &transactional(9, 0, 0, 1), 1).unwrap();
    for other in [stamped(9, 0, 1, 1), stamped(9, 1, 0, 1)] {
        assert_eq!(code(append(&mut replica, &other, 2)), ErrorCode::InvalidTransactionState);
    }
    append(&mut replica, &stamped(8, 0, 0, 1), 3).unwrap();
    append(&mut replica, &facts(1), 4).unwrap();
    mark(&mut replica, (9, 1), COMMIT, TWO, 5).unwrap();
    append(&mut replica, &stamped(9, 1, 0, 1), 6).unwrap();
}

#[test]
fn the_next_transaction_waits_until_the_one_before_has_ended_here() {
    let mut replica = leader();
    append(&mut replica, &transactional(9, 0, 0, 1), 1).unwrap();
    let next = transactional(9, 1, 0, 1);
    assert_eq!(code(append(&mut replica, &next, 2)), ErrorCode::ConcurrentTransactions);
    mark(&mut replica, (9, 1), ABORT, TWO, 3).unwrap();
    append(&mut replica, &next, 4).unwrap();
    assert_eq!(open_of(&replica, 9), Some(2));
}

#[test]
fn what_is_no_batch_of_a_transaction_is_refused_with_the_reason() {
    let mut replica = leader();
    let whole = transactional(9, 0, 0, 1);
    for (facts, part) in [
        (AppendFacts { producer: None, ..whole.clone() }, "without a producer"),
        (AppendFacts { transaction: None, ..whole.clone() }, "without a transactional id"),
        (AppendFacts { transaction: Some(TWO), ..facts(1) }, "of no transaction"),
        (
            AppendFacts { attributes: whole.attributes.with_control(true), ..whole },
            "the broker's to write",
        ),
    ] {
        let error = append(&mut replica, &facts, 1).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// X12.
#[test]
fn readers_of_committed_records_stop_at_the_earliest_open_transaction() {
    let mut replica = leader();
    append(&mut replica, &facts(2), 1).unwrap();
    append(&mut replica, &transactional(8, 0, 0, 1), 2).unwrap();
    append(&mut replica, &transactional(9, 0, 0, 1), 3).unwrap();
    append(&mut replica, &facts(1), 4).unwrap();
    assert_eq!(replica.last_stable_offset(), Offset::ZERO, "never above the high watermark");
    flush(&mut replica);
    assert_eq!((replica.high_watermark(), replica.last_stable_offset()), (Offset(5), Offset(2)));
    mark(&mut replica, (8, 1), COMMIT, TWO, 5).unwrap();
    assert_eq!(replica.last_stable_offset(), Offset(2), "the marker may still be lost");
    let out = flush(&mut replica);
    assert_eq!(out[0], Effect::HighWatermark(Offset(6)));
    assert_eq!(replica.last_stable_offset(), Offset(3));
    mark(&mut replica, (9, 1), ABORT, TWO, 6).unwrap();
    flush(&mut replica);
    assert_eq!(replica.last_stable_offset(), Offset(7));
}

#[test]
fn an_open_transaction_that_is_deleted_holds_nobody_below_the_logs_start() {
    let mut replica = leader();
    append(&mut replica, &transactional(8, 0, 0, 1), 1).unwrap();
    append(&mut replica, &facts(4), 2).unwrap();
    flush(&mut replica);
    let mut out = Effects::new();
    replica.on_log_start(NOW, Offset(3), &mut out);
    assert_eq!(out, vec![Effect::LastStable(Offset(3))]);
    assert_eq!(replica.last_stable_offset(), Offset(3));
    mark(&mut replica, (8, 1), COMMIT, TWO, 3).unwrap();
    flush(&mut replica);
    assert_eq!(replica.last_stable_offset(), Offset(6));
}

/// I9, but a transaction does not end by being forgotten.
#[test]
fn a_producer_with_an_open_transaction_is_not_forgotten() {
    let mut replica = leader();
    append(&mut replica, &transactional(9, 0, 0, 1), 1).unwrap();
    append(&mut replica, &stamped(8, 0, 0, 1), 2).unwrap();
    flush(&mut replica);
    let later = NOW.plus(3 * ReplicaConfig::PRODUCER_ID_EXPIRATION_MS);
    replica.on_tick(later, &mut Effects::new());
    assert_eq!((replica.producer_count(), open_of(&replica, 9)), (1, Some(0)));
    mark(&mut replica, (9, 1), COMMIT, TWO, 3).unwrap();
    flush(&mut replica);
    let check = replica.next_tick().expect("an expiry check");
    replica.on_tick(check.plus(ReplicaConfig::PRODUCER_ID_EXPIRATION_MS), &mut Effects::new());
    assert_eq!(replica.producer_count(), 0);
}

/// Every place of a snapshot, and every way to know of a batch, gives the same.
#[test]
fn open_transactions_are_known_after_a_restart() {
    let mut replica = leader();
    let mut headers = Vec::new();
    let mut step = |replica: &mut Replica, batch: Result<AppendFacts, (u64, u32, Marker)>| {
        let before = replica.log_end();
        let header = match &batch {
            Ok(facts) => {
                let producer = facts.producer.unwrap();
                let producer = Producer { id: producer.id, epoch: producer.epoch };
                let verified = Some(replica.begin_verifying(producer));
                let facts = AppendFacts { verified, ..facts.clone() };
                match replica.decide_append(NOW, &facts).unwrap() {
                    AppendDecision::Append(header) => header,
                    other => panic!("{other:?}"),
                }
            }
            Err((id, epoch, marker)) => {
                match replica.decide_marker(NOW, &control(*id, *epoch, *marker), TWO).unwrap() {
                    MarkerDecision::Append(header) => header,
                    MarkerDecision::AlreadyWritten => panic!("it is new"),
                }
            }
        };
        let deadline = NOW.plus(1_000);
        replica.on_appended(NOW, &header, Acks::All, Token(before.0), deadline, &mut Vec::new());
        headers.push(header);
    };
    step(&mut replica, Ok(transactional(8, 0, 0, 2)));
    step(&mut replica, Ok(transactional(9, 4, 0, 1)));
    step(&mut replica, Err((8, 1, ABORT)));
    step(&mut replica, Ok(transactional(8, 1, 0, 1)));
    step(&mut replica, Err((9, 5, COMMIT)));
    step(&mut replica, Ok(stamped(7, 0, 0, 1)));
    flush(&mut replica);
    for snapshot_at in 0..=headers.len() {
        for high_watermark in 0..=replica.log_end().0 {
            let ends = LogEnds {
                log_start: Offset::ZERO,
                high_watermark: Offset(high_watermark),
                flushed_end: replica.log_end(),
                log_end: replica.log_end(),
            };
            let mut first = Replica::new(key(), SELF, config());
            first.restore(ends, None);
            let mut all: Vec<_> = headers[..snapshot_at]
                .iter()
                .filter_map(|header| first.on_recovered_batch(NOW, header))
                .collect();
            let mut second = Replica::new(key(), SELF, config());
            second.restore(ends, Some(&first.snapshot()));
            all.extend(
                headers[snapshot_at..]
                    .iter()
                    .filter_map(|header| second.on_recovered_batch(NOW, header)),
            );
            let ended = |id, first, last, committed| Completed {
                producer_id: ProducerId(id),
                first_offset: Offset(first),
                last_offset: Offset(last),
                committed,
            };
            assert_eq!(all, [ended(8, 0, 3, false), ended(9, 2, 5, true)]);
            assert_eq!(open_of(&second, 8), Some(4));
            assert_eq!(open_of(&second, 9), None);
            let lso = match high_watermark {
                0..=3 => 0,
                4..=5 => 2,
                _ => 4,
            };
            assert_eq!(second.last_stable_offset().0, lso.min(high_watermark), "{high_watermark}");
            if high_watermark == replica.log_end().0 {
                assert_eq!(second.snapshot(), replica.snapshot(), "snapshot at {snapshot_at}");
            }
        }
    }
}

#[test]
fn a_snapshot_says_by_its_version_whether_transactions_are_in_it() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 1), 1).unwrap();
    assert_eq!(replica.snapshot().version, 0, "as earlier versions write and read it");
    append(&mut replica, &transactional(8, 0, 0, 1), 2).unwrap();
    assert_eq!(replica.snapshot().version, 1);
    mark(&mut replica, (8, 1), COMMIT, TWO, 3).unwrap();
    flush(&mut replica);
    assert_eq!(replica.snapshot().version, 1, "a coordinator's epoch is in it");
    let newer = ProducerSnapshot { version: 2, ..replica.snapshot() };
    assert!(!Replica::knows_snapshot(&newer) && Replica::knows_snapshot(&replica.snapshot()));
}

/// As they stand in files: of earlier versions, and of this one.
#[test]
fn snapshots_of_both_versions_are_read_and_written() {
    let before: &[u8] = &[0x0A, 8, 0x08, 9, 0x1A, 2, 0x28, 5, 0x20, 7];
    let with: &[u8] = &[
        0x0A, 12, 0x08, 9, 0x10, 2, 0x20, 7, 0x28, 3, 0x30, 4, 0x38, 1, 0x10, 1, 0x1A, 4, 0x08, 1,
        0x10, 2,
    ];
    for (bytes, version, last_stable) in [(before, 0, 2), (with, 1, 1)] {
        let snapshot = ProducerSnapshot::decode(bytes).unwrap();
        assert_eq!(snapshot.version, version);
        let mut replica = Replica::new(key(), SELF, config());
        let ends = LogEnds {
            log_start: Offset::ZERO,
            high_watermark: Offset(2),
            flushed_end: Offset(5),
            log_end: Offset(5),
        };
        replica.restore(ends, Some(&snapshot));
        assert_eq!(replica.snapshot().encode_to_vec(), bytes);
        assert_eq!(replica.last_stable_offset(), Offset(last_stable));
    }
}

#[test]
fn a_follower_knows_the_same_transactions_and_tells_of_their_ends() {
    let mut replica = Replica::new(key(), SELF, config());
    let followed = FollowerState { leader: NodeId(2), leader_epoch: LeaderEpoch(1) };
    let mut out = Effects::new();
    replica.become_follower(NOW, followed, &mut out);
    let session = out.iter().find_map(|effect| match effect {
        Effect::Replication(ReplicationEffect::Open { session, .. }) => Some(*session),
        _ => None,
    });
    let at = |base, header: BatchHeader| BatchHeader {
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(1),
        ..header
    };
    let data = |id, base| BatchHeader {
        producer: stamped(id, 0, 0, 1).producer,
        attributes: Attributes::default().with_transactional(true),
        ..super::following::batch(base, 1, 1)
    };
    let batches = [data(8, 0), data(9, 1), at(2, control(8, 1, ABORT))];
    let ends = LeaderEnds { high_watermark: Offset(2), ..replica.leader_ends() };
    let mut out = Effects::new();
    replica.on_replicated(NOW, session.unwrap(), &batches, ends, &mut out);
    let ended = Completed {
        producer_id: ProducerId(8),
        first_offset: Offset(0),
        last_offset: Offset(2),
        committed: false,
    };
    assert_eq!(completed(&out), [ended]);
    assert_eq!((open_of(&replica, 8), open_of(&replica, 9)), (None, Some(1)));
    assert_eq!(replica.last_stable_offset(), Offset(0), "the marker is not committed");
    let ends = LeaderEnds { high_watermark: Offset(3), ..ends };
    replica.on_replicated(NOW, session.unwrap(), &[], ends, &mut Effects::new());
    assert_eq!(replica.last_stable_offset(), Offset(1));
}

/// Cleaning takes records of transactions that have ended, and their markers after them.
#[test]
fn a_batch_without_records_opens_nothing() {
    let mut replica = Replica::new(key(), SELF, config());
    let end = Offset(5);
    let ends =
        LogEnds { log_start: Offset::ZERO, high_watermark: end, flushed_end: end, log_end: end };
    replica.restore(ends, None);
    let header = BatchHeader {
        producer: stamped(9, 0, 0, 1).producer,
        attributes: Attributes::default().with_transactional(true),
        ..super::following::batch(0, 3, 0)
    };
    assert_eq!(replica.on_recovered_batch(NOW, &header.emptied()), None);
    assert_eq!((open_of(&replica, 9), replica.last_stable_offset()), (None, end));
}

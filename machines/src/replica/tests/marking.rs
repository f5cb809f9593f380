//! Markers: which are written, which are here already, and which are of the past.

use super::transactions::{ABORT, COMMIT, completed, mark, transactional};
use super::*;
use crate::txn::ClientVersion;
use troupe_proto::batch::Marker;

const ONE: ClientVersion = ClientVersion::First;
const TWO: ClientVersion = ClientVersion::Second;

fn by(coordinator_epoch: u32, marker: Marker) -> Marker {
    Marker { coordinator_epoch: LeaderEpoch(coordinator_epoch), ..marker }
}

#[test]
fn a_marker_is_answered_when_it_is_committed() {
    let mut replica = leader();
    append(&mut replica, &transactional(9, 0, 0, 3), 1).unwrap();
    let out = mark(&mut replica, (9, 1), ABORT, TWO, 2).unwrap();
    let ended = Completed {
        producer_id: ProducerId(9),
        first_offset: Offset(0),
        last_offset: Offset(3),
        committed: false,
    };
    assert_eq!(completed(&out), [ended]);
    assert_eq!(answers(&out), vec![]);
    let out = flush(&mut replica);
    assert_eq!(base_offset(&out, 2), 3);
}

/// KIP-890: each transaction has its epoch, and each its sequences.
#[test]
fn behind_a_marker_that_moved_the_epoch_sequences_begin_at_zero() {
    let mut replica = leader();
    append(&mut replica, &transactional(9, 0, 0, 3), 1).unwrap();
    mark(&mut replica, (9, 1), COMMIT, TWO, 2).unwrap();
    let old = append(&mut replica, &transactional(9, 0, 3, 1), 3).unwrap_err();
    assert_eq!(old.code(), ErrorCode::ProducerFenced);
    let gap = append(&mut replica, &transactional(9, 1, 3, 1), 4).unwrap_err();
    assert_eq!(gap.code(), ErrorCode::OutOfOrderSequence);
    append(&mut replica, &transactional(9, 1, 0, 1), 5).unwrap();
}

#[test]
fn with_the_first_version_epoch_and_sequences_go_on() {
    let mut replica = leader();
    append(&mut replica, &transactional(9, 0, 0, 3), 1).unwrap();
    mark(&mut replica, (9, 0), COMMIT, ONE, 2).unwrap();
    append(&mut replica, &transactional(9, 0, 3, 1), 3).unwrap();
    let fenced = mark(&mut replica, (9, 1), ABORT, ONE, 4).unwrap();
    assert_eq!(completed(&fenced)[0].first_offset, Offset(4));
    let old = append(&mut replica, &transactional(9, 0, 4, 1), 5).unwrap_err();
    assert_eq!(old.code(), ErrorCode::ProducerFenced);
}

/// A late marker of one transaction ends nothing of the next.
#[test]
fn a_marker_that_is_here_is_not_written_again() {
    let mut replica = leader();
    append(&mut replica, &transactional(9, 0, 0, 1), 1).unwrap();
    mark(&mut replica, (9, 1), COMMIT, TWO, 2).unwrap();
    append(&mut replica, &transactional(9, 1, 0, 1), 3).unwrap();
    let end = replica.log_end();
    let out = mark(&mut replica, (9, 1), COMMIT, TWO, 4).unwrap();
    assert_eq!((replica.log_end(), completed(&out), answers(&out)), (end, vec![], vec![]));
    let out = flush(&mut replica);
    let tokens: Vec<_> = answers(&out).into_iter().map(|(token, _)| token).collect();
    assert_eq!(tokens, [1, 2, 3, 4], "answered when what is here is committed");
    let out = mark(&mut replica, (9, 1), COMMIT, TWO, 5).unwrap();
    assert_eq!(answers(&out).len(), 1);
    let out = mark(&mut replica, (9, 2), ABORT, TWO, 6).unwrap();
    assert_eq!(completed(&out)[0].first_offset, Offset(2));
    for version in [ONE, TWO] {
        mark(&mut replica, (9, 1), COMMIT, version, 7).unwrap();
    }
    assert_eq!(replica.log_end(), Offset(4), "of an epoch that is over");
}

/// A leader of the past may have nothing open that is open at the leader of now.
#[test]
fn nothing_is_taken_for_written_that_may_not_be() {
    let mut replica = leader();
    for (n, version) in [ONE, ONE, TWO].into_iter().enumerate() {
        let out = mark(&mut replica, (9, n as u32 / 2), ABORT, version, n as u64).unwrap();
        assert_eq!(completed(&out), vec![]);
        assert_eq!(replica.log_end(), Offset(n as u64 + 1));
    }
}

/// I6: its batches may be deleted.
#[test]
fn who_is_known_by_a_marker_alone_goes_on_with_any_sequence_in_the_epoch_that_stays() {
    let mut replica = leader();
    mark(&mut replica, (9, 0), COMMIT, ONE, 1).unwrap();
    let mut restarted = Replica::new(key(), SELF, config());
    restarted.restore(
        LogEnds {
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            flushed_end: Offset(1),
            log_end: Offset(1),
        },
        Some(&replica.snapshot()),
    );
    restarted.become_leader(NOW, state(1, &[1]), &mut Effects::new());
    for replica in [&mut replica, &mut restarted] {
        let own = append(replica, &transactional(9, 0, 7, 1), 2).unwrap_err();
        assert_eq!(own.code(), ErrorCode::OutOfOrderSequence, "its own epoch begins at 0");
        let goes_on = AppendFacts { transaction: Some(ONE), ..transactional(9, 0, 7, 1) };
        append(replica, &goes_on, 2).unwrap();
        let gap = append(replica, &transactional(9, 0, 9, 1), 3).unwrap_err();
        assert_eq!(gap.code(), ErrorCode::OutOfOrderSequence);
    }
}

/// X5.
#[test]
fn a_coordinator_that_was_replaced_ends_nothing() {
    for version in [ONE, TWO] {
        let mut replica = leader();
        append(&mut replica, &transactional(9, 0, 0, 1), 1).unwrap();
        mark(&mut replica, (9, 1), by(5, COMMIT), version, 2).unwrap();
        append(&mut replica, &transactional(9, 1, 0, 1), 3).unwrap();
        let error = mark(&mut replica, (9, 2), by(4, ABORT), version, 4).unwrap_err();
        let (current, actual) = (LeaderEpoch(5), LeaderEpoch(4));
        assert_eq!(error, AppendError::CoordinatorFenced { current, actual });
        let wire = WireError::from(error);
        assert_eq!(
            (wire.code, &wire.facts["current_epoch"][..]),
            (ErrorCode::CoordinatorFenced, "5")
        );
        mark(&mut replica, (9, 2), by(5, ABORT), version, 5).unwrap();
    }
}

#[test]
fn a_marker_needs_enough_replicas_and_the_leader() {
    let mut replica = leader_with(ReplicaConfig { min_insync_replicas: 2, ..config() });
    let short = LeaderState { replicas: vec![SELF, NodeId(2)], ..state(1, &[1]) };
    replica.become_leader(NOW, short, &mut Effects::new());
    let error = mark(&mut replica, (9, 0), COMMIT, TWO, 1).unwrap_err();
    assert_eq!(error, AppendError::NotEnoughReplicas { in_sync: 1, required: 2 });
    replica.resign(&mut Effects::new());
    let error = mark(&mut replica, (9, 0), COMMIT, TWO, 2).unwrap_err();
    assert_eq!(error, AppendError::NotLeader);
}

#[test]
fn a_marker_has_the_leaders_time_where_records_have() {
    let config = ReplicaConfig { timestamp_type: TimestampType::LogAppendTime, ..config() };
    let replica = leader_with(config);
    let built = super::transactions::control(9, 0, COMMIT);
    let later = NOW.plus(777);
    let MarkerDecision::Append(header) = replica.decide_marker(later, &built, TWO).unwrap() else {
        panic!("it is new");
    };
    assert!(header.attributes.is_log_append_time() && header.attributes.is_control());
    assert_eq!(header.max_timestamp, later.as_timestamp());
    assert_eq!(header.marker(), Some(COMMIT));
}

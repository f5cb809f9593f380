//! Rules by name, and a run of random events against a model that is too simple to be wrong.

mod following;
mod isr;
mod leading;

use super::*;
use crate::config::{FlushPolicy, TimestampType};
use proptest::prelude::*;
use std::collections::BTreeMap;
use troupe_proto::batch::{Attributes, OVERHEAD, ProducerStamp};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{BrokerEpoch, PartitionId, ProducerEpoch, ProducerId, Sequence, TopicId};

const NOW: Time = Time(1_700_000_000_000);
const SELF: NodeId = NodeId(1);

fn config() -> ReplicaConfig {
    ReplicaConfig::from_topic(
        &crate::config::TopicConfig::default(),
        ReplicaConfig::PRODUCER_ID_EXPIRATION_MS,
    )
}

fn key() -> PartitionKey {
    let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
    PartitionKey { topic_id, partition: PartitionId(0) }
}

fn state(epoch: u32, isr: &[i32]) -> LeaderState {
    let nodes: Vec<_> = isr.iter().copied().map(NodeId).collect();
    LeaderState { leader_epoch: LeaderEpoch(epoch), replicas: nodes.clone(), isr: nodes }
}

fn leader_with(config: ReplicaConfig) -> Replica {
    let mut replica = Replica::new(key(), SELF, config);
    replica.become_leader(NOW, state(0, &[1]), &mut Effects::new());
    replica
}

fn leader() -> Replica {
    leader_with(config())
}

fn facts(record_count: u32) -> AppendFacts {
    AppendFacts {
        producer: None,
        record_count,
        base_timestamp: NOW.as_timestamp(),
        max_timestamp: NOW.as_timestamp(),
        attributes: Attributes::default(),
        payload_crc: 0,
        payload_len: 100,
        keyless: false,
        acks: Acks::All,
        expected_leader_epoch: None,
        origin: Origin::Client,
    }
}

fn stamped(id: u64, epoch: u32, sequence: u32, record_count: u32) -> AppendFacts {
    let producer = ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
    };
    AppendFacts { producer: Some(producer), ..facts(record_count) }
}

/// What an actor does with one batch; the effects that came of it.
fn append(replica: &mut Replica, facts: &AppendFacts, token: u64) -> Result<Effects, AppendError> {
    let mut out = Effects::new();
    let deadline = NOW.plus(30_000);
    match replica.decide_append(NOW, facts)? {
        AppendDecision::Append(header) => {
            replica.on_appended(NOW, &header, facts.acks, Token(token), deadline, &mut out);
        }
        AppendDecision::Duplicate(duplicate) => {
            replica.on_duplicate(NOW, duplicate, facts.acks, Token(token), deadline, &mut out);
        }
    }
    Ok(out)
}

fn flush(replica: &mut Replica) -> Effects {
    let mut out = Effects::new();
    replica.on_flushed(NOW, replica.log_end(), &mut out);
    out
}

/// A follower opens a stream, or a new one, and is accepted.
fn follower_at(replica: &mut Replica, node: i32, log_end: u64, flushed_end: u64) -> Effects {
    let mut out = Effects::new();
    let follower = Follower { node: NodeId(node), broker_epoch: BrokerEpoch(0) };
    let leader_epoch = replica.leader_epoch().expect("a leader");
    let end = ReplicaEnd { log_end: Offset(log_end), flushed_end: Offset(flushed_end) };
    let position = Position { leader_epoch, end, last_epoch: Some(leader_epoch) };
    let epoch_end = Some((leader_epoch, replica.log_end()));
    let opened = replica.on_follower_opened(NOW, follower, &position, epoch_end, &mut out);
    assert!(matches!(opened, Ok(Opening::Stream { .. })), "{opened:?}");
    out
}

fn answers(effects: &Effects) -> Vec<(u64, Result<Appended, AppendError>)> {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { token, result } => Some((token.0, result.clone())),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

fn base_offset(effects: &Effects, token: u64) -> u64 {
    let found = answers(effects).into_iter().find(|(other, _)| *other == token);
    found.expect("an answer").1.expect("a success").base_offset.0
}

/// T20.
#[test]
fn offsets_are_assigned_from_the_end_of_the_log_without_gaps() {
    let mut replica = leader();
    append(&mut replica, &facts(3), 1).unwrap();
    append(&mut replica, &facts(2), 2).unwrap();
    let AppendDecision::Append(header) = replica.decide_append(NOW, &facts(4)).unwrap() else {
        panic!("not a duplicate");
    };
    assert_eq!(header.base_offset, Offset(5));
    assert_eq!(header.last_offset(), Offset(8));
    assert_eq!(header.leader_epoch, LeaderEpoch(0));
}

/// P14, and the design's flush policy `commit`.
#[test]
fn acks_all_is_answered_when_the_flush_has_passed_it() {
    let mut replica = leader();
    assert_eq!(append(&mut replica, &facts(1), 1).unwrap(), vec![Effect::Flush]);
    assert_eq!(replica.high_watermark(), Offset::ZERO);
    let out = flush(&mut replica);
    assert_eq!(out[0], Effect::HighWatermark(Offset(1)));
    assert_eq!(base_offset(&out, 1), 0);
    assert_eq!(replica.parked(), 0);
}

#[test]
fn one_flush_is_under_way_and_the_next_covers_all_that_came_meanwhile() {
    let mut replica = leader();
    assert_eq!(append(&mut replica, &facts(1), 1).unwrap(), vec![Effect::Flush]);
    assert_eq!(append(&mut replica, &facts(1), 2).unwrap(), vec![]);
    assert_eq!(append(&mut replica, &facts(1), 3).unwrap(), vec![]);
    let mut out = Effects::new();
    replica.on_flushed(NOW, Offset(1), &mut out);
    assert_eq!(out[0], Effect::Flush);
    assert_eq!(answers(&out).len(), 1);
    let out = flush(&mut replica);
    assert_eq!(answers(&out).into_iter().map(|(token, _)| token).collect::<Vec<_>>(), [2, 3]);
    assert!(!out.contains(&Effect::Flush));
}

#[test]
fn flush_policy_os_commits_on_append_and_never_flushes() {
    let mut replica = leader_with(ReplicaConfig { flush_policy: FlushPolicy::Os, ..config() });
    let out = append(&mut replica, &facts(2), 1).unwrap();
    assert!(!out.contains(&Effect::Flush));
    assert_eq!(base_offset(&out, 1), 0);
    assert_eq!(replica.high_watermark(), Offset(2));
}

/// P12, P13.
#[test]
fn acks_leader_is_answered_after_the_append_and_acks_none_not_at_all() {
    let mut replica = leader();
    let out = append(&mut replica, &AppendFacts { acks: Acks::Leader, ..facts(1) }, 1).unwrap();
    assert_eq!(base_offset(&out, 1), 0);
    let out = append(&mut replica, &AppendFacts { acks: Acks::None, ..facts(1) }, 2).unwrap();
    assert_eq!(answers(&out), vec![]);
    assert_eq!(answers(&flush(&mut replica)), vec![]);
}

/// P15, with the effective minimum of R10.
#[test]
fn too_few_in_sync_replicas_refuse_acks_all_only() {
    let mut replica = leader_with(ReplicaConfig { min_insync_replicas: 2, ..config() });
    assert!(append(&mut replica, &facts(1), 1).is_ok(), "one replica: the minimum is one");
    let short = LeaderState { replicas: vec![SELF, NodeId(2)], ..state(1, &[1]) };
    replica.become_leader(NOW, short, &mut Effects::new());
    let error = append(&mut replica, &facts(1), 2).unwrap_err();
    assert_eq!(error, AppendError::NotEnoughReplicas { in_sync: 1, required: 2 });
    assert!(append(&mut replica, &AppendFacts { acks: Acks::Leader, ..facts(1) }, 3).is_ok());
    let before = replica.high_watermark();
    flush(&mut replica);
    assert_eq!(replica.high_watermark(), before, "R3: it stands still under the minimum");
}

/// P15.
#[test]
fn what_waits_when_the_isr_shrinks_below_the_minimum_is_answered_and_may_still_commit() {
    let mut replica = leader_with(ReplicaConfig { min_insync_replicas: 2, ..config() });
    replica.become_leader(NOW, state(1, &[1, 2]), &mut Effects::new());
    append(&mut replica, &facts(1), 1).unwrap();
    let mut out = Effects::new();
    let shrunk = LeaderState { isr: vec![SELF], ..state(1, &[1, 2]) };
    replica.become_leader(NOW, shrunk, &mut out);
    let error = AppendError::NotEnoughReplicasAfterAppend { in_sync: 1, required: 2 };
    assert!(!error.code().surely_not_done());
    assert_eq!(answers(&out), vec![(1, Err(error))]);
    flush(&mut replica);
    assert_eq!(replica.high_watermark(), Offset::ZERO);
    replica.become_leader(NOW, state(1, &[1, 2]), &mut Effects::new());
    follower_at(&mut replica, 2, 1, 1);
    assert_eq!(replica.high_watermark(), Offset(1));
}

#[test]
fn a_flush_that_is_reported_late_takes_nothing_back() {
    let mut replica = leader();
    append(&mut replica, &facts(3), 1).unwrap();
    flush(&mut replica);
    replica.on_flushed(NOW, Offset(1), &mut Effects::new());
    assert_eq!(replica.flushed_end(), Offset(3));
}

/// R3, R11.
#[test]
fn the_high_watermark_is_the_least_end_in_the_isr() {
    let mut replica = leader();
    replica.become_leader(NOW, state(1, &[1, 2, 3]), &mut Effects::new());
    append(&mut replica, &facts(5), 1).unwrap();
    flush(&mut replica);
    assert_eq!(replica.high_watermark(), Offset::ZERO);
    let mut out = follower_at(&mut replica, 2, 5, 5);
    out.extend(follower_at(&mut replica, 3, 5, 3));
    assert_eq!(replica.high_watermark(), Offset(3));
    assert_eq!(answers(&out), vec![]);
    replica.become_leader(NOW, state(1, &[1, 2]), &mut out);
    assert_eq!(replica.high_watermark(), Offset(5));
    assert_eq!(base_offset(&out, 1), 0);
}

/// R1.
#[test]
fn only_the_leader_of_the_epoch_asked_for_appends() {
    let mut replica = Replica::new(key(), SELF, config());
    assert_eq!(append(&mut replica, &facts(1), 1), Err(AppendError::NotLeader));
    replica.become_leader(NOW, state(4, &[1]), &mut Effects::new());
    let expecting =
        |epoch| AppendFacts { expected_leader_epoch: Some(LeaderEpoch(epoch)), ..facts(1) };
    let current = LeaderEpoch(4);
    let expected = LeaderEpoch(3);
    assert_eq!(
        append(&mut replica, &expecting(3), 1),
        Err(AppendError::FencedLeaderEpoch { expected, current })
    );
    let expected = LeaderEpoch(5);
    assert_eq!(
        append(&mut replica, &expecting(5), 1),
        Err(AppendError::UnknownLeaderEpoch { expected, current })
    );
    assert!(append(&mut replica, &expecting(4), 1).is_ok());
}

/// R2.
#[test]
fn a_leader_epoch_starts_once_where_the_log_ends() {
    let mut replica = leader();
    append(&mut replica, &facts(2), 1).unwrap();
    let mut out = Effects::new();
    replica.become_leader(NOW, state(3, &[1]), &mut out);
    let started =
        Effect::LeaderEpochStarted { leader_epoch: LeaderEpoch(3), start_offset: Offset(2) };
    assert_eq!(out, vec![started]);
    out.clear();
    replica.become_leader(NOW, state(3, &[1]), &mut out);
    replica.become_leader(NOW, state(2, &[1]), &mut out);
    assert_eq!(out, vec![]);
    assert_eq!(replica.leader_epoch(), Some(LeaderEpoch(3)));
}

/// T13.
#[test]
fn log_append_time_is_the_leaders_clock() {
    let config = ReplicaConfig { timestamp_type: TimestampType::LogAppendTime, ..config() };
    let mut replica = leader_with(config);
    let old = AppendFacts { base_timestamp: 5, max_timestamp: 5, acks: Acks::Leader, ..facts(1) };
    let AppendDecision::Append(header) = replica.decide_append(NOW, &old).unwrap() else {
        panic!("not a duplicate");
    };
    assert!(header.attributes.is_log_append_time());
    assert_eq!(header.max_timestamp, NOW.as_timestamp());
    let out = append(&mut replica, &old, 1).unwrap();
    let (_, result) = answers(&out).remove(0);
    assert_eq!(result.unwrap().log_append_time, Some(NOW.as_timestamp()));
    let sent =
        AppendFacts { attributes: Attributes::default().with_log_append_time(true), ..facts(1) };
    assert_eq!(append(&mut replica, &sent, 2), Err(AppendError::SentAsLogAppendTime));
    assert_eq!(append(&mut leader(), &sent, 2), Err(AppendError::SentAsLogAppendTime));
}

/// T14.
#[test]
fn timestamps_outside_of_the_allowed_window_are_refused() {
    let config =
        ReplicaConfig { timestamp_before_max_ms: 1_000, timestamp_after_max_ms: 2_000, ..config() };
    let replica = leader_with(config);
    let now = NOW.as_timestamp();
    let between = |base, max| AppendFacts { base_timestamp: base, max_timestamp: max, ..facts(2) };
    assert!(replica.decide_append(NOW, &between(now - 1_000, now + 2_000)).is_ok());
    for (base, max) in [(now - 1_001, now), (now, now + 2_001)] {
        let error = replica.decide_append(NOW, &between(base, max)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
    }
    assert!(leader().decide_append(NOW, &between(0, i64::MAX)).is_ok(), "unlimited by default");
}

/// T15.
#[test]
fn a_compacted_topic_refuses_records_without_a_key() {
    let mut replica = leader_with(ReplicaConfig { compacted: true, ..config() });
    let keyless = AppendFacts { keyless: true, ..facts(1) };
    assert_eq!(append(&mut replica, &keyless, 1), Err(AppendError::MissingKey));
    assert!(append(&mut replica, &facts(1), 1).is_ok());
    assert!(append(&mut leader(), &keyless, 1).is_ok());
}

/// T18.
#[test]
fn a_batch_larger_than_the_limit_is_refused_and_nothing_is_appended() {
    let limit = OVERHEAD as u64 + 100;
    let mut replica = leader_with(ReplicaConfig { max_message_bytes: limit, ..config() });
    assert!(append(&mut replica, &facts(1), 1).is_ok());
    let large = AppendFacts { payload_len: 101, ..facts(1) };
    let error = append(&mut replica, &large, 2).unwrap_err();
    assert_eq!(error, AppendError::RecordTooLarge { limit, actual: limit + 1 });
    assert_eq!(replica.log_end(), Offset(1));
    let wire = troupe_proto::error::Error::from(error);
    assert_eq!(wire.facts["limit"], limit.to_string());
    let mut replica = leader_with(ReplicaConfig { segment_bytes: limit, ..config() });
    assert!(append(&mut replica, &large, 2).is_err(), "a batch never spans segments");
}

#[test]
fn clients_write_neither_markers_nor_empty_batches() {
    let mut replica = leader();
    let control = AppendFacts { attributes: Attributes::default().with_control(true), ..facts(1) };
    let transactional =
        AppendFacts { attributes: Attributes::default().with_transactional(true), ..facts(1) };
    for refused in [control.clone(), transactional, facts(0)] {
        let error = append(&mut replica, &refused, 1).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
    assert!(append(&mut replica, &AppendFacts { origin: Origin::Internal, ..control }, 1).is_ok());
}

/// I4.
#[test]
fn a_batch_sent_again_is_answered_with_its_first_offset_and_not_appended() {
    let mut replica = leader();
    for n in 0..5 {
        append(&mut replica, &stamped(9, 0, n * 10, 10), n.into()).unwrap();
    }
    flush(&mut replica);
    for n in 0..5 {
        let out = append(&mut replica, &stamped(9, 0, n * 10, 10), 100).unwrap();
        let (_, result) = answers(&out).remove(0);
        let appended = result.unwrap();
        assert_eq!((appended.base_offset.0, appended.duplicate), (u64::from(n) * 10, true));
        assert_eq!(appended.end_offset, Offset(u64::from(n) * 10 + 10));
    }
    assert_eq!(replica.log_end(), Offset(50));
}

/// I4 with P14: success means committed, for the second answer too.
#[test]
fn a_duplicate_of_an_uncommitted_batch_waits_for_its_commit() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 1), 1).unwrap();
    append(&mut replica, &stamped(9, 0, 1, 1), 2).unwrap();
    let out = append(&mut replica, &stamped(9, 0, 0, 1), 3).unwrap();
    assert_eq!(answers(&out), vec![]);
    let mut out = Effects::new();
    replica.on_flushed(NOW, Offset(1), &mut out);
    let tokens: Vec<_> = answers(&out).into_iter().map(|(token, _)| token).collect();
    assert_eq!(tokens, [1, 3]);
}

/// I5.
#[test]
fn a_gap_in_the_sequence_is_refused_with_the_expected_one() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 10), 1).unwrap();
    let error = append(&mut replica, &stamped(9, 0, 11, 1), 2).unwrap_err();
    let wire = troupe_proto::error::Error::from(error);
    assert_eq!(wire.code, ErrorCode::OutOfOrderSequence);
    assert_eq!(wire.facts["expected_sequence"], "10");
    assert!(append(&mut replica, &stamped(9, 0, 10, 1), 3).is_ok());
}

/// I5.
#[test]
fn a_duplicate_older_than_five_batches_is_out_of_order() {
    let mut replica = leader();
    for n in 0..6 {
        append(&mut replica, &stamped(9, 0, n, 1), n.into()).unwrap();
    }
    let error = append(&mut replica, &stamped(9, 0, 0, 1), 9).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfOrderSequence);
    assert!(append(&mut replica, &stamped(9, 0, 1, 1), 9).is_ok(), "the fifth last is known");
}

/// I4 wants first and last sequence to agree: another cut of the same records is no duplicate.
#[test]
fn a_batch_that_only_overlaps_is_out_of_order() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 10), 1).unwrap();
    for (sequence, count) in [(0, 5), (5, 5), (0, 11)] {
        let error = append(&mut replica, &stamped(9, 0, sequence, count), 2).unwrap_err();
        assert_eq!(error.code(), ErrorCode::OutOfOrderSequence);
    }
}

/// I2.
#[test]
fn sequences_wrap_to_zero_after_31_bits() {
    let mut replica = leader();
    let last = Sequence::MODULUS - 1;
    append(&mut replica, &stamped(9, 0, last - 1, 4), 1).unwrap();
    let out = append(&mut replica, &stamped(9, 0, last - 1, 4), 2);
    assert!(out.is_ok(), "a duplicate across the wrap");
    assert_eq!(replica.log_end(), Offset(4));
    append(&mut replica, &stamped(9, 0, 2, 1), 3).unwrap();
    assert_eq!(replica.log_end(), Offset(5));
}

/// I6.
#[test]
fn an_unknown_producer_may_start_at_any_sequence() {
    let mut replica = leader();
    assert!(append(&mut replica, &stamped(9, 3, 777, 1), 1).is_ok());
    assert!(append(&mut replica, &stamped(9, 3, 778, 1), 2).is_ok());
}

/// I6.
#[test]
fn a_newer_epoch_starts_at_zero_and_an_older_one_is_fenced() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 1, 5, 1), 1).unwrap();
    let error = append(&mut replica, &stamped(9, 2, 6, 1), 2).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfOrderSequence);
    append(&mut replica, &stamped(9, 2, 0, 1), 3).unwrap();
    let error = append(&mut replica, &stamped(9, 1, 6, 1), 4).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ProducerFenced);
    assert_eq!(troupe_proto::error::Error::from(error).facts["current_epoch"], "2");
}

/// I9.
#[test]
fn a_producer_is_forgotten_after_a_day_of_silence() {
    let mut replica = leader();
    append(&mut replica, &stamped(9, 0, 0, 1), 1).unwrap();
    flush(&mut replica);
    let check = replica.next_tick().expect("an expiry check");
    replica.on_tick(check, &mut Effects::new());
    assert_eq!(replica.producer_count(), 1);
    replica.on_tick(NOW.plus(ReplicaConfig::PRODUCER_ID_EXPIRATION_MS), &mut Effects::new());
    assert_eq!(replica.producer_count(), 0);
    assert_eq!(replica.next_tick(), None, "an idle replica needs no ticks");
    assert!(append(&mut replica, &stamped(9, 0, 55, 1), 2).is_ok(), "I6: any sequence");
}

/// I10, S2: from a snapshot and the batches behind it, the same state as live.
#[test]
fn duplicates_are_still_known_after_a_restart() {
    let mut replica = leader();
    let mut headers = Vec::new();
    for n in 0..8 {
        let facts = stamped(9 + u64::from(n % 2), 0, n / 2, 1);
        let decided = replica.decide_append(NOW, &facts).unwrap();
        let AppendDecision::Append(header) = decided else { panic!("new") };
        append(&mut replica, &facts, n.into()).unwrap();
        headers.push(header);
    }
    for snapshot_at in 0..=headers.len() {
        let mut first = Replica::new(key(), SELF, config());
        let end = Offset(8);
        let ends = LogEnds {
            log_start: Offset::ZERO,
            high_watermark: Offset(99),
            flushed_end: end,
            log_end: end,
        };
        first.restore(ends, None);
        for header in &headers[..snapshot_at] {
            first.on_recovered_batch(NOW, header);
        }
        let mut second = Replica::new(key(), SELF, config());
        second.restore(ends, Some(&first.snapshot()));
        for header in &headers[snapshot_at..] {
            second.on_recovered_batch(NOW, header);
        }
        assert_eq!(second.snapshot(), replica.snapshot(), "snapshot at {snapshot_at}");
        assert_eq!(second.high_watermark(), end);
        second.become_leader(NOW, state(1, &[1]), &mut Effects::new());
        let out = append(&mut second, &stamped(9, 0, 3, 1), 1).unwrap();
        assert_eq!(base_offset(&out, 1), 6);
    }
}

/// P16.
#[test]
fn an_append_that_is_not_committed_in_time_is_answered_and_may_still_commit() {
    let mut replica = leader();
    append(&mut replica, &facts(1), 1).unwrap();
    let deadline = replica.next_tick().expect("a deadline");
    let mut out = Effects::new();
    replica.on_tick(Time(deadline.0 - 1), &mut out);
    assert_eq!(out, vec![]);
    replica.on_tick(deadline, &mut out);
    let base_offset = Offset::ZERO;
    assert_eq!(answers(&out), vec![(1, Err(AppendError::TimedOut { base_offset }))]);
    assert_eq!(flush(&mut replica), vec![Effect::HighWatermark(Offset(1))]);
}

#[test]
fn a_storage_failure_answers_everything_and_takes_the_replica_offline() {
    let mut replica = leader();
    append(&mut replica, &facts(1), 1).unwrap();
    append(&mut replica, &facts(1), 2).unwrap();
    let mut out = Effects::new();
    replica.on_storage_failure(&mut out);
    let failed = Err(AppendError::StorageFailure);
    assert_eq!(answers(&out), vec![(1, failed.clone()), (2, failed)]);
    assert_eq!(replica.role(), Role::Offline);
    replica.become_leader(NOW, state(9, &[1]), &mut out);
    assert_eq!(append(&mut replica, &facts(1), 3), Err(AppendError::Offline));
}

#[test]
fn whoever_stops_leading_says_that_the_outcome_is_unknown() {
    let mut replica = leader();
    append(&mut replica, &facts(1), 1).unwrap();
    let mut out = Effects::new();
    replica.resign(&mut out);
    assert_eq!(answers(&out), vec![(1, Err(AppendError::OutcomeUnknown))]);
    assert_eq!(append(&mut replica, &facts(1), 2), Err(AppendError::NotLeader));
    replica.on_flushed(NOW, Offset(1), &mut out);
    assert_eq!(replica.high_watermark(), Offset::ZERO, "only a leader commits by itself");
}

/// R22.
#[test]
fn truncation_cuts_every_end_and_the_producers() {
    let mut replica = leader();
    for n in 0..4 {
        append(&mut replica, &stamped(9, 0, n, 1), n.into()).unwrap();
    }
    flush(&mut replica);
    replica.resign(&mut Effects::new());
    replica.on_truncated(Offset(2), None);
    assert_eq!(replica.log_end(), Offset(2));
    assert_eq!(replica.flushed_end(), Offset(2));
    assert_eq!(replica.high_watermark(), Offset(2));
    assert_eq!(replica.producer_count(), 0);
}

#[test]
fn changing_the_flush_policy_never_moves_the_high_watermark_back() {
    let mut replica = leader_with(ReplicaConfig { flush_policy: FlushPolicy::Os, ..config() });
    append(&mut replica, &facts(2), 1).unwrap();
    let mut out = Effects::new();
    replica.reconfigure(NOW, config(), &mut out);
    assert_eq!(out, vec![Effect::Flush], "what was never flushed is flushed now");
    assert_eq!(replica.high_watermark(), Offset(2));
}

/// Everything that can happen to a leader that is alone.
#[derive(Clone, Debug)]
enum Event {
    Append {
        acks: Acks,
        count: u32,
        producer: Option<(u64, u32)>,
    },
    /// Sends the n-th last batch again.
    Repeat {
        back: usize,
    },
    FlushDone,
    Tick {
        ms: u64,
    },
    LogStart,
}

fn events() -> impl Strategy<Value = Event> {
    let acks = prop_oneof![Just(Acks::All), Just(Acks::Leader), Just(Acks::None)];
    let producer = proptest::option::of((1..4u64, 0..2u32));
    prop_oneof![
        4 => (acks, 1..5u32, producer)
            .prop_map(|(acks, count, producer)| Event::Append { acks, count, producer }),
        2 => (0..9usize).prop_map(|back| Event::Repeat { back }),
        3 => Just(Event::FlushDone),
        1 => (0..40_000u64).prop_map(|ms| Event::Tick { ms }),
        1 => Just(Event::LogStart),
    ]
}

/// The same partition, kept as a list of everything that ever happened.
#[derive(Default)]
struct Model {
    /// Accepted batches: stamp and count, base offset.
    log: Vec<(Option<ProducerStamp>, u32, u64)>,
    flushing_to: Option<u64>,
    flushed: u64,
    waiting: Vec<(u64, u64, Time)>,
}

impl Model {
    fn end(&self) -> u64 {
        self.log.last().map_or(0, |(_, count, base)| base + u64::from(*count))
    }

    /// What I4–I6 say, read off the whole log.
    fn judge(&self, stamp: &ProducerStamp, count: u32) -> Result<Option<u64>, ErrorCode> {
        let of_id: Vec<_> =
            self.log.iter().filter(|(s, ..)| s.is_some_and(|s| s.id == stamp.id)).collect();
        let Some((Some(latest), latest_count, _)) = of_id.last() else { return Ok(None) };
        if stamp.epoch < latest.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if stamp.epoch > latest.epoch {
            let first = stamp.base_sequence.0 == 0;
            return if first { Ok(None) } else { Err(ErrorCode::OutOfOrderSequence) };
        }
        for (other, other_count, base) in of_id.iter().rev().take(5) {
            if *other == Some(*stamp) && *other_count == count {
                return Ok(Some(*base));
            }
        }
        if stamp.base_sequence.0 == latest.base_sequence.0 + latest_count {
            Ok(None)
        } else {
            Err(ErrorCode::OutOfOrderSequence)
        }
    }
}

struct Run {
    replica: Replica,
    model: Model,
    now: Time,
    next_token: u64,
    sent: Vec<AppendFacts>,
    next_sequence: BTreeMap<(u64, u32), u32>,
}

impl Run {
    fn send(&mut self, facts: AppendFacts) {
        let token = self.next_token;
        self.next_token += 1;
        let deadline = self.now.plus(30_000);
        let expected = match &facts.producer {
            Some(stamp) => self.model.judge(stamp, facts.record_count),
            None => Ok(None),
        };
        let mut out = Effects::new();
        match (self.replica.decide_append(self.now, &facts), expected) {
            (Err(error), Err(code)) => assert_eq!(error.code(), code),
            (Ok(AppendDecision::Duplicate(duplicate)), Ok(Some(base))) => {
                assert_eq!(duplicate.base_offset.0, base);
                let (now, acks) = (self.now, facts.acks);
                self.replica.on_duplicate(now, duplicate, acks, Token(token), deadline, &mut out);
                self.expect_answer(facts.acks, token, duplicate.end_offset.0, deadline);
            }
            (Ok(AppendDecision::Append(header)), Ok(None)) => {
                assert_eq!(header.base_offset.0, self.model.end());
                self.model.log.push((facts.producer, facts.record_count, header.base_offset.0));
                let (now, acks) = (self.now, facts.acks);
                self.replica.on_appended(now, &header, acks, Token(token), deadline, &mut out);
                self.expect_answer(facts.acks, token, header.end_offset().0, deadline);
            }
            (decided, expected) => panic!("decided {decided:?}, the model says {expected:?}"),
        }
        let at_once = (facts.acks == Acks::Leader).then_some(token);
        self.observe(&out, at_once);
        self.sent.push(facts);
    }

    fn expect_answer(&mut self, acks: Acks, token: u64, end: u64, deadline: Time) {
        if acks == Acks::All {
            self.model.waiting.push((end, token, deadline));
        }
    }

    /// Every effect is one that the model expects, and none is missing.
    fn observe(&mut self, out: &Effects, at_once: Option<u64>) {
        if out.contains(&Effect::Flush) {
            assert_eq!(self.model.flushing_to, None, "two flushes under way");
            self.model.flushing_to = Some(self.model.end());
        }
        let pending = self.model.flushed < self.model.end();
        assert!(!pending || self.model.flushing_to.is_some(), "an append that nobody flushes");
        assert_eq!(self.replica.high_watermark().0, self.model.flushed);
        let flushed = self.model.flushed;
        let mut given: Vec<_> = answers(out);
        if let Some(token) = at_once {
            given.retain(|(other, _)| *other != token);
        }
        let mut due: Vec<_> = self.model.waiting.clone();
        due.retain(|(end, ..)| *end <= flushed);
        due.sort();
        self.model.waiting.retain(|(end, ..)| *end > flushed);
        let committed: Vec<_> =
            given.iter().filter(|(_, result)| result.is_ok()).map(|(token, _)| *token).collect();
        let due: Vec<_> = due.into_iter().map(|(_, token, _)| token).collect();
        assert_eq!(committed, due);
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Append { acks, count, producer } => {
                let mut facts = AppendFacts { acks, ..facts(count) };
                if let Some((id, epoch)) = producer {
                    let next = self.next_sequence.entry((id, epoch)).or_default();
                    facts.producer = stamped(id, epoch, *next, count).producer;
                    *next += count;
                }
                self.send(facts);
            }
            Event::Repeat { back } => {
                if let Some(facts) = self.sent.iter().rev().nth(back).cloned() {
                    self.send(facts);
                }
            }
            Event::FlushDone => {
                if let Some(end) = self.model.flushing_to.take() {
                    self.model.flushed = end;
                    let mut out = Effects::new();
                    self.replica.on_flushed(self.now, Offset(end), &mut out);
                    self.observe(&out, None);
                }
            }
            Event::Tick { ms } => {
                self.now = self.now.plus(ms);
                let now = self.now;
                let mut out = Effects::new();
                self.replica.on_tick(now, &mut out);
                let mut expired: Vec<_> = answers(&out).into_iter().map(|(t, _)| t).collect();
                let mut due: Vec<_> = self.model.waiting.clone();
                due.retain(|(_, _, deadline)| *deadline <= now);
                self.model.waiting.retain(|(_, _, deadline)| *deadline > now);
                let mut due: Vec<_> = due.into_iter().map(|(_, token, _)| token).collect();
                expired.sort_unstable();
                due.sort_unstable();
                assert_eq!(expired, due);
            }
            Event::LogStart => self.replica.on_log_start(self.replica.high_watermark()),
        }
        assert_eq!(self.replica.parked(), self.model.waiting.len());
    }
}

proptest! {
    #[test]
    fn any_run_of_events_does_what_the_naive_model_does(
        events in proptest::collection::vec(events(), 1..120)
    ) {
        let mut run = Run {
            replica: leader(),
            model: Model::default(),
            now: NOW,
            next_token: 0,
            sent: Vec::new(),
            next_sequence: BTreeMap::new(),
        };
        for event in events {
            run.step(event);
        }
    }
}

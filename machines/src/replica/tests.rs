//! Rules by name. Here those of a leader's appends and answers; the others by subject.

mod confirm;
mod deletion;
mod following;
mod idempotence;
mod isr;
mod leading;
mod marking;
mod model;
mod reading;
mod refill;
mod snapshots;
mod transactions;

use super::*;
use crate::config::{FlushPolicy, TimestampType};
use troupe_proto::batch::{Attributes, OVERHEAD, ProducerStamp};
use troupe_proto::error::{Error as WireError, ErrorCode};
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
        min_timestamp: NOW.as_timestamp(),
        max_timestamp: NOW.as_timestamp(),
        attributes: Attributes::default(),
        payload_crc: 0,
        payload_len: 100,
        keyless: false,
        acks: Acks::All,
        expected_leader_epoch: None,
        origin: Origin::Client,
        transaction: None,
        verified: None,
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
        AppendDecision::Verify(producer) => {
            let verified = Some(replica.begin_verifying(producer));
            return append(replica, &AppendFacts { verified, ..facts.clone() }, token);
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
    let follower =
        Follower { node: NodeId(node), broker_epoch: BrokerEpoch(0), answers_rounds: true };
    let leader_epoch = replica.leader_epoch().expect("a leader");
    let end =
        ReplicaEnd { log_end: Offset(log_end), flushed_end: Offset(flushed_end), log_start: None };
    let position = Position {
        leader_epoch,
        end,
        last_epoch: Some(leader_epoch),
        tombstones_gone_below: Some(Offset::ZERO),
    };
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

/// R5: earlier leaders may have committed all that a new one holds.
#[test]
fn a_new_leader_knows_what_is_committed_when_the_in_sync_replicas_have_told_it() {
    let mut replica = leader();
    replica.become_leader(NOW, state(1, &[1, 2, 3]), &mut Effects::new());
    append(&mut replica, &facts(5), 1).unwrap();
    flush(&mut replica);
    assert!(replica.knows_what_is_committed(), "there was nothing when it began");
    replica.become_leader(NOW, state(2, &[1, 2]), &mut Effects::new());
    for (end, knows) in [(0, false), (3, false), (5, true)] {
        follower_at(&mut replica, 2, 5, end);
        assert_eq!(replica.high_watermark(), Offset(end));
        assert_eq!(replica.knows_what_is_committed(), knows);
    }
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
    let between = |min, max| AppendFacts { min_timestamp: min, max_timestamp: max, ..facts(2) };
    assert!(replica.decide_append(NOW, &between(now - 1_000, now + 2_000)).is_ok());
    for (base, max) in [(now - 1_001, now), (now, now + 2_001)] {
        let error = replica.decide_append(NOW, &between(base, max)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
    }
    let base = AppendFacts { base_timestamp: 0, ..between(now, now) };
    assert!(replica.decide_append(NOW, &base).is_ok(), "the base is no record\'s");
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

/// T15.
#[test]
fn a_refusal_says_for_which_records_it_is() {
    let dated = AppendError::TimestampOutOfRange { timestamp: 9, earliest: 10, latest: 20 };
    assert!(dated.of_record(9, true).is_some() && dated.of_record(21, false).is_some());
    assert!(dated.of_record(10, false).is_none() && dated.of_record(20, true).is_none());
    let keyless = AppendError::MissingKey;
    assert!(keyless.of_record(0, false).is_some() && keyless.of_record(0, true).is_none());
    assert!(AppendError::NotLeader.of_record(0, false).is_none());
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
fn changing_the_flush_policy_never_moves_the_high_watermark_back() {
    let mut replica = leader_with(ReplicaConfig { flush_policy: FlushPolicy::Os, ..config() });
    append(&mut replica, &facts(2), 1).unwrap();
    let mut out = Effects::new();
    replica.reconfigure(NOW, config(), &mut out);
    assert_eq!(out, vec![Effect::Flush], "what was never flushed is flushed now");
    assert_eq!(replica.high_watermark(), Offset(2));
}

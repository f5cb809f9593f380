//! Followers: whom they follow, what they take, what they truncate.

use super::*;
use std::collections::BTreeMap;

const LEADER: NodeId = NodeId(2);

pub(super) fn batch(base: u64, count: u32, epoch: u32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(epoch),
        last_offset_delta: count - 1,
        base_timestamp: NOW.as_timestamp(),
        max_timestamp: NOW.as_timestamp(),
        producer: None,
        record_count: count,
        attributes: Attributes::default(),
        payload_crc: 0,
        payload_len: 100,
    }
}

pub(super) fn ends(high_watermark: u64, log_start: u64) -> LeaderEnds {
    LeaderEnds {
        high_watermark: Offset(high_watermark),
        log_start: Offset(log_start),
        ..LeaderEnds::default()
    }
}

/// As recovery found it.
pub(super) fn from_disk(high_watermark: u64, log_end: u64) -> Replica {
    let mut replica = Replica::new(key(), SELF, config());
    let ends = LogEnds {
        log_start: Offset::ZERO,
        high_watermark: Offset(high_watermark),
        flushed_end: Offset(log_end),
        log_end: Offset(log_end),
    };
    replica.restore(ends, None);
    replica
}

pub(super) fn follow(replica: &mut Replica, epoch: u32) -> Effects {
    let mut out = Effects::new();
    let state = FollowerState { leader: LEADER, leader_epoch: LeaderEpoch(epoch) };
    replica.become_follower(NOW, state, &mut out);
    out
}

pub(super) fn opened(effects: &Effects) -> FollowSession {
    let open = effects.iter().find_map(|effect| match effect {
        Effect::Replication(ReplicationEffect::Open { leader: LEADER, session }) => Some(*session),
        _ => None,
    });
    open.expect("a stream to the leader")
}

/// A follower of epoch 0 whose stream is accepted.
pub(super) fn streaming(replica: &mut Replica) -> FollowSession {
    let session = opened(&follow(replica, 0));
    replica.on_replicated(NOW, session, &[], ends(0, 0), &mut Effects::new());
    session
}

fn take(
    replica: &mut Replica,
    session: FollowSession,
    batch: BatchHeader,
    leader: LeaderEnds,
) -> Effects {
    let mut out = Effects::new();
    replica.check_slice(session, Some(replica.log_end()), &[batch]).unwrap();
    replica.on_replicated(NOW, session, &[batch], leader, &mut out);
    out
}

fn truncates(effects: &Effects) -> bool {
    effects.iter().any(|effect| {
        use ReplicationEffect::{ResetTo, Truncate};
        matches!(effect, Effect::Replication(Truncate { .. } | ResetTo { .. }))
    })
}

fn reported(effects: &Effects) -> Option<(u64, u64)> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Replication(ReplicationEffect::ReportEnd { end, .. }) => {
            Some((end.log_end.0, end.flushed_end.0))
        }
        _ => None,
    })
}

/// R20, R23: B has offsets 0 and 1, its high watermark is 1, and it restarts.
#[test]
fn a_rebuilt_replica_is_idle_and_never_truncates_to_its_high_watermark() {
    let mut replica = from_disk(1, 2);
    assert_eq!((replica.role(), replica.log_end()), (Role::Idle, Offset(2)));
    let out = follow(&mut replica, 3);
    assert!(!truncates(&out));
    opened(&out);
    let position = replica.position(Some(LeaderEpoch(0))).unwrap();
    assert_eq!(position.end.log_end, Offset(2), "it asks for what comes behind all it has");
    assert_eq!(
        (position.leader_epoch, position.last_epoch),
        (LeaderEpoch(3), Some(LeaderEpoch(0)))
    );
    // A dies, B leads: record 1 is still there.
    let led = PartitionState {
        leader: Some(SELF),
        leader_epoch: LeaderEpoch(4),
        partition_epoch: Default::default(),
        replicas: vec![SELF, LEADER],
        isr: vec![SELF],
        least_replicas: 2,
        eligible: BTreeMap::new(),
    };
    let mut out = Effects::new();
    replica.on_partition_state(NOW, &led, &mut out);
    assert_eq!(replica.log_end(), Offset(2));
    assert!(out.contains(&Effect::HighWatermark(Offset(2))));
}

/// R24: A holds 0..2 of epoch 0, the new leader began epoch 1 at offset 2.
#[test]
fn a_returning_leader_truncates_what_the_new_one_never_had() {
    let mut replica = from_disk(1, 3);
    let session = opened(&follow(&mut replica, 1));
    let parted = Divergence { leader_epoch: Some(LeaderEpoch(0)), end_offset: Offset(2) };
    let own = Some((LeaderEpoch(0), Offset(3)));
    let mut out = Effects::new();
    replica.on_diverged(NOW, session, parted, own, &mut out);
    assert_eq!(out, vec![Effect::Replication(ReplicationEffect::Truncate { to: Offset(2) })]);
    replica.on_truncated(Offset(2), None);
    out.clear();
    replica.continue_following(NOW, &mut out);
    let session = opened(&out);
    assert_eq!(replica.position(Some(LeaderEpoch(0))).unwrap().end.log_end, Offset(2));
    replica.on_replicated(NOW, session, &[], ends(2, 0), &mut out);
    take(&mut replica, session, batch(2, 1, 1), ends(2, 0));
    assert_eq!(replica.log_end(), Offset(3));
}

/// R22: the own end of the largest epoch below, if the log has none of the leader's; and then again.
#[test]
fn truncation_is_repeated_until_the_logs_agree() {
    let parted =
        |epoch, end| Divergence { leader_epoch: Some(LeaderEpoch(epoch)), end_offset: Offset(end) };
    let own = |epoch, end| Some((LeaderEpoch(epoch), Offset(end)));
    // Own epochs: 1 from 0, 3 from 20, 6 from 30; ends at 40.
    let mut replica = from_disk(5, 40);
    let mut session = opened(&follow(&mut replica, 9));
    for (divergence, own_epoch_end, to) in [
        (parted(5, 70), own(3, 30), 30),
        (parted(2, 25), own(1, 20), 20),
        (parted(1, 8), own(1, 20), 8),
    ] {
        let mut out = Effects::new();
        replica.on_diverged(NOW, session, divergence, own_epoch_end, &mut out);
        assert_eq!(out, vec![Effect::Replication(ReplicationEffect::Truncate { to: Offset(to) })]);
        replica.on_truncated(Offset(to), None);
        out.clear();
        replica.continue_following(NOW, &mut out);
        session = opened(&out);
    }
    assert_eq!(replica.high_watermark(), Offset(5));
}

/// R22: nothing in common means nothing is kept.
#[test]
fn a_log_without_a_common_epoch_is_truncated_to_its_start() {
    let mut replica = from_disk(0, 4);
    let session = opened(&follow(&mut replica, 9));
    let parted = Divergence { leader_epoch: Some(LeaderEpoch(2)), end_offset: Offset(3) };
    let mut out = Effects::new();
    replica.on_diverged(NOW, session, parted, None, &mut out);
    assert_eq!(out, vec![Effect::Replication(ReplicationEffect::Truncate { to: Offset(0) })]);
}

/// R25.
#[test]
fn a_follower_outside_of_its_leaders_log_truncates_resets_or_goes_on() {
    let out_of_range = |log_start, log_end| {
        let mut replica = from_disk(0, 10);
        let session = opened(&follow(&mut replica, 1));
        let mut out = Effects::new();
        replica.on_out_of_range(NOW, session, Offset(log_start), Offset(log_end), &mut out);
        (replica, out)
    };
    let (_, out) = out_of_range(0, 7);
    assert_eq!(out, vec![Effect::Replication(ReplicationEffect::Truncate { to: Offset(7) })]);
    let (mut replica, out) = out_of_range(15, 20);
    assert_eq!(out, vec![Effect::Replication(ReplicationEffect::ResetTo { offset: Offset(15) })]);
    replica.on_reset(Offset(15));
    assert_eq!((replica.log_start(), replica.log_end()), (Offset(15), Offset(15)));
    let mut out = Effects::new();
    replica.continue_following(NOW, &mut out);
    opened(&out);
    let (mut replica, out) = out_of_range(3, 20);
    assert_eq!(out, vec![], "it tries again, but not at once");
    let again = replica.next_tick().unwrap();
    assert!(again > NOW);
    let mut out = Effects::new();
    replica.on_tick(again, &mut out);
    opened(&out);
}

/// R26.
#[test]
fn a_follower_takes_its_leaders_high_watermark_and_log_start_as_far_as_it_has_them() {
    let mut replica = from_disk(0, 0);
    let session = streaming(&mut replica);
    let out = take(&mut replica, session, batch(0, 4, 0), ends(9, 0));
    assert!(out.contains(&Effect::HighWatermark(Offset(4))));
    let out = take(&mut replica, session, batch(4, 4, 0), ends(9, 6));
    let delete = ReplicationEffect::DeleteBefore { offset: Offset(6) };
    assert!(out.contains(&Effect::Replication(delete)));
    let mut out = Effects::new();
    replica.on_log_start(NOW, Offset(6), &mut out);
    assert_eq!(reported(&out), Some((8, 6)), "what is deleted counts as flushed");
    let mut out = Effects::new();
    replica.on_replicated(NOW, session, &[], ends(5, 6), &mut out);
    assert_eq!(out, vec![], "neither end moves back");
    assert_eq!((replica.log_start(), replica.high_watermark()), (Offset(6), Offset(8)));
}

#[test]
fn only_the_next_batches_of_the_open_stream_are_taken() {
    let mut replica = from_disk(0, 5);
    let session = opened(&follow(&mut replica, 2));
    let check = |batches: &[BatchHeader]| replica.check_slice(session, None, batches);
    assert_eq!(check(&[batch(5, 2, 1), batch(7, 1, 2)]), Ok(()));
    for given in [4, 6] {
        let error = SliceError::NotNext { expected: Offset(5), given: Offset(given) };
        assert_eq!(check(&[batch(given, 2, 1)]), Err(error));
    }
    let error = SliceError::NotNext { expected: Offset(7), given: Offset(8) };
    assert_eq!(check(&[batch(5, 2, 1), batch(8, 1, 1)]), Err(error));
    let (previous, given) = (LeaderEpoch(2), LeaderEpoch(1));
    let error = SliceError::EpochWentBack { previous, given };
    assert_eq!(check(&[batch(5, 1, 2), batch(6, 1, 1)]), Err(error));
    let (current, given) = (LeaderEpoch(2), LeaderEpoch(3));
    assert_eq!(check(&[batch(5, 1, 3)]), Err(SliceError::EpochFromTheFuture { current, given }));
    replica.on_stream_closed(NOW, session, &mut Effects::new());
    let late = replica.check_slice(session, None, &[batch(5, 1, 2)]);
    assert_eq!(late, Err(SliceError::StaleSession));
}

/// Cleaning leaves gaps (S20); a slice that got lost leaves one too.
#[test]
fn a_gap_is_taken_if_the_leader_read_from_where_the_log_ends() {
    let mut replica = from_disk(0, 5);
    let session = opened(&follow(&mut replica, 2));
    let check = |read_from: Option<u64>, batches: &[BatchHeader]| {
        replica.check_slice(session, read_from.map(Offset), batches)
    };
    let slice = [batch(9, 1, 1), batch(20, 3, 2)];
    assert_eq!(check(Some(5), &slice), Ok(()));
    let lost = |given| Err(SliceError::NotNext { expected: Offset(5), given: Offset(given) });
    assert_eq!(check(Some(9), &slice), lost(9), "what came before it got lost");
    assert_eq!(check(None, &slice), lost(9), "a leader of an earlier version has no gaps");
    assert_eq!(check(Some(5), &[batch(4, 3, 1)]), lost(4));
    let back = SliceError::NotNext { expected: Offset(10), given: Offset(9) };
    assert_eq!(check(Some(5), &[batch(9, 1, 1), batch(9, 3, 2)]), Err(back));
    let mut out = Effects::new();
    replica.on_replicated(NOW, session, &slice, ends(23, 0), &mut out);
    assert_eq!((replica.log_end(), replica.high_watermark()), (Offset(23), Offset(23)));
    assert_eq!(reported(&out), Some((23, 5)));
}

/// S19: the leader's log may start within a batch.
#[test]
fn a_log_without_records_takes_the_batch_that_holds_its_start() {
    for read_from in [Some(Offset(8)), None] {
        let mut replica = Replica::new(key(), SELF, config());
        replica.on_reset(Offset(8));
        let session = opened(&follow(&mut replica, 2));
        let check = |batches: &[BatchHeader]| replica.check_slice(session, read_from, batches);
        let below = SliceError::NotNext { expected: Offset(8), given: Offset(6) };
        assert_eq!(check(&[batch(6, 2, 1)]), Err(below), "nothing of it can be read");
        let slice = [batch(6, 4, 1), batch(10, 1, 1)];
        assert_eq!(check(&slice), Ok(()));
        replica.on_replicated(NOW, session, &slice, ends(11, 8), &mut Effects::new());
        assert_eq!((replica.log_start(), replica.log_end()), (Offset(8), Offset(11)));
        let overlap = SliceError::NotNext { expected: Offset(11), given: Offset(9) };
        let again = replica.check_slice(session, read_from.map(|_| Offset(11)), &[batch(9, 4, 1)]);
        assert_eq!(again, Err(overlap), "only the first");
    }
}

/// A tombstone that nobody misses may go; who follows cannot know that by itself.
#[test]
fn a_follower_goes_by_what_its_leader_says_everyone_has() {
    let mut replica = from_disk(0, 5);
    assert_eq!(replica.everyone_has(), Offset::ZERO);
    let session = opened(&follow(&mut replica, 2));
    let told = |offset| LeaderEnds { everyone_has: Offset(offset), ..ends(5, 0) };
    replica.on_replicated(NOW, session, &[], told(4), &mut Effects::new());
    assert_eq!(replica.everyone_has(), Offset(4));
    replica.on_replicated(NOW, session, &[], told(0), &mut Effects::new());
    assert_eq!(replica.everyone_has(), Offset::ZERO, "a replica was added, which has nothing");
    replica.on_replicated(NOW, session, &[], told(4), &mut Effects::new());
    let mut out = Effects::new();
    let next = FollowerState { leader: NodeId(3), leader_epoch: LeaderEpoch(3) };
    replica.become_follower(NOW, next, &mut out);
    assert_eq!(replica.everyone_has(), Offset::ZERO, "the next leader has not said anything");
}

/// The design's flush policy `commit`: an end counts as flushed once it is.
#[test]
fn a_follower_reports_its_end_at_once_and_its_flushed_end_after_the_flush() {
    let mut replica = from_disk(0, 0);
    let session = streaming(&mut replica);
    let out = take(&mut replica, session, batch(0, 3, 0), ends(0, 0));
    assert!(out.contains(&Effect::Flush));
    assert_eq!(reported(&out), Some((3, 0)));
    assert_eq!(reported(&flush(&mut replica)), Some((3, 3)));
    assert_eq!(replica.high_watermark(), Offset::ZERO, "only the leader commits");
}

#[test]
fn what_was_flushed_before_the_leader_accepted_is_reported_then() {
    let mut replica = from_disk(0, 0);
    let session = streaming(&mut replica);
    take(&mut replica, session, batch(0, 3, 0), ends(0, 0));
    replica.on_stream_closed(NOW, session, &mut Effects::new());
    let mut out = Effects::new();
    replica.on_tick(replica.next_tick().unwrap(), &mut out);
    let session = opened(&out);
    assert_eq!(reported(&flush(&mut replica)), None);
    replica.on_replicated(NOW, session, &[], ends(0, 0), &mut out);
    assert_eq!(reported(&out), Some((3, 3)));
}

/// A leader whose next batch is broken accepts every stream: it is not asked five hundred times a second.
#[test]
fn a_stream_that_brings_nothing_is_opened_less_and_less_often() {
    let mut replica = from_disk(0, 0);
    let (mut now, mut waits, mut session) = (NOW, Vec::new(), opened(&follow(&mut replica, 0)));
    for _ in 0..8 {
        replica.on_replicated(now, session, &[], ends(0, 0), &mut Effects::new());
        replica.on_stream_closed(now, session, &mut Effects::new());
        let next = replica.next_tick().unwrap();
        waits.push(next.0 - now.0);
        let mut out = Effects::new();
        replica.on_tick(next, &mut out);
        (now, session) = (next, opened(&out));
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 100, 100]);
    replica.on_replicated(now, session, &[], ends(0, 0), &mut Effects::new());
    take(&mut replica, session, batch(0, 3, 0), ends(0, 0));
    replica.on_stream_closed(now, session, &mut Effects::new());
    assert_eq!(replica.next_tick(), Some(now.plus(2)), "this one brought something");
}

/// R1: news comes late and in any order.
#[test]
fn news_of_an_older_leader_epoch_changes_nothing() {
    let mut replica = from_disk(0, 0);
    replica.restore_leader_epoch(Some(LeaderEpoch(4)));
    assert_eq!(follow(&mut replica, 3), vec![]);
    assert_eq!(replica.role(), Role::Idle);
    opened(&follow(&mut replica, 5));
    assert_eq!(replica.followed(), Some((LEADER, LeaderEpoch(5))));
    assert_eq!(follow(&mut replica, 5), vec![], "the same news twice");
    replica.become_leader(NOW, state(4, &[1]), &mut Effects::new());
    assert_eq!(replica.role(), Role::Follower);
    let mut out = Effects::new();
    replica.become_leader(NOW, state(6, &[1]), &mut out);
    assert!(matches!(out[0], Effect::Replication(ReplicationEffect::Close { .. })));
    assert_eq!(replica.role(), Role::Leader);
    assert_eq!(follow(&mut replica, 5), vec![]);
    assert_eq!(replica.role(), Role::Leader);
}

/// A13: a replica that has come to be in sync is held back no longer, on another stream.
#[test]
fn a_stream_that_takes_the_place_of_another_goes_on_where_the_log_ends() {
    let mut replica = from_disk(0, 0);
    let mut out = Effects::new();
    replica.follow_anew(&mut out);
    assert_eq!(out, vec![], "it does not follow");
    let before = streaming(&mut replica);
    take(&mut replica, before, batch(0, 3, 0), ends(0, 0));
    replica.follow_anew(&mut out);
    let session = opened(&out);
    assert_ne!(session, before);
    let last_epoch = Some(LeaderEpoch(0));
    assert_eq!(replica.position(last_epoch).unwrap().end.log_end, Offset(3));
    let late = replica.check_slice(before, None, &[batch(3, 1, 0)]);
    assert!(matches!(late, Err(SliceError::StaleSession)), "{late:?}");
    replica.on_replicated(NOW, session, &[], ends(0, 0), &mut Effects::new());
    take(&mut replica, session, batch(3, 1, 0), ends(0, 0));
}

#[test]
fn a_leader_that_follows_another_gives_up_what_is_parked() {
    let mut replica = leader();
    append(&mut replica, &facts(1), 1).unwrap();
    let out = follow(&mut replica, 1);
    assert_eq!(answers(&out), vec![(1, Err(AppendError::OutcomeUnknown))]);
    opened(&out);
    assert_eq!(append(&mut replica, &facts(1), 2), Err(AppendError::NotLeader));
}

/// I10: the same batches give the same producers, on a follower too, so failover keeps what is a duplicate.
#[test]
fn a_follower_knows_duplicates_when_it_leads() {
    let mut first = leader();
    let mut replica = from_disk(0, 0);
    let session = streaming(&mut replica);
    for n in 0..3 {
        let facts = stamped(9, 0, n, 1);
        let AppendDecision::Append(header) = first.decide_append(NOW, &facts).unwrap() else {
            panic!("new");
        };
        append(&mut first, &facts, n.into()).unwrap();
        take(&mut replica, session, header, ends(0, 0));
    }
    assert_eq!(replica.snapshot(), first.snapshot());
    flush(&mut replica);
    replica.become_leader(NOW, state(1, &[1]), &mut Effects::new());
    let out = append(&mut replica, &stamped(9, 0, 1, 1), 7).unwrap();
    assert_eq!(base_offset(&out, 7), 1);
    assert_eq!(replica.log_end(), Offset(3));
}

/// I10, reliability.md §10, 6: producers are truncated with the log (KAFKA-12153).
#[test]
fn truncation_on_a_follower_takes_the_producers_back_too() {
    let mut replica = from_disk(0, 0);
    let session = streaming(&mut replica);
    let stamp = |n| ProducerStamp {
        id: ProducerId(9),
        epoch: ProducerEpoch(0),
        base_sequence: Sequence(n),
    };
    let batches: Vec<_> =
        (0..3).map(|n| BatchHeader { producer: Some(stamp(n)), ..batch(n.into(), 1, 0) }).collect();
    for header in &batches {
        take(&mut replica, session, *header, ends(0, 0));
    }
    let session = opened(&follow(&mut replica, 1));
    let parted = Divergence { leader_epoch: Some(LeaderEpoch(0)), end_offset: Offset(1) };
    let own = Some((LeaderEpoch(0), Offset(3)));
    replica.on_diverged(NOW, session, parted, own, &mut Effects::new());
    replica.on_truncated(Offset(1), None);
    replica.on_recovered_batch(NOW, &batches[0]);
    replica.continue_following(NOW, &mut Effects::new());
    replica.become_leader(NOW, state(2, &[1]), &mut Effects::new());
    append(&mut replica, &stamped(9, 0, 1, 1), 1).unwrap();
    assert_eq!(replica.log_end(), Offset(2), "the second batch is new again");
}

/// R22.
#[test]
fn truncation_moves_every_end_and_the_producers() {
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

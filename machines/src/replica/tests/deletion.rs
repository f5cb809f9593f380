//! Records deleted on request (S19), from the leader's side and from the follower's.

use super::*;

const DEADLINE: u64 = 5_000;

/// Leads in epoch 0 with 2 and 3 in sync; ten records are committed.
fn leader_of_three() -> Replica {
    let mut replica = Replica::new(key(), SELF, config());
    replica.become_leader(NOW, state(0, &[1, 2, 3]), &mut Effects::new());
    append(&mut replica, &facts(10), 1).unwrap();
    flush(&mut replica);
    follower_at(&mut replica, 2, 10, 10);
    follower_at(&mut replica, 3, 10, 10);
    assert_eq!(replica.high_watermark(), Offset(10));
    // it knows that by their reports alone
    assert!(replica.knows_what_is_committed());
    replica
}

fn delete(replica: &mut Replica, token: u64, up_to: DeleteUpTo) -> Effects {
    let mut out = Effects::new();
    replica.delete_records(Token(token), up_to, NOW.plus(DEADLINE), &mut out);
    out
}

fn up_to(offset: u64) -> DeleteUpTo {
    DeleteUpTo::Offset(Offset(offset))
}

fn delete_before(offset: u64) -> Effects {
    let offset = Offset(offset);
    vec![Effect::Replication(ReplicationEffect::DeleteBefore { offset })]
}

fn moved(replica: &mut Replica, log_start: u64) -> Effects {
    let mut out = Effects::new();
    replica.on_log_start(NOW, Offset(log_start), &mut out);
    out
}

/// A follower reports on the stream it has: those of [`leader_of_three`] are named 1 and 2.
fn report(replica: &mut Replica, node: i32, log_start: Option<u64>) -> Effects {
    let mut out = Effects::new();
    let session = FollowSession(node as u64 - 1);
    let log_start = log_start.map(Offset);
    let end = ReplicaEnd { log_end: Offset(10), flushed_end: Offset(10), log_start };
    replica.on_follower_end(NOW, NodeId(node), session, end, &mut out);
    out
}

fn deleted(token: u64, result: Result<u64, DeletionError>) -> Effects {
    vec![Effect::Deleted { token: Token(token), result: result.map(Offset) }]
}

#[test]
fn a_deletion_is_answered_when_every_in_sync_replica_has_moved_its_log_start() {
    let mut replica = leader_of_three();
    report(&mut replica, 2, Some(0));
    report(&mut replica, 3, Some(0));
    assert_eq!(delete(&mut replica, 7, up_to(4)), delete_before(4));
    assert_eq!(moved(&mut replica, 4), vec![]);
    assert_eq!(report(&mut replica, 2, Some(6)), vec![], "further than asked for, by retention");
    assert_eq!(report(&mut replica, 3, Some(3)), vec![], "not far enough");
    assert_eq!(report(&mut replica, 3, Some(4)), deleted(7, Ok(4)));
}

#[test]
fn what_is_deleted_already_changes_nothing_and_tells_the_low_watermark() {
    let mut replica = leader_of_three();
    moved(&mut replica, 6);
    report(&mut replica, 2, Some(6));
    report(&mut replica, 3, Some(5));
    assert_eq!(delete(&mut replica, 1, up_to(5)), deleted(1, Ok(5)));
    assert_eq!(delete(&mut replica, 2, up_to(0)), deleted(2, Ok(5)));
    assert_eq!(delete(&mut replica, 3, up_to(6)), vec![], "3 is about to");
    assert_eq!(report(&mut replica, 3, Some(6)), deleted(3, Ok(6)));
    assert_eq!(replica.log_start(), Offset(6));
}

#[test]
fn nothing_above_the_high_watermark_is_deleted() {
    let mut replica = leader_of_three();
    append(&mut replica, &facts(5), 2).unwrap();
    moved(&mut replica, 2);
    let error = DeletionError::OffsetOutOfRange {
        requested: Offset(11),
        earliest: Offset(2),
        latest: Offset(10),
    };
    assert_eq!(delete(&mut replica, 1, up_to(11)), deleted(1, Err(error)));
    let wire = WireError::from(error);
    assert_eq!(wire.code, ErrorCode::OffsetOutOfRange);
    assert_eq!((wire.facts["earliest"].as_str(), wire.facts["latest"].as_str()), ("2", "10"));
    assert_eq!(delete(&mut replica, 2, DeleteUpTo::HighWatermark), delete_before(10));
}

#[test]
fn a_check_says_where_the_log_would_start_and_changes_nothing() {
    let mut replica = leader_of_three();
    moved(&mut replica, 6);
    assert_eq!(replica.check_deletion(up_to(8)), Ok(Offset(8)));
    assert_eq!(replica.check_deletion(up_to(3)), Ok(Offset(6)));
    assert_eq!(replica.check_deletion(DeleteUpTo::HighWatermark), Ok(Offset(10)));
    assert!(replica.check_deletion(up_to(11)).is_err());
    assert_eq!((replica.log_start(), replica.next_deletion_deadline()), (Offset(6), None));
}

#[test]
fn who_has_left_the_isr_is_not_waited_for() {
    let mut replica = leader_of_three();
    report(&mut replica, 2, Some(0));
    report(&mut replica, 3, Some(0));
    delete(&mut replica, 1, up_to(4));
    moved(&mut replica, 4);
    report(&mut replica, 2, Some(4));
    let mut out = Effects::new();
    replica.become_leader(NOW, state(0, &[1, 2]), &mut out);
    assert_eq!(out, deleted(1, Ok(4)));
}

/// R16: who left then is eligible, and leads perhaps with what was deleted.
#[test]
fn nothing_is_answered_while_fewer_are_in_sync_than_have_to_be() {
    let config = ReplicaConfig { min_insync_replicas: 2, ..config() };
    let mut replica = leader_of_three();
    replica.reconfigure(NOW, config, &mut Effects::new());
    report(&mut replica, 2, Some(0));
    delete(&mut replica, 1, up_to(4));
    moved(&mut replica, 4);
    let in_sync = |isr: &[i32]| LeaderState { isr: state(0, isr).isr, ..state(0, &[1, 2, 3]) };
    let mut out = Effects::new();
    replica.become_leader(NOW, in_sync(&[1]), &mut out);
    assert_eq!(out, vec![], "it is not known whether 2 has deleted");
    replica.become_leader(NOW, in_sync(&[1, 2]), &mut out);
    assert_eq!(out, vec![]);
    assert_eq!(report(&mut replica, 2, Some(4)), deleted(1, Ok(4)));
}

#[test]
fn a_follower_of_an_earlier_version_is_believed_while_it_has_a_stream() {
    let mut replica = leader_of_three();
    report(&mut replica, 2, Some(0));
    delete(&mut replica, 1, up_to(4));
    moved(&mut replica, 4);
    report(&mut replica, 3, None);
    assert_eq!(report(&mut replica, 2, Some(4)), deleted(1, Ok(4)));
    let mut out = Effects::new();
    replica.on_follower_closed(NOW, NodeId(3), FollowSession(2), &mut out);
    assert_eq!(delete(&mut replica, 2, up_to(4)), vec![], "nobody knows of it now");
}

#[test]
fn a_deletion_whose_time_is_over_tells_what_is_known() {
    let mut replica = leader_of_three();
    report(&mut replica, 2, Some(0));
    report(&mut replica, 3, Some(1));
    delete(&mut replica, 1, up_to(4));
    moved(&mut replica, 4);
    report(&mut replica, 2, Some(4));
    let mut out = Effects::new();
    assert!(replica.next_tick().is_some_and(|tick| tick <= NOW.plus(DEADLINE)));
    replica.on_tick(NOW.plus(DEADLINE), &mut out);
    let error = DeletionError::TimedOut { low_watermark: Offset(1) };
    let answer = Effect::Deleted { token: Token(1), result: Err(error) };
    assert!(out.contains(&answer), "{out:?}");
    assert!(!WireError::from(error).surely_not_done());
}

#[test]
fn a_leader_that_steps_down_does_not_know_what_became_of_a_deletion() {
    for (fails, error) in
        [(false, DeletionError::OutcomeUnknown), (true, DeletionError::StorageFailure)]
    {
        let mut replica = leader_of_three();
        delete(&mut replica, 1, up_to(4));
        let mut out = Effects::new();
        match fails {
            true => replica.on_storage_failure(&mut out),
            false => replica.resign(&mut out),
        }
        assert!(out.contains(&Effect::Deleted { token: Token(1), result: Err(error) }), "{out:?}");
    }
}

#[test]
fn only_a_leader_that_knows_what_is_committed_deletes() {
    let mut idle = Replica::new(key(), SELF, config());
    assert_eq!(delete(&mut idle, 1, up_to(0)), deleted(1, Err(DeletionError::NotLeader)));
    idle.on_storage_failure(&mut Effects::new());
    assert_eq!(delete(&mut idle, 2, up_to(0)), deleted(2, Err(DeletionError::Offline)));

    let mut replica = Replica::new(key(), SELF, config());
    let ends = LogEnds {
        log_start: Offset(0),
        high_watermark: Offset(3),
        flushed_end: Offset(10),
        log_end: Offset(10),
    };
    replica.restore(ends, None);
    replica.become_leader(NOW, state(1, &[1, 2]), &mut Effects::new());
    let unknown = deleted(1, Err(DeletionError::CommitsNotKnown));
    assert_eq!(delete(&mut replica, 1, up_to(2)), unknown);
    assert_eq!(delete(&mut replica, 1, DeleteUpTo::HighWatermark), unknown);
}

#[test]
fn a_log_start_that_cannot_be_written_fails_those_who_wait_for_it_alone() {
    let mut replica = leader_of_three();
    delete(&mut replica, 1, up_to(4));
    moved(&mut replica, 4);
    delete(&mut replica, 2, up_to(6));
    let mut out = Effects::new();
    replica.on_log_start_kept(&mut out);
    assert_eq!(out, deleted(2, Err(DeletionError::NotWritten)));
    assert!(WireError::from(DeletionError::NotWritten).surely_not_done());
}

fn follower() -> (Replica, FollowSession) {
    let mut replica = Replica::new(key(), SELF, config());
    let ends = LogEnds {
        log_start: Offset(0),
        high_watermark: Offset(10),
        flushed_end: Offset(10),
        log_end: Offset(10),
    };
    replica.restore(ends, None);
    let mut out = Effects::new();
    let leader = FollowerState { leader: NodeId(2), leader_epoch: LeaderEpoch(1) };
    replica.become_follower(NOW, leader, &mut out);
    let [Effect::Replication(ReplicationEffect::Open { session, .. })] = out[..] else {
        panic!("{out:?}");
    };
    (replica, session)
}

fn hears(replica: &mut Replica, session: FollowSession, log_start: u64) -> Effects {
    let mut out = Effects::new();
    let ends = LeaderEnds {
        high_watermark: Offset(10),
        log_start: Offset(log_start),
        ..LeaderEnds::default()
    };
    replica.on_replicated(NOW, session, &[], ends, &mut out);
    out
}

fn reported_start(effects: &Effects) -> Option<Offset> {
    effects.iter().find_map(|effect| match effect {
        Effect::Replication(ReplicationEffect::ReportEnd { end, .. }) => end.log_start,
        _ => None,
    })
}

#[test]
fn a_follower_says_where_its_log_starts_as_soon_as_that_moves() {
    let (mut replica, session) = follower();
    assert_eq!(reported_start(&hears(&mut replica, session, 0)), Some(Offset(0)));
    assert!(hears(&mut replica, session, 4).contains(&delete_before(4)[0]));
    assert_eq!(reported_start(&moved(&mut replica, 4)), Some(Offset(4)));
}

#[test]
fn a_follower_that_could_not_note_its_start_tries_again_with_the_next_news() {
    let (mut replica, session) = follower();
    assert!(hears(&mut replica, session, 4).contains(&delete_before(4)[0]));
    assert!(!hears(&mut replica, session, 4).contains(&delete_before(4)[0]), "it is under way");
    replica.on_log_start_kept(&mut Effects::new());
    assert!(hears(&mut replica, session, 4).contains(&delete_before(4)[0]));
}

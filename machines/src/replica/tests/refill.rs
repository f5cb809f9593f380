//! Logs that need tombstones which their leader has not got any more: `refill`.

use super::following::{ends, follow, from_disk, opened};
use super::leading::{OTHER, cluster_leader, partition};
use super::*;

/// A leader whose log ends at 10, and from which tombstones below that offset are gone.
fn lacking(below: u64, isr: &[i32]) -> Replica {
    let mut replica = cluster_leader(isr);
    replica.on_tombstones_gone(Offset(below));
    replica
}

fn open(leader: &mut Replica, log_end: u64, its_own: Option<u64>) -> Result<Opening, OpenError> {
    let leader_epoch = leader.leader_epoch().expect("it leads");
    let end =
        ReplicaEnd { log_end: Offset(log_end), flushed_end: Offset(log_end), log_start: None };
    let last_epoch = (log_end > 0).then_some(LeaderEpoch(3));
    let tombstones_gone_below = its_own.map(Offset);
    let position = Position { leader_epoch, end, last_epoch, tombstones_gone_below };
    let follower = Follower { node: OTHER, broker_epoch: BrokerEpoch(0), answers_rounds: true };
    let epoch_end = last_epoch.map(|epoch| (epoch, Offset(10)));
    leader.on_follower_opened(NOW, follower, &position, epoch_end, &mut Effects::new())
}

fn is_accepted(opening: &Result<Opening, OpenError>) -> bool {
    matches!(opening, Ok(Opening::Stream { .. }))
}

#[test]
fn who_ends_before_tombstones_that_are_gone_begins_anew_unless_it_needs_none_of_them() {
    let mut leader = lacking(6, &[1]);
    let anew = Ok(Opening::BeginAnew { log_start: Offset::ZERO });
    assert_eq!(open(&mut leader, 4, Some(0)), anew);
    assert_eq!(open(&mut leader, 4, Some(5)), anew);
    assert_eq!(leader.everyone_has(), Offset::ZERO, "it counts for nothing");
    for (log_end, its_own) in [(6, 0), (9, 0), (4, 6), (4, 9), (0, 0)] {
        let opened = open(&mut leader, log_end, Some(its_own));
        assert!(is_accepted(&opened), "{log_end}, {its_own}: {opened:?}");
    }
}

/// It may have what nobody else has.
#[test]
fn who_counts_as_in_sync_does_not_begin_anew_and_waits_until_it_does_not() {
    let mut leader = lacking(6, &[1, 2]);
    let refused = Err(OpenError::NeedsTombstones { node: OTHER });
    assert_eq!(open(&mut leader, 4, Some(0)), refused);
    leader.on_partition_state(NOW, &partition(5, 1, &[1]), &mut Effects::new());
    let anew = Ok(Opening::BeginAnew { log_start: Offset::ZERO });
    assert_eq!(open(&mut leader, 4, Some(0)), anew);
    assert!(is_accepted(&open(&mut leader, 10, Some(0))), "and is about to join");
    assert_eq!(open(&mut leader, 4, Some(0)), refused);
}

#[test]
fn between_versions_nobody_begins_anew() {
    assert!(is_accepted(&open(&mut lacking(6, &[1]), 4, None)));
    assert!(is_accepted(&open(&mut lacking(0, &[1]), 4, Some(0))));
}

#[test]
fn a_follower_drops_its_log_once_but_for_what_was_deleted() {
    let mut replica = from_disk(4, 4);
    replica.on_log_start(NOW, Offset(2), &mut Effects::new());
    let session = opened(&follow(&mut replica, 1));
    let mut out = Effects::new();
    replica.on_begin_anew(FollowSession(session.0 + 1), Offset::ZERO, &mut out);
    assert_eq!(out, [], "of another stream");
    replica.on_begin_anew(session, Offset::ZERO, &mut out);
    let reset = ReplicationEffect::ResetTo { offset: Offset(2) };
    assert_eq!(out, [Effect::Replication(reset)]);
    out.clear();
    replica.on_begin_anew(session, Offset::ZERO, &mut out);
    assert_eq!(out, [], "old news");
    replica.on_reset(Offset(2));
    replica.continue_following(NOW, &mut out);
    opened(&out);
}

/// The next leader goes by what it says, so it is said before anything comes.
#[test]
fn a_log_that_is_filled_says_what_its_leader_says_if_that_lies_behind_its_end() {
    let told = |below| LeaderEnds { tombstones_gone_below: Offset(below), ..ends(10, 0) };
    let noted = |log_end, own, leader_below| {
        let mut replica = from_disk(log_end, log_end);
        replica.on_tombstones_gone(Offset(own));
        let session = opened(&follow(&mut replica, 1));
        let stale = FollowSession(session.0 + 1);
        assert_eq!(replica.tombstones_to_note(stale, told(leader_below)), None);
        let noted = replica.tombstones_to_note(session, told(leader_below));
        replica.on_replicated(NOW, session, &[], told(leader_below), &mut Effects::new());
        assert_eq!(
            replica.tombstones_to_note(session, told(leader_below)),
            None,
            "accepted before"
        );
        noted.map(|below| below.0)
    };
    assert_eq!(noted(0, 0, 6), Some(6), "filled from the start");
    assert_eq!(noted(4, 6, 6), None, "filled on by the same, or one like it");
    assert_eq!(noted(4, 6, 5), Some(5), "by one that has more, and perhaps what is superseded");
    assert_eq!(noted(4, 6, 3), Some(4), "by one that has all that is to come");
    assert_eq!(noted(4, 6, 0), Some(4), "or does not say");
    assert_eq!(noted(4, 2, 0), None, "it lacks what it has lacked");
    assert_eq!(noted(0, 9, 6), Some(6), "what was said of a log before");
    assert_eq!(noted(9, 3, 6), None, "it has passed all that is gone");
}

/// It is another log from there on.
#[test]
fn what_is_said_of_tombstones_ends_with_the_log_that_is_cut_or_led_on() {
    let mut replica = from_disk(0, 9);
    replica.on_tombstones_gone(Offset(8));
    replica.on_truncated(Offset(7), None);
    assert_eq!(replica.tombstones_gone_below, Offset(7));
    let mut replica = from_disk(0, 9);
    replica.on_tombstones_gone(Offset(12));
    assert_eq!(replica.leader_ends().tombstones_gone_below, Offset(9));
    replica.on_partition_state(NOW, &partition(5, 0, &[1]), &mut Effects::new());
    assert_eq!(replica.tombstones_gone_below, Offset(9));
}

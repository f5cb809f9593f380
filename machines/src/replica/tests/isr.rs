//! The ISR: who leaves, who joins, and what counts while the controller is asked.

use super::leading::{OTHER, cluster_leader, partition};
use super::*;
use troupe_proto::ids::PartitionEpoch;

const LAG: u64 = ReplicaConfig::REPLICA_LAG_TIME_MAX_MS;

/// Opens a stream at `now` for a follower that has epoch 3's records; returns the stream and the effects.
fn open_at(replica: &mut Replica, now: Time, node: NodeId, end: u64) -> (FollowSession, Effects) {
    let mut out = Effects::new();
    let end = ReplicaEnd { log_end: Offset(end), flushed_end: Offset(end), log_start: None };
    let position = Position {
        leader_epoch: LeaderEpoch(5),
        end,
        last_epoch: Some(LeaderEpoch(3)),
        tombstones_gone_below: Some(Offset::ZERO),
    };
    let follower = Follower { node, broker_epoch: BrokerEpoch(0), answers_rounds: true };
    let epoch_end = Some((LeaderEpoch(3), Offset(10)));
    match replica.on_follower_opened(now, follower, &position, epoch_end, &mut out) {
        Ok(Opening::Stream { session, .. }) => (session, out),
        other => panic!("{other:?}"),
    }
}

fn report(replica: &mut Replica, now: Time, session: FollowSession, end: u64) -> Effects {
    report_ends(replica, now, session, (end, end))
}

fn report_ends(
    replica: &mut Replica,
    now: Time,
    session: FollowSession,
    ends: (u64, u64),
) -> Effects {
    let mut out = Effects::new();
    let end = ReplicaEnd { log_end: Offset(ends.0), flushed_end: Offset(ends.1), log_start: None };
    replica.on_follower_end(now, OTHER, session, end, &mut out);
    out
}

fn requests(effects: &Effects) -> Vec<AlterPartition> {
    let request = |effect: &Effect| match effect {
        Effect::Replication(ReplicationEffect::AlterPartition(request)) => Some(request.clone()),
        _ => None,
    };
    effects.iter().filter_map(request).collect()
}

fn isr_of(request: &AlterPartition) -> Vec<i32> {
    request.isr.iter().map(|member| member.node.0).collect()
}

fn answer(
    replica: &mut Replica,
    request: &AlterPartition,
    result: Result<&[i32], AlterPartitionError>,
) -> Effects {
    let mut out = Effects::new();
    let committed = result.map(|isr| CommittedIsr {
        leader_epoch: request.leader_epoch,
        partition_epoch: PartitionEpoch(request.partition_epoch.0 + 1),
        isr: isr.iter().copied().map(NodeId).collect(),
    });
    let now = NOW.plus(LAG * 2);
    replica.on_alter_partition_answer(now, request, committed, &mut out);
    out
}

fn append_at(replica: &mut Replica, now: Time, token: u64) -> Effects {
    let AppendDecision::Append(header) = replica.decide_append(NOW, &facts(1)).unwrap() else {
        panic!("new");
    };
    let (mut out, deadline) = (Effects::new(), now.plus(1_000_000));
    replica.on_appended(now, &header, Acks::All, Token(token), deadline, &mut out);
    replica.on_flushed(now, replica.log_end(), &mut out);
    out
}

fn tick(replica: &mut Replica, now: Time) -> Vec<AlterPartition> {
    let mut out = Effects::new();
    replica.on_tick(now, &mut out);
    requests(&out)
}

/// R6, R7: between one and one and a half of the allowed lag after it was last caught up.
#[test]
fn a_follower_that_stands_still_leaves_the_isr_at_the_check_after_the_lag() {
    let mut replica = cluster_leader(&[1, 2]);
    let (session, _) = open_at(&mut replica, NOW, OTHER, 10);
    assert_eq!(replica.next_tick(), Some(NOW.plus(LAG / 2)));
    let stalled = NOW.plus(LAG / 2 + 1);
    assert_eq!(tick(&mut replica, NOW.plus(LAG / 2)), vec![]);
    append_at(&mut replica, stalled, 1);
    report(&mut replica, stalled.plus(1), session, 10);
    assert_eq!(tick(&mut replica, NOW.plus(LAG)), vec![]);
    assert_eq!(tick(&mut replica, NOW.plus(LAG * 3 / 2)), vec![], "29 999 ms behind");
    let asked = tick(&mut replica, NOW.plus(LAG * 2));
    assert_eq!(isr_of(&asked[0]), [1]);
    assert_eq!((asked[0].leader_epoch, asked[0].partition_epoch.0), (LeaderEpoch(5), 0));
}

/// R6: a slow one too, even if it never stops.
#[test]
fn a_follower_that_falls_behind_further_and_further_leaves_the_isr() {
    let mut replica = cluster_leader(&[1, 2]);
    let (session, _) = open_at(&mut replica, NOW, OTHER, 10);
    let (mut end, mut now, mut asked) = (10, NOW, Vec::new());
    while asked.is_empty() && now < NOW.plus(LAG * 4) {
        for token in 0..4 {
            append_at(&mut replica, now, token);
        }
        now = now.plus(1_000);
        end += 1;
        report(&mut replica, now, session, end);
        asked = tick(&mut replica, now);
    }
    assert_eq!(asked.len(), 1, "it takes a fourth of what is written");
}

/// R6: to be always a little behind is to be in sync.
#[test]
fn a_follower_that_keeps_pace_stays_though_it_never_has_everything() {
    let mut replica = cluster_leader(&[1, 2]);
    let (session, _) = open_at(&mut replica, NOW, OTHER, 10);
    let mut now = NOW;
    for n in 0..400 {
        append_at(&mut replica, now, n);
        now = now.plus(1_000);
        if let Some(behind) = n.checked_sub(3) {
            report(&mut replica, now, session, 10 + behind);
        }
        assert_eq!(tick(&mut replica, now), vec![], "after {n} s");
    }
}

/// R6, where nothing is written for long: silence is no lag.
#[test]
fn a_follower_of_an_idle_leader_has_the_whole_lag_after_the_next_append() {
    let mut replica = cluster_leader(&[1, 2]);
    open_at(&mut replica, NOW, OTHER, 10);
    let later = NOW.plus(LAG * 100);
    append_at(&mut replica, later, 1);
    assert_eq!(tick(&mut replica, later.plus(LAG)), vec![]);
    assert_eq!(tick(&mut replica, later.plus(LAG * 2)).len(), 1);
}

/// R2.
#[test]
fn a_new_leader_gives_its_isr_the_whole_lag_and_no_more() {
    let mut replica = cluster_leader(&[1, 2]);
    assert_eq!(tick(&mut replica, NOW.plus(LAG)), vec![]);
    assert_eq!(tick(&mut replica, NOW.plus(LAG * 3 / 2)).len(), 1);
}

/// R8, and KAFKA-7128: the leader's high watermark is 0 here, which says nothing of what was committed.
#[test]
fn a_follower_joins_once_it_has_the_high_watermark_and_the_start_of_the_epoch() {
    let mut replica = cluster_leader(&[1]);
    assert_eq!(replica.high_watermark(), Offset(10));
    let (session, out) = open_at(&mut replica, NOW, OTHER, 9);
    assert_eq!(requests(&out), vec![]);
    assert_eq!(requests(&report_ends(&mut replica, NOW, session, (10, 9))), vec![], "unflushed");
    let asked = requests(&report(&mut replica, NOW, session, 10));
    assert_eq!(isr_of(&asked[0]), [1, 2]);
    assert_eq!(asked[0].isr[1].broker_epoch, Some(BrokerEpoch(0)));

    let mut replica = cluster_leader(&[1, 3]);
    assert_eq!(replica.high_watermark(), Offset::ZERO);
    let (session, out) = open_at(&mut replica, NOW, OTHER, 9);
    assert_eq!(requests(&out), vec![], "above the high watermark, below the epoch's start");
    assert_eq!(requests(&report(&mut replica, NOW, session, 10)).len(), 1);
}

/// R8, K15.
#[test]
fn a_fenced_broker_or_an_earlier_life_of_one_does_not_join() {
    for eligible in [None, Some(BrokerEpoch(1))] {
        let mut replica = cluster_leader(&[1]);
        let mut state = partition(5, 0, &[1]);
        state.eligible.remove(&OTHER);
        state.eligible.extend(eligible.map(|epoch| (OTHER, epoch)));
        replica.on_partition_state(NOW, &state, &mut Effects::new());
        let (_, out) = open_at(&mut replica, NOW, OTHER, 10);
        assert_eq!(requests(&out), vec![]);
        let mut out = Effects::new();
        replica.on_partition_state(NOW, &partition(5, 0, &[1]), &mut out);
        assert_eq!(requests(&out).len(), 1, "unfenced, without a new partition epoch");
    }
}

/// R3, R9: an expansion counts for the high watermark before it is committed, and not for the ISR.
#[test]
fn the_high_watermark_waits_for_a_replica_that_may_be_in_the_isr() {
    let mut replica = cluster_leader(&[1]);
    let (session, out) = open_at(&mut replica, NOW, OTHER, 10);
    let asked = requests(&out).remove(0);
    append_at(&mut replica, NOW, 1);
    assert_eq!(replica.high_watermark(), Offset(10));
    assert_eq!(replica.isr(), Some(&[SELF][..]));
    replica.on_follower_closed(NOW, OTHER, session, &mut Effects::new());
    assert_eq!(replica.high_watermark(), Offset(10), "its request may be committed all the same");
    answer(&mut replica, &asked, Ok(&[1, 2]));
    assert_eq!(replica.isr(), Some(&[SELF, OTHER][..]));
    assert_eq!(replica.partition_epoch(), Some(PartitionEpoch(1)));
    let (session, _) = open_at(&mut replica, NOW, OTHER, 10);
    let out = report(&mut replica, NOW, session, 11);
    assert_eq!(base_offset(&out, 1), 10);
}

/// R3: a shrink counts only once confirmed.
#[test]
fn a_shrink_takes_effect_with_the_committed_answer() {
    let mut replica = cluster_leader(&[1, 2]);
    open_at(&mut replica, NOW, OTHER, 10);
    append_at(&mut replica, NOW.plus(1), 1);
    let asked = tick(&mut replica, NOW.plus(LAG * 2)).remove(0);
    assert_eq!(tick(&mut replica, NOW.plus(LAG * 3)), vec![], "one in flight");
    assert_eq!(replica.high_watermark(), Offset(10));
    let out = answer(&mut replica, &asked, Ok(&[1]));
    assert_eq!(base_offset(&out, 1), 10);
}

/// R3: without this, a leader that never rests stays ahead of whoever wants to join.
#[test]
fn the_high_watermark_waits_for_a_caught_up_follower_that_may_join() {
    let mut replica = cluster_leader(&[1]);
    let (session, out) = open_at(&mut replica, NOW, OTHER, 10);
    let asked = requests(&out).remove(0);
    answer(&mut replica, &asked, Err(AlterPartitionError::InvalidRequest));
    append_at(&mut replica, NOW, 1);
    assert_eq!(replica.high_watermark(), Offset(10));
    replica.on_follower_closed(NOW, OTHER, session, &mut Effects::new());
    assert_eq!(replica.high_watermark(), Offset(11));
}

/// R9. The lost answer of the first try may have been a success: so the second's "stale" decides nothing.
#[test]
fn after_a_stale_partition_epoch_the_request_counts_until_the_news_comes() {
    let mut replica = cluster_leader(&[1]);
    let (session, out) = open_at(&mut replica, NOW, OTHER, 10);
    let asked = requests(&out).remove(0);
    answer(&mut replica, &asked, Err(AlterPartitionError::Unavailable));
    let retry = replica.next_tick().expect("a retry");
    assert_eq!(tick(&mut replica, retry), std::slice::from_ref(&asked), "the same request");
    answer(&mut replica, &asked, Err(AlterPartitionError::StalePartitionEpoch));
    replica.on_follower_closed(NOW, OTHER, session, &mut Effects::new());
    append_at(&mut replica, NOW.plus(1), 1);
    assert_eq!(replica.high_watermark(), Offset(10));
    let mut out = Effects::new();
    replica.on_partition_state(NOW, &partition(5, 1, &[1]), &mut out);
    assert_eq!(replica.high_watermark(), Offset(11), "it was another change");
}

/// R9: refused, so it surely is not in the ISR; and nobody asks again at once.
#[test]
fn an_ineligible_replica_is_asked_for_again_after_news_or_a_while() {
    let mut replica = cluster_leader(&[1]);
    let (session, out) = open_at(&mut replica, NOW, OTHER, 10);
    let asked = requests(&out).remove(0);
    let out = answer(&mut replica, &asked, Err(AlterPartitionError::IneligibleReplica));
    assert_eq!(requests(&out), vec![]);
    assert_eq!(requests(&report(&mut replica, NOW, session, 10)), vec![]);
    let mut after_news = replica.clone();
    let mut out = Effects::new();
    after_news.on_partition_state(NOW, &partition(5, 0, &[1]), &mut out);
    assert_eq!(requests(&out).len(), 1);
    let again = replica.next_tick().expect("the news may have been before the refusal");
    assert_eq!(tick(&mut replica, again).len(), 1);
}

/// R9, I6 of reliability.md: whoever hears that its epoch is over answers nothing more.
#[test]
fn a_fenced_leader_stops_at_once() {
    let mut replica = cluster_leader(&[1, 2]);
    let (_, out) = open_at(&mut replica, NOW, NodeId(3), 10);
    let asked = requests(&out).remove(0);
    append_at(&mut replica, NOW, 1);
    let out = answer(&mut replica, &asked, Err(AlterPartitionError::FencedLeaderEpoch));
    assert_eq!(answers(&out), vec![(1, Err(AppendError::OutcomeUnknown))]);
    assert_eq!(replica.role(), Role::Idle);
    assert_eq!(append(&mut replica, &facts(1), 2), Err(AppendError::NotLeader));
}

#[test]
fn answers_to_requests_that_news_has_settled_are_ignored() {
    let mut replica = cluster_leader(&[1]);
    let (_, out) = open_at(&mut replica, NOW, OTHER, 10);
    let asked = requests(&out).remove(0);
    let mut out = Effects::new();
    replica.on_partition_state(NOW, &partition(5, 3, &[1, 2, 3]), &mut out);
    answer(&mut replica, &asked, Ok(&[1, 2]));
    assert_eq!(replica.isr().map(<[_]>::len), Some(3));
    replica.on_partition_state(NOW, &partition(5, 2, &[1]), &mut out);
    assert_eq!(replica.isr().map(<[_]>::len), Some(3), "older news");
    assert_eq!(replica.partition_epoch(), Some(PartitionEpoch(3)));
}

/// P15, R10.
#[test]
fn a_committed_shrink_below_the_minimum_answers_what_waits() {
    let config = ReplicaConfig { min_insync_replicas: 2, ..config() };
    let mut replica = cluster_leader(&[1, 2]);
    replica.reconfigure(NOW, config, &mut Effects::new());
    open_at(&mut replica, NOW, OTHER, 10);
    append_at(&mut replica, NOW.plus(1), 1);
    let asked = tick(&mut replica, NOW.plus(LAG * 2)).remove(0);
    let out = answer(&mut replica, &asked, Ok(&[1]));
    let error = AppendError::NotEnoughReplicasAfterAppend { in_sync: 1, required: 2 };
    assert_eq!(answers(&out), vec![(1, Err(error))]);
    assert_eq!(replica.high_watermark(), Offset(10));
    let refused = append(&mut replica, &facts(1), 2);
    assert_eq!(refused, Err(AppendError::NotEnoughReplicas { in_sync: 1, required: 2 }));
}

#[test]
fn a_leader_whose_isr_nobody_manages_asks_for_nothing() {
    let mut replica = leader();
    replica.become_leader(NOW, state(1, &[1, 2]), &mut Effects::new());
    append(&mut replica, &facts(1), 1).unwrap();
    assert_eq!(tick(&mut replica, NOW.plus(LAG * 2)), vec![]);
    let shrunk = LeaderState { isr: vec![SELF], ..state(1, &[1, 2]) };
    replica.become_leader(NOW, shrunk, &mut Effects::new());
    assert_eq!(requests(&follower_at(&mut replica, 2, 1, 1)), vec![]);
}

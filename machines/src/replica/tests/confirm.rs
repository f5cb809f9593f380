//! Whether a leader still leads: only its followers know.

use super::leading::{cluster_leader, partition};
use super::*;

const LATER: Time = Time(NOW.0 + 2_000);

fn ask(replica: &mut Replica, token: u64) -> Effects {
    let mut out = Effects::new();
    replica.confirm(Token(token), LATER, &mut out);
    out
}

fn told(effects: &Effects) -> Vec<(u64, Result<(), ConfirmError>)> {
    let confirmed = |effect: &Effect| match effect {
        Effect::Confirmed { token, result } => Some((token.0, *result)),
        _ => None,
    };
    effects.iter().filter_map(confirmed).collect()
}

/// The follower's newest stream, as the leader names it.
fn session_of(replica: &Replica) -> FollowSession {
    FollowSession(replica.next_session - 1)
}

fn answer(replica: &mut Replica, node: i32, session: FollowSession, round: u64) -> Effects {
    let mut out = Effects::new();
    replica.on_follower_confirmed(NodeId(node), session, round, &mut out);
    out
}

#[test]
fn a_leader_is_confirmed_when_every_in_sync_follower_has_answered_a_round_that_began_later() {
    let mut replica = cluster_leader(&[1, 2, 3]);
    let sessions = [2, 3].map(|node| {
        follower_at(&mut replica, node, 10, 10);
        session_of(&replica)
    });
    assert!(told(&ask(&mut replica, 1)).is_empty());
    let first = replica.round();
    assert!(told(&answer(&mut replica, 2, sessions[0], first)).is_empty());
    // It may be that the second has been asked, and the first not: a round of its own.
    assert!(told(&ask(&mut replica, 2)).is_empty());
    assert_eq!(replica.round(), first, "one round at a time");
    assert_eq!(told(&answer(&mut replica, 3, sessions[1], first)), [(1, Ok(()))]);
    assert_eq!(replica.round(), first + 1);
    assert!(told(&answer(&mut replica, 3, sessions[1], first + 1)).is_empty());
    assert!(
        told(&answer(&mut replica, 2, FollowSession(99), first + 1)).is_empty(),
        "no such stream"
    );
    assert_eq!(told(&answer(&mut replica, 2, sessions[0], first + 1)), [(2, Ok(()))]);
}

#[test]
fn a_follower_that_comes_back_has_to_answer_anew_and_one_that_left_the_isr_need_not() {
    let mut replica = cluster_leader(&[1, 2, 3]);
    follower_at(&mut replica, 2, 10, 10);
    let second = session_of(&replica);
    ask(&mut replica, 1);
    let round = replica.round();
    answer(&mut replica, 2, second, round);
    assert!(told(&follower_at(&mut replica, 2, 10, 10)).is_empty(), "another stream");
    let second = session_of(&replica);
    assert!(told(&answer(&mut replica, 2, second, round)).is_empty(), "the third has not");
    let mut out = Effects::new();
    replica.on_partition_state(NOW, &partition(5, 1, &[1, 2]), &mut out);
    assert_eq!(told(&out), [(1, Ok(()))]);
}

#[test]
fn without_an_answer_nobody_knows_and_who_was_replaced_says_so() {
    let mut replica = cluster_leader(&[1, 2, 3]);
    follower_at(&mut replica, 2, 10, 10);
    ask(&mut replica, 1);
    assert_eq!(replica.next_tick().map(|at| at <= LATER), Some(true));
    let mut out = Effects::new();
    replica.on_tick(LATER, &mut out);
    assert_eq!(told(&out), [(1, Err(ConfirmError::TimedOut))]);
    ask(&mut replica, 2);
    let mut out = Effects::new();
    let deposed = PartitionState { leader: Some(NodeId(2)), ..partition(6, 2, &[2, 3]) };
    replica.on_partition_state(NOW, &deposed, &mut out);
    assert_eq!(told(&out), [(2, Err(ConfirmError::NotLeader))]);
    assert_eq!(told(&ask(&mut replica, 3)), [(3, Err(ConfirmError::NotLeader))]);
}

/// KIP-966: others than the ISR may be elected then.
#[test]
fn with_too_few_in_sync_nothing_is_confirmed_and_a_sole_replica_always_leads() {
    let two = ReplicaConfig { min_insync_replicas: 2, ..config() };
    let mut replica = cluster_leader(&[1]);
    assert_eq!(told(&ask(&mut replica, 1)), [(1, Ok(()))], "nobody else may be elected");
    replica.reconfigure(NOW, two, &mut Effects::new());
    let few = ConfirmError::TooFew { in_sync: 1, required: 2 };
    assert_eq!(told(&ask(&mut replica, 2)), [(2, Err(few))]);
    assert_eq!(told(&ask(&mut leader(), 3)), [(3, Ok(()))]);
}

#[test]
fn a_follower_answers_for_the_stream_that_it_has() {
    let mut replica = Replica::new(key(), SELF, config());
    let leads = FollowerState { leader: NodeId(2), leader_epoch: LeaderEpoch(4) };
    let mut out = Effects::new();
    replica.become_follower(NOW, leads, &mut out);
    let session = session_of(&replica);
    let asked = |replica: &mut Replica, session| {
        let mut out = Effects::new();
        replica.on_asked(session, 7, &mut out);
        out.len()
    };
    assert_eq!(asked(&mut replica, session), 1);
    assert_eq!(asked(&mut replica, FollowSession(99)), 0);
    replica.on_partition_state(NOW, &partition(5, 1, &[1, 3]), &mut Effects::new());
    assert_eq!(asked(&mut replica, session), 0, "it leads now, and never answers for the past");
}

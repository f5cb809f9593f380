//! Several voters, each with its own log and listener, and wires between them that can be cut (K1–K9).
#![allow(clippy::unwrap_used, reason = "tests")]

mod damage;
mod lab;

use lab::{CLUSTER, Lab, topic, within};
use std::time::Duration;
use troupe_controller::{Controller, ControllerConfig, ControllerStartError, QuorumTimings, Voter};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1::raft_service_client::RaftServiceClient;
use troupe_proto::internal::v1::{AppendEntriesRequest, RaftCaller, RequestVoteRequest};

fn names(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("{prefix}-{n}"))
}

/// K6, K7.
#[actix::test]
async fn voters_elect_one_of_them_and_the_others_name_it_and_hold_the_image() {
    let lab = Lab::started().await;
    lab.create(names("topic", 5)).await;
    let image = lab.agreed().await;
    assert_eq!((image.cluster_id(), image.topic_count()), (Some(CLUSTER), 5));
    let leader = lab.leader().await;
    for id in lab.members.keys().filter(|id| **id != leader) {
        let refused = lab.handle(*id).create_topic(topic("elsewhere")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotController);
        assert!(refused.surely_not_done());
    }
    let standby = lab.members.keys().copied().find(|id| *id != leader).unwrap();
    lab.handle(standby).kill().await.unwrap();
    assert_eq!(*lab.agreed().await.topic("topic-0").unwrap(), *image.topic("topic-0").unwrap());
    lab.stop_all().await;
}

/// K3, K6: a majority has it, so it stays.
#[actix::test]
async fn what_a_killed_leader_has_answered_is_there_under_the_next() {
    let mut lab = Lab::started().await;
    lab.create(names("before", 10)).await;
    let leader = lab.leader().await;
    lab.kill(leader).await;
    lab.create(names("after", 5)).await;
    assert_ne!(lab.leader().await, leader);
    assert_eq!(lab.agreed().await.topic_count(), 15);
    lab.start(lab.config(leader)).await;
    within(lab.members[&leader].await_cluster()).await.unwrap();
    assert_eq!(lab.agreed().await.topic_count(), 15);
    lab.create(names("again", 1)).await;
    assert_eq!(lab.agreed().await.topic_count(), 16);
    lab.stop_all().await;
}

/// K9.
#[actix::test]
async fn a_voter_far_behind_catches_up_by_snapshot() {
    let mut lab = Lab::new();
    let small = |config: ControllerConfig| ControllerConfig { snapshot_entries: 10, ..config };
    for id in 1..=3 {
        lab.start(small(lab.config(id))).await;
    }
    let leader = lab.leader().await;
    let behind = if leader == 1 { 2 } else { 1 };
    lab.create(names("early", 1)).await;
    lab.kill(behind).await;
    lab.create(names("topic", 250)).await;
    lab.start(small(lab.config(behind))).await;
    assert_eq!(lab.agreed().await.topic_count(), 251);
    lab.create(names("late", 1)).await;
    assert_eq!(lab.agreed().await.topic_count(), 252);
    lab.stop_all().await;
}

/// K3: what only a minority has is not committed, and is dropped.
#[actix::test]
async fn a_leader_that_is_cut_off_answers_nothing_as_committed() {
    let lab = Lab::started().await;
    lab.create(names("before", 1)).await;
    let old = lab.leader().await;
    lab.connect(old, false);
    let isolated = lab.handle(old).clone();
    let asked = actix_rt::spawn(async move { isolated.create_topic(topic("isolated")).await });
    lab.create_among(names("after", 1), |id| id != old).await;
    assert!(lab.handle(old).image().borrow().topic("isolated").is_none());
    lab.connect(old, true);
    let refused = within(asked).await.unwrap().unwrap_err();
    assert!(refused.is_retriable(), "{refused}");
    let image = lab.agreed().await;
    assert!(image.topic("isolated").is_none());
    assert!(image.topic("before-0").is_some() && image.topic("after-0").is_some());
    lab.stop_all().await;
}

/// Nobody else may take its word for how the cluster is.
#[actix::test]
async fn a_leader_that_nobody_answers_knows_that_it_leads_nobody_and_leads_again_when_they_do() {
    let lab = Lab::started().await;
    lab.create(names("before", 1)).await;
    let old = lab.leader().await;
    (1..=3).for_each(|id| lab.connect(id, false));
    let mut leadership = lab.handle(old).leadership();
    let alone = within(leadership.wait_for(|leadership| !leadership.here)).await.unwrap();
    assert_eq!(alone.leader, None);
    drop(alone);
    (1..=3).for_each(|id| lab.connect(id, true));
    lab.create(names("after", 1)).await;
    assert_eq!(lab.agreed().await.topic_count(), 2);
    lab.stop_all().await;
}

/// Its heartbeats are heard all the time, so nobody would stand against it by himself. One that cannot reach the leader
/// has the other's word that it is there; when both cannot, they are a majority, and the leader is one of the past.
#[actix::test]
async fn a_leader_is_followed_at_once_when_a_majority_finds_it_gone_and_not_before() {
    let timings = QuorumTimings {
        heartbeat: Duration::from_millis(80),
        election_min: Duration::from_secs(5),
        election_max: Duration::from_secs(6),
    };
    let mut lab = Lab::new();
    for id in 1..=3 {
        lab.start(ControllerConfig { timings, ..lab.config(id) }).await;
    }
    // Until all follow one: at the start each stands for election.
    lab.create(names("first", 1)).await;
    lab.agreed().await;
    let old = lab.leader().await;
    let term = lab.handle(old).leadership().borrow().term;
    let others: Vec<i32> = (1..=3).filter(|id| *id != old).collect();
    lab.refuse(others[0], old);
    lab.create(names("before", 50)).await;
    assert_eq!(lab.leader().await, old);
    assert_eq!(lab.handle(old).leadership().borrow().term, term, "nobody has stood for election");
    lab.refuse(others[1], old);
    let next = lab.leader_among(|id| id != old).await;
    assert!(lab.handle(next).leadership().borrow().term > term);
    lab.create_among(names("after", 1), |id| id != old).await;
    assert!(lab.handle(next).image().borrow().topic("before-49").is_some());
    lab.stop_all().await;
}

/// The others hear its heartbeats, and would wait for it forever.
#[actix::test]
async fn a_leader_that_hears_nobody_makes_room_for_another() {
    let lab = Lab::started().await;
    lab.create(names("before", 1)).await;
    let old = lab.leader().await;
    lab.deafen(old);
    let next = lab.leader_among(|id| id != old).await;
    lab.create_among(names("after", 1), |id| id != old).await;
    let mut leadership = lab.handle(old).leadership();
    drop(within(leadership.wait_for(|leadership| !leadership.here)).await.unwrap());
    lab.connect(old, true);
    assert_ne!(next, old);
    assert_eq!(lab.agreed().await.topic_count(), 2);
    lab.stop_all().await;
}

#[actix::test]
async fn a_leader_that_stops_in_good_order_has_another_take_over() {
    let mut lab = Lab::started().await;
    lab.create(names("before", 1)).await;
    let leader = lab.leader().await;
    let term = lab.handle(leader).leadership().borrow().term;
    lab.stop(leader).await;
    let next = lab.leader().await;
    assert_ne!(next, leader);
    assert!(lab.handle(next).leadership().borrow().term > term);
    lab.create(names("after", 1)).await;
    assert_eq!(lab.agreed().await.topic_count(), 2);
    lab.stop_all().await;
}

/// K2.
#[actix::test]
async fn a_voter_of_another_cluster_is_refused_and_told_why() {
    let mut lab = Lab::new();
    lab.start(lab.config(1)).await;
    lab.start(lab.config(2)).await;
    let stranger = ControllerConfig { cluster_id: Some("elsewhere".into()), ..lab.config(3) };
    lab.start(stranger).await;
    let refused = within(lab.members[&3].await_cluster()).await.unwrap_err();
    let ControllerStartError::Refused { error, .. } = refused else { panic!("{refused}") };
    assert_eq!(error.code, ErrorCode::InconsistentClusterId);
    assert_eq!(error.facts["expected"], CLUSTER);
    for id in 1..=2 {
        within(lab.members[&id].await_cluster()).await.unwrap();
    }
    lab.create(names("topic", 1)).await;
    lab.stop_all().await;
}

#[actix::test]
async fn a_voter_with_another_list_of_voters_is_refused_and_told_why() {
    let mut lab = Lab::new();
    lab.start(lab.config(1)).await;
    lab.start(lab.config(2)).await;
    let mut odd = lab.config(3);
    odd.voters.push(Voter { node_id: NodeId(4), address: "127.0.0.1:1".into() });
    lab.start(odd).await;
    let refused = within(lab.members[&3].await_cluster()).await.unwrap_err();
    let ControllerStartError::Refused { error, .. } = refused else { panic!("{refused}") };
    assert_eq!(error.code, ErrorCode::InconsistentVoterSet);
    assert_eq!(error.facts["actual"], "[1, 2, 3, 4]");
    for id in 1..=2 {
        within(lab.members[&id].await_cluster()).await.unwrap();
    }
    lab.create(names("topic", 1)).await;
    assert_eq!(lab.handle(3).image().borrow().topic_count(), 0);
    lab.stop_all().await;
}

/// K1, K2.
#[actix::test]
async fn a_directory_remembers_its_quorum() {
    let mut lab = Lab::started().await;
    lab.stop(3).await;
    let other = ControllerConfig { cluster_id: Some("elsewhere".into()), ..lab.config(3) };
    let refused = Controller::join(other).await.err();
    assert!(matches!(refused, Some(ControllerStartError::WrongCluster { .. })), "{refused:?}");
    let other = ControllerConfig { node_id: NodeId(2), ..lab.config(3) };
    let refused = Controller::join(other).await.err();
    assert!(matches!(refused, Some(ControllerStartError::WrongNode { .. })), "{refused:?}");
    let alone = ControllerConfig { voters: Vec::new(), ..lab.config(3) };
    let refused = Controller::join(alone).await.err();
    assert!(matches!(refused, Some(ControllerStartError::WrongVoters { .. })), "{refused:?}");
    let nameless = ControllerConfig { cluster_id: None, ..lab.config(3) };
    let refused = Controller::join(nameless).await.err();
    assert!(matches!(refused, Some(ControllerStartError::NoClusterId)), "{refused:?}");
    let outsider = ControllerConfig { node_id: NodeId(9), ..lab.config(3) };
    let refused = Controller::join(outsider).await.err();
    assert!(matches!(refused, Some(ControllerStartError::Voters(_))), "{refused:?}");
    lab.start(lab.config(3)).await;
    within(lab.members[&3].await_cluster()).await.unwrap();
    lab.stop_all().await;
}

#[actix::test]
async fn a_single_voters_log_does_not_become_a_quorums() {
    let lab = Lab::new();
    let alone = ControllerConfig { voters: Vec::new(), ..lab.config(1) };
    let handle = Controller::start(alone).await.unwrap();
    handle.shutdown().await.unwrap();
    let refused = Controller::join(lab.config(1)).await.err();
    assert!(matches!(refused, Some(ControllerStartError::WrongVoters { .. })), "{refused:?}");
}

#[actix::test]
async fn who_is_no_voter_is_not_listened_to_and_nonsense_harms_nobody() {
    let lab = Lab::started().await;
    let mut client =
        RaftServiceClient::connect(format!("http://{}", lab.address(1))).await.unwrap();
    let caller = RaftCaller {
        cluster_id: CLUSTER.into(),
        sender_id: 2,
        target_id: 1,
        voter_ids: vec![1, 2, 3],
    };
    let changed = |change: fn(&mut RaftCaller)| {
        let mut caller = caller.clone();
        change(&mut caller);
        Some(caller)
    };
    let cases = [
        (None, ErrorCode::InvalidRequest),
        (changed(|caller| caller.cluster_id = "x".into()), ErrorCode::InconsistentClusterId),
        (changed(|caller| caller.voter_ids = vec![1, 2]), ErrorCode::InconsistentVoterSet),
        (changed(|caller| caller.target_id = 3), ErrorCode::InconsistentVoterSet),
        (changed(|caller| caller.sender_id = 7), ErrorCode::InvalidRequest),
        (changed(|caller| caller.sender_id = 1), ErrorCode::InvalidRequest),
        (changed(|_| {}), ErrorCode::InvalidRequest),
    ];
    for (caller, code) in cases {
        let message = bytes::Bytes::from_static(b"\xff\xff nonsense");
        let request = AppendEntriesRequest { caller: caller.clone(), message: message.clone() };
        let refused = client.append_entries(request).await.unwrap_err();
        assert_eq!(Error::from(refused).code, code, "{caller:?}");
        let request = RequestVoteRequest { caller, message };
        assert_eq!(Error::from(client.request_vote(request).await.unwrap_err()).code, code);
    }
    lab.create(names("topic", 1)).await;
    assert_eq!(lab.agreed().await.topic_count(), 1);
    lab.stop_all().await;
}

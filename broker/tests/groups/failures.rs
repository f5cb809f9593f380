//! The coordinator's actor dies, its log does not answer, its node stops.

use crate::fixture::{Fixture, TOPIC, soon, start};
use std::time::Duration;
use troupe_proto::chaos::v1alpha1 as chaos;
use troupe_proto::chaos::v1alpha1::KillMode;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::error::ErrorCode;

#[tokio::test(flavor = "multi_thread")]
async fn members_and_offsets_survive_the_death_of_the_coordinators_actor() {
    let node = Fixture::start().await;
    node.create(TOPIC, 3).await;
    let mut member = node.run_member(start("survivors")).await.unwrap();
    member.holds(3).await;
    for (round, mode) in (0..).zip([KillMode::Stop, KillMode::Panic, KillMode::Stop]) {
        node.commit("survivors", Some(&member), &[(1, round)]).await.unwrap()[0].clone().unwrap();
        let before = node.describe("survivors").await;
        assert_eq!(i64::from(node.kill("survivors", mode).await.unwrap()), round + 1);

        assert!(member.ending().await.is_retriable());
        let (epoch, held) = (member.epoch, member.held.clone());
        member = node.run_member(member.again("survivors")).await.unwrap();
        assert_eq!((member.epoch, &member.held), (epoch, &held));
        let after = node.describe("survivors").await;
        assert_eq!(after.group_epoch, before.group_epoch, "nobody was rebalanced");
        assert_eq!(node.offsets("survivors").await, [(1, round)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_survive_a_restart_of_the_node() {
    let node = Fixture::start().await;
    node.create(TOPIC, 2).await;
    for offset in 1..=50 {
        let committed = node.commit("kept", None, &[(0, offset), (1, 2 * offset)]).await.unwrap();
        assert_eq!(committed, [Ok(()), Ok(())]);
    }
    let node = node.restart().await;
    assert_eq!(node.offsets("kept").await, [(0, 50), (1, 100)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_sends_its_members_elsewhere() {
    let mut node = Fixture::start().await;
    node.create(TOPIC, 1).await;
    let mut member = node.run_member(start("stopped")).await.unwrap();
    let stopped = node.stop();
    assert_eq!(member.ending().await.code, ErrorCode::ShuttingDown);
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_panics_in_a_minute_end_a_coordinator_until_somebody_looks() {
    let node = Fixture::start().await;
    node.create(TOPIC, 1).await;
    node.commit("sick", None, &[(0, 7)]).await.unwrap()[0].clone().unwrap();
    for _ in 0..2 {
        node.kill("sick", KillMode::Panic).await.unwrap();
    }
    let gone = node.kill("sick", KillMode::Panic).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::CoordinatorNotAvailable);
    assert!(gone.message.contains("panicked"), "{gone}");
    assert_eq!(node.coordinator("sick").await.state(), chaos::ActorState::Offline);

    node.kill("sick", KillMode::Stop).await.unwrap();
    assert_eq!(node.coordinator("sick").await.state(), chaos::ActorState::Running);
    assert_eq!(node.offsets("sick").await, [(0, 7)]);
}

/// The append of a commit is done, but the log's answer gets lost: nobody says that it was not done, and what the
/// next coordinator answers is what the log holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_append_is_not_answered_is_neither_confirmed_nor_denied() {
    let node = Fixture::start().await;
    node.create(TOPIC, 1).await;
    node.commit("doubt", None, &[(0, 1)]).await.unwrap()[0].clone().unwrap();
    let partition = node.partition_of("doubt").await;
    let restarts = node.coordinator("doubt").await.restarts;
    let log = node.actor(&format!("/partition/__consumer_offsets/{partition}")).await.address;
    let fault = chaos::InjectFaultRequest {
        address: log,
        fault: chaos::Fault::DropReplies.into(),
        duration_ms: 2_000,
        probability: 1.0,
        ..Default::default()
    };
    let mut client = ChaosServiceClient::new(node.channel.clone());
    let fault = tokio::spawn(async move { client.inject_fault(fault).await.unwrap() });
    let mut offset = 1;
    let doubted = loop {
        offset += 1;
        match node.commit("doubt", None, &[(0, offset)]).await {
            Ok(committed) => assert_eq!(committed, [Ok(())], "the fault has not begun"),
            Err(error) => break error,
        }
    };
    assert_eq!(doubted.code, ErrorCode::OutcomeUnknown, "{doubted}");
    fault.await.unwrap();
    assert_eq!(node.offsets("doubt").await, [(0, offset)]);
    assert!(node.coordinator("doubt").await.restarts > restarts);
    node.commit("doubt", None, &[(0, 9_999)]).await.unwrap()[0].clone().unwrap();
    assert_eq!(node.offsets("doubt").await, [(0, 9_999)]);
}

/// The log's own actor dies: the coordinator's ends with it, and both come back.
#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_log_costs_members_nothing_but_their_streams() {
    let node = Fixture::start().await;
    node.create(TOPIC, 2).await;
    let mut member = node.run_member(start("under")).await.unwrap();
    member.holds(2).await;
    node.commit("under", Some(&member), &[(0, 5)]).await.unwrap()[0].clone().unwrap();
    let partition = node.partition_of("under").await;
    let log = node.actor(&format!("/partition/__consumer_offsets/{partition}")).await.address;
    let request = chaos::KillActorRequest { address: log, ..Default::default() };
    ChaosServiceClient::new(node.channel.clone()).kill_actor(request).await.unwrap();
    assert!(member.ending().await.is_retriable());
    let (epoch, held) = (member.epoch, member.held.clone());
    let member = node.run_member(member.again("under")).await.unwrap();
    assert_eq!((member.epoch, member.held), (epoch, held));
    assert_eq!(node.offsets("under").await, [(0, 5)]);
}

/// Who coordinated before, and does not know that another does now, has nobody who confirms it: what it would refuse by
/// is past.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_by_a_coordinator_that_cannot_know_whether_it_still_is_one() {
    let node = Fixture::start().await;
    node.create(TOPIC, 1).await;
    let stranger = node.run_member(start("elsewhere")).await.unwrap();
    node.commit("asked", None, &[(0, 1)]).await.unwrap()[0].clone().unwrap();
    let refused = node.commit("asked", Some(&stranger), &[(0, 2)]).await.unwrap();
    assert_eq!(refused[0].as_ref().unwrap_err().code, ErrorCode::UnknownMember);

    let log = format!("/partition/__consumer_offsets/{}", node.partition_of("asked").await);
    let pause = chaos::InjectFaultRequest {
        address: node.actor(&log).await.address,
        fault: chaos::Fault::Pause.into(),
        duration_ms: 10_000,
        probability: 1.0,
        ..Default::default()
    };
    let mut client = ChaosServiceClient::new(node.channel.clone());
    tokio::spawn(async move { client.inject_fault(pause).await.unwrap() });
    let paused = async { while node.actor(&log).await.state() != chaos::ActorState::Paused {} };
    soon("a pause", paused).await;
    let asked = node.commit("asked", Some(&stranger), &[(0, 2)]);
    if let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), asked).await {
        let error = answer.unwrap_err();
        assert!(error.code.is_retriable(), "{error}");
    }
}

//! What an answer of Settle means: the commit, and not only that somebody has heard of it.

use crate::fixture::{Fixture, PATIENCE, ack, nack, options, value_of};
use crate::pulls::pull;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::Request;
use troupe_proto::admin::v1::DeleteTopicRequest;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::chaos::v1alpha1 as chaos;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::log::v1::FindCoordinatorRequest;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::v1::*;

async fn start() -> Fixture {
    Fixture::start_with(|config| config.chaos_enable = true).await
}

async fn actor(node: &Fixture, suffix: &str) -> chaos::Actor {
    let mut chaos = ChaosServiceClient::new(node.channel.clone());
    let listed = chaos.list_actors(chaos::ListActorsRequest::default()).await.unwrap();
    let mut actors = listed.into_inner().actors.into_iter();
    actors.find(|actor| actor.address.ends_with(suffix)).unwrap()
}

async fn place_of(node: &Fixture, group: &str) -> String {
    let request = FindCoordinatorRequest { group_id: group.to_owned() };
    let mut groups = GroupServiceClient::new(node.channel.clone());
    let partition = groups.find_coordinator(request).await.unwrap().into_inner().partition;
    format!("/__consumer_offsets/{partition}")
}

/// The log of the group takes nothing for some seconds, until this has ended.
async fn pause_log(node: &Fixture, group: &str) -> JoinHandle<()> {
    let suffix = format!("/partition{}", place_of(node, group).await);
    let request = chaos::InjectFaultRequest {
        address: actor(node, &suffix).await.address,
        fault: chaos::Fault::Pause.into(),
        duration_ms: 5_000,
        ..Default::default()
    };
    let mut client = ChaosServiceClient::new(node.channel.clone());
    let paused = tokio::spawn(async move { drop(client.inject_fault(request).await) });
    let begun = async {
        while actor(node, &suffix).await.state() != chaos::ActorState::Paused {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("the fault begins");
    paused
}

async fn settle_within(
    node: &Fixture,
    time: Duration,
    settlements: Vec<Settlement>,
) -> Vec<SettleOutcome> {
    let mut request = Request::new(SettleRequest { ack_ids: Vec::new(), settlements });
    request.set_timeout(time);
    let answer = node.bus().settle(request).await.unwrap().into_inner();
    answer.results.iter().map(SettleResult::outcome).collect()
}

/// Until the node knows what became of it.
async fn settled(node: &Fixture, deliveries: &[Delivery]) -> Vec<SettleOutcome> {
    loop {
        let outcomes = node.settle(deliveries.iter().map(ack).collect()).await;
        if !outcomes.contains(&SettleOutcome::NotCommitted) {
            return outcomes;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settle_accepts_what_is_committed_and_that_never_comes_back() {
    let node = start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..4).await;
    let taken = pull(&node, options("t", "g"), 9).await;
    assert_eq!(node.settle(vec![ack(&taken[0])]).await, [SettleOutcome::Accepted]);
    assert_eq!(node.committed("g").await, [(0, 1)]);

    let paused = pause_log(&node, "g").await;
    let asked = vec![ack(&taken[0]), ack(&taken[1]), ack(&taken[3]), nack(&taken[2])];
    let outcomes = settle_within(&node, Duration::from_secs(1), asked).await;
    // What was committed before, what is not, what cannot be yet, and what is never stored.
    let expected = [
        SettleOutcome::Accepted,
        SettleOutcome::NotCommitted,
        SettleOutcome::Accepted,
        SettleOutcome::Accepted,
    ];
    assert_eq!(outcomes, expected);
    paused.await.unwrap();
    assert_eq!(settled(&node, &taken[1..2]).await, [SettleOutcome::Accepted]);
    let node = node.kill_and_start().await;
    let again: Vec<_> = pull(&node, options("t", "g"), 9).await.iter().map(value_of).collect();
    assert_eq!(again, ["2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_whose_coordinator_dies_with_its_commit_is_accepted_when_the_next_has_it() {
    let node = start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..2).await;
    let taken = pull(&node, options("t", "g"), 9).await;
    let coordinator = format!("/group-coordinator{}", place_of(&node, "g").await);
    let kill = chaos::KillActorRequest {
        address: actor(&node, &coordinator).await.address,
        ..Default::default()
    };
    let paused = pause_log(&node, "g").await;
    let mut client = ChaosServiceClient::new(node.channel.clone());
    let killed = async {
        // The next one reads the log, and that stands still.
        let killing = tokio::spawn(async move { drop(client.kill_actor(kill).await) });
        while actor(&node, &coordinator).await.state() == chaos::ActorState::Running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        paused.await.unwrap();
        killing.await.unwrap();
    };
    let (outcomes, ()) = tokio::join!(settled(&node, &taken), killed);
    assert_eq!(outcomes, [SettleOutcome::Accepted; 2]);
    assert_eq!(node.committed("g").await, [(0, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_commit_any_more_is_not_accepted() {
    let node = start().await;
    node.create("t", 1).await;
    node.publish("t", 0, 0..2).await;
    let mut subscriber = node.subscribe(options("t", "streamed")).await;
    let streamed = subscriber.take(2).await;
    let pulled = pull(&node, options("t", "pulled"), 9).await;
    let request = DeleteTopicRequest { name: "t".into(), ..Default::default() };
    TopicServiceClient::new(node.channel.clone()).delete_topic(request).await.unwrap();
    let outcomes = node.settle(pulled.iter().map(ack).collect()).await;
    assert_eq!(outcomes, [SettleOutcome::LeaseLost; 2]);
    subscriber.ack(&streamed).await;
    assert_eq!(subscriber.outcomes(2).await, [SettleOutcome::LeaseLost; 2]);
}

//! Sessions of brokers, over real connections: who is heard, who is fenced, and what they are told.

use super::brokers::{
    NEVER, Node, code, is_fenced, lab, lab_with, patient, placed, registration, until_fenced,
    within,
};
use super::{image, topic};
use crate::{SessionTimings, Upkeep};
use std::sync::Arc;
use std::time::Duration;
use troupe_machines::cluster::{
    AlterPartition, Arrival, ClusterImage, Delta, IsrMember, RegisterBroker,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{BrokerEpoch, NodeId, PartitionId};
use troupe_proto::internal::v1 as pb;

/// K12, K13.
#[actix::test]
async fn a_broker_is_unfenced_once_it_knows_of_its_own_registration() {
    let lab = lab(patient()).await;
    let mut node = Node::registered(&lab, 7).await;
    assert!(is_fenced(&lab, 7));
    let early = pb::BrokerSessionRequest { metadata_offset: node.epoch, ..node.heartbeat() };
    let first = node.open_with(early.clone()).await.unwrap();
    assert!(first.fenced);
    assert_eq!(first.session_timeout_ms, NEVER.as_millis() as u32);
    assert_eq!(first.heartbeat_interval_ms, NEVER.as_millis() as u32);
    node.send(early).await;
    assert!(node.next().await.unwrap().fenced, "every heartbeat is answered");
    node.send(node.heartbeat()).await;
    node.until(|answer| !answer.fenced).await;
    assert!(!is_fenced(&lab, 7));
    lab.handle.shutdown().await.unwrap();
}

/// K12.
#[actix::test]
async fn two_processes_with_one_id_are_one_too_many_as_long_as_the_first_is_heard() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    let mut client = lab.client.clone();
    let duplicate = registration(7, 2, "elsewhere:9092".into());
    let refused = client.register_broker(duplicate.clone()).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::DuplicateBroker);
    let again =
        registration(7, 1, node.listener.as_ref().unwrap().local_addr().unwrap().to_string());
    let same = client.register_broker(again).await.unwrap().into_inner();
    assert_eq!(same.broker_epoch, node.epoch);
    node.listener = None;
    node.hang_up();
    until_fenced(&lab, 7).await;
    let next = client.register_broker(duplicate).await.unwrap().into_inner();
    assert!(next.broker_epoch > node.epoch);
    lab.handle.shutdown().await.unwrap();
}

/// K20.
#[actix::test]
async fn a_silent_broker_is_fenced_and_one_that_is_heard_is_not() {
    let timeout = Duration::from_millis(1000);
    let lab = lab(SessionTimings { timeout, ..patient() }).await;
    let mut heard = Node::active(&lab, 7).await;
    let mut silent = Node::active(&lab, 8).await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let fenced = async {
        silent.until(|answer| answer.fenced).await;
        stop.send(()).unwrap();
    };
    let beating = async {
        while tokio::time::timeout(timeout / 10, &mut stopped).await.is_err() {
            heard.send(heard.heartbeat()).await;
            heard.next().await.unwrap();
        }
    };
    futures::join!(fenced, beating);
    assert!(is_fenced(&lab, 8) && !is_fenced(&lab, 7));
    silent.send(silent.heartbeat()).await;
    silent.until(|answer| !answer.fenced).await;
    lab.handle.shutdown().await.unwrap();
}

/// K20: a broken stream and a closed port: the process is gone.
#[actix::test]
async fn a_broker_whose_process_is_gone_is_fenced_at_once() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    node.listener = None;
    node.hang_up();
    until_fenced(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
}

/// K20: a port that is open proves nothing, and neither does a stream that broke.
#[actix::test]
async fn a_broker_that_does_not_come_back_in_time_is_fenced() {
    let reconnect_grace = Duration::from_millis(300);
    let lab = lab(SessionTimings { reconnect_grace, ..patient() }).await;
    let mut node = Node::active(&lab, 7).await;
    node.hang_up();
    until_fenced(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
}

#[actix::test]
async fn a_broker_that_comes_back_in_time_stays_unfenced() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    let before = image(&lab.handle);
    for _ in 0..3 {
        node.hang_up();
        assert!(!node.open().await.unwrap().fenced);
    }
    let (to, from) = (node.to.take(), node.from.take());
    assert!(!node.open().await.unwrap().fenced, "while the stream before it is open");
    drop((to, from));
    node.send(node.heartbeat()).await;
    assert!(!node.next().await.unwrap().fenced, "the end of the old one is not the end of this");
    assert_eq!(image(&lab.handle).next_offset(), before.next_offset(), "nothing was decided");
    lab.handle.shutdown().await.unwrap();
}

/// K21.
#[actix::test]
async fn a_session_ends_when_its_broker_registers_anew() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    let arrival = Arrival::default();
    let request = RegisterBroker {
        node_id: NodeId(7),
        incarnation: [9; 16],
        endpoint: "elsewhere:9092".into(),
        ..Default::default()
    };
    lab.handle.register_broker(request, arrival).await.unwrap();
    assert_eq!(node.end().await.code, ErrorCode::StaleBrokerEpoch);
    assert_eq!(code(node.open().await.unwrap_err()), ErrorCode::StaleBrokerEpoch);
    lab.handle.unregister_broker(NodeId(7)).await.unwrap();
    assert_eq!(code(node.open().await.unwrap_err()), ErrorCode::BrokerNotRegistered);
    lab.handle.shutdown().await.unwrap();
}

/// The new one has heard nobody, and holds that against nobody but those whose process is gone.
#[actix::test]
async fn a_controller_that_takes_over_fences_only_who_is_gone() {
    let lab = lab(patient()).await;
    let mut back = Node::active(&lab, 7).await;
    let mut gone = Node::active(&lab, 8).await;
    let slow = Node::active(&lab, 9).await;
    gone.listener = None;
    lab.log.lead(false, 2);
    assert_eq!(back.end().await.code, ErrorCode::NotController);
    assert_eq!(gone.end().await.code, ErrorCode::NotController);
    lab.log.lead(true, 3);
    lab.handle.await_active_at_last().await;
    assert!(!back.open().await.unwrap().fenced);
    until_fenced(&lab, 8).await;
    assert!(!is_fenced(&lab, 7));
    assert!(!is_fenced(&lab, 9), "it accepts connections, and has its time yet");
    drop(slow);
    lab.handle.shutdown().await.unwrap();
}

/// Kill means forget: everybody has a fresh session.
#[actix::test]
async fn a_killed_session_actor_is_rebuilt_and_brokers_come_back() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.endpoint.sessions().kill().await.unwrap();
    assert_eq!(node.end().await.code, ErrorCode::NotController);
    assert!(!node.open().await.unwrap().fenced);
    node.send(node.heartbeat()).await;
    assert!(!node.next().await.unwrap().fenced);
    node.listener = None;
    node.hang_up();
    until_fenced(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
}

#[actix::test]
async fn a_controller_that_stops_ends_its_sessions() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
    assert_eq!(node.end().await.code, ErrorCode::NotController);
    // Its sessions end a little later than its leadership.
    let refused = loop {
        match code(node.open().await.unwrap_err()) {
            ErrorCode::NotController => {}
            other => break other,
        }
    };
    assert_eq!(refused, ErrorCode::ShuttingDown);
}

/// R17: of itself, from time to time.
#[actix::test]
async fn leaderships_go_back_to_where_they_are_preferred() {
    let often = Duration::from_millis(20);
    let upkeep = Upkeep { imbalance_check: often, leaderless_check: often, ..Upkeep::default() };
    let lab = lab_with(patient(), upkeep).await;
    let mut first = Node::active(&lab, 7).await;
    let second = Node::active(&lab, 8).await;
    let created = lab.handle.create_topic(placed("orders", &[7, 8])).await.unwrap();
    let key = created.key(PartitionId(0));
    let dead = pb::ReplicaReport { topic_id: created.id.to_wire(), ..Default::default() };
    let request = pb::ReportReplicasRequest { caller: first.caller(), replicas: vec![dead] };
    first.client.report_replicas(request).await.unwrap();
    let after = image(&lab.handle).partition(&key).unwrap().clone();
    assert_eq!(after.leader, Some(NodeId(8)));
    let back = AlterPartition {
        key,
        leader_epoch: after.leader_epoch,
        partition_epoch: after.partition_epoch,
        isr: [8, 7].map(|id| IsrMember { node: NodeId(id), broker_epoch: None }).to_vec(),
        recovered: true,
    };
    let epoch = BrokerEpoch(second.epoch);
    lab.handle.alter_partitions(NodeId(8), epoch, vec![back]).await.unwrap();
    let mut images = lab.handle.image();
    let led_by = |id| {
        move |image: &Arc<ClusterImage>| image.partition(&key).unwrap().leader == Some(NodeId(id))
    };
    drop(within(images.wait_for(led_by(7))).await.unwrap());
    lab.handle.shutdown().await.unwrap();
}

/// The broker's image, as it is pushed.
#[actix::test]
async fn a_broker_without_a_controller_gets_the_metadata_pushed() {
    let lab = lab(patient()).await;
    lab.handle.register_unfenced_broker(super::registration(1)).await.unwrap();
    lab.handle.create_topic(topic("before")).await.unwrap();
    let mut node = Node::registered(&lab, 7).await;
    let nothing =
        pb::BrokerSessionRequest { metadata_offset: 0, wants_metadata: true, ..node.heartbeat() };
    let first = node.open_with(nothing.clone()).await.unwrap();
    let mut follower = ClusterImage::default();
    let mut take = |answer: pb::BrokerSessionResponse| {
        if let Some(delta) = answer.metadata {
            follower.apply_delta(&Delta::from(delta)).unwrap();
        }
        follower.clone()
    };
    assert!(first.fenced);
    assert_eq!(take(first), *image(&lab.handle));
    node.send(node.heartbeat()).await;
    lab.handle.create_topic(topic("after")).await.unwrap();
    loop {
        let answer = node.next().await.unwrap();
        let fenced = answer.fenced;
        let known = take(answer);
        if known == *image(&lab.handle) && !fenced && !known.broker(NodeId(7)).unwrap().fenced {
            break;
        }
    }
    let known = take(pb::BrokerSessionResponse::default());
    assert!(known.topic("after").is_some());
    node.hang_up();
    let up_to_date = pb::BrokerSessionRequest {
        metadata_offset: known.next_offset().0,
        wants_metadata: true,
        ..node.heartbeat()
    };
    let first = node.open_with(up_to_date).await.unwrap();
    assert_eq!(first.metadata, None, "it has everything");
    lab.handle.create_topic(topic("later")).await.unwrap();
    let later = node.until(|answer| answer.metadata.is_some()).await.metadata.unwrap();
    assert_eq!(later.since_offset, known.next_offset().0);
    node.hang_up();
    let behind = pb::BrokerSessionRequest { metadata_offset: 3, ..nothing };
    let everything = node.open_with(behind).await.unwrap().metadata.unwrap();
    assert_eq!(everything.since_offset, 0);
    lab.handle.shutdown().await.unwrap();
}

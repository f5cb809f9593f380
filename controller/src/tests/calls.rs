//! What brokers ask for, over real connections: who is let in, what is decided, who may stop.

use super::brokers::{
    Node, code, is_fenced, lab, patient, placed, registration, until_broker, until_fenced,
};
use super::image;
use troupe_machines::cluster::{AlterPartitionReassignments, ReassignPartition};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionId};
use troupe_proto::internal::v1 as pb;

/// K2, K21: in every call.
#[actix::test]
async fn strangers_and_predecessors_are_refused_in_every_call() {
    let lab = lab(patient()).await;
    let node = Node::registered(&lab, 7).await;
    let good = node.caller().unwrap();
    let callers = [
        (None, ErrorCode::InvalidRequest),
        (
            Some(pb::BrokerCaller { cluster_id: "elsewhere".into(), ..good.clone() }),
            ErrorCode::InconsistentClusterId,
        ),
        (Some(pb::BrokerCaller { node_id: -1, ..good.clone() }), ErrorCode::InvalidRequest),
        (Some(pb::BrokerCaller { node_id: 8, ..good.clone() }), ErrorCode::BrokerNotRegistered),
        (Some(pb::BrokerCaller { broker_epoch: 0, ..good }), ErrorCode::StaleBrokerEpoch),
    ];
    for (caller, expected) in callers {
        let mut client = lab.client.clone();
        let session = pb::BrokerSessionRequest { caller: caller.clone(), ..Default::default() };
        let session = tokio_stream::iter([session]);
        let refused = client.broker_session(session).await.unwrap_err();
        assert_eq!(code(refused), expected, "{caller:?}");
        let request = pb::AlterPartitionsRequest { caller: caller.clone(), ..Default::default() };
        assert_eq!(code(client.alter_partitions(request).await.unwrap_err()), expected);
        let request = pb::ReportReplicasRequest { caller: caller.clone(), ..Default::default() };
        assert_eq!(code(client.report_replicas(request).await.unwrap_err()), expected);
        let request = pb::AllocateProducerIdsRequest { caller: caller.clone() };
        assert_eq!(code(client.allocate_producer_ids(request).await.unwrap_err()), expected);
        let request = pb::BeginShutdownRequest { caller: caller.clone() };
        assert_eq!(code(client.begin_shutdown(request).await.unwrap_err()), expected);
    }
    let mut client = lab.client.clone();
    let mut stranger = registration(8, 1, "somewhere:9092".into());
    stranger.caller.as_mut().unwrap().cluster_id = "elsewhere".into();
    let refused = client.register_broker(stranger).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::InconsistentClusterId);
    let mut newcomer = registration(8, 1, "somewhere:9092".into());
    newcomer.caller.as_mut().unwrap().cluster_id = String::new();
    let answer = client.register_broker(newcomer).await.unwrap().into_inner();
    assert_eq!(answer.cluster_id, "cluster", "now it knows");
    let short = pb::RegisterBrokerRequest {
        incarnation_id: vec![1; 15].into(),
        ..registration(9, 1, "somewhere:9092".into())
    };
    assert_eq!(code(client.register_broker(short).await.unwrap_err()), ErrorCode::InvalidRequest);
    lab.handle.shutdown().await.unwrap();
}

/// K7.
#[actix::test]
async fn a_controller_that_is_not_active_says_who_is() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.log.lead(false, 2);
    let hint = |error: Error| {
        assert_eq!(error.code, ErrorCode::NotController);
        error.leader.map(|leader| (leader.node_id, leader.endpoint))
    };
    let expected = Some((2, "node2:9093".to_owned()));
    assert_eq!(hint(node.end().await), expected);
    assert_eq!(hint(node.open().await.unwrap_err().into()), expected);
    let request = pb::AllocateProducerIdsRequest { caller: node.caller() };
    let refused = node.client.allocate_producer_ids(request.clone()).await.unwrap_err();
    assert_eq!(hint(refused.into()), expected);
    lab.log.lead_by(None, 3);
    let refused = node.client.allocate_producer_ids(request).await.unwrap_err();
    assert_eq!(hint(refused.into()), None);
    assert_eq!(hint(node.open().await.unwrap_err().into()), None);
    lab.handle.shutdown().await.unwrap();
}

/// R9, R12: answered for each partition; and a leader replica that died.
#[actix::test]
async fn isr_changes_and_reports_of_dead_replicas_are_decided() {
    let lab = lab(patient()).await;
    let (mut leader, _other) = (Node::active(&lab, 7).await, Node::active(&lab, 8).await);
    let created = lab.handle.create_topic(placed("orders", &[7, 8])).await.unwrap();
    let alter = |partition_epoch, members: &[i32]| pb::AlterPartition {
        topic_id: created.id.to_wire(),
        partition: 0,
        leader_epoch: 0,
        partition_epoch,
        in_sync_replicas: members
            .iter()
            .map(|node_id| pb::InSyncReplica { node_id: *node_id, broker_epoch: None })
            .collect(),
        recovered: true,
    };
    let elsewhere = pb::AlterPartition { partition: 5, ..alter(0, &[7]) };
    let partitions = vec![alter(0, &[7]), alter(0, &[7]), elsewhere, alter(1, &[8, 7])];
    let request = pb::AlterPartitionsRequest { caller: leader.caller(), partitions };
    let altered = leader.client.alter_partitions(request).await.unwrap().into_inner().partitions;
    assert_eq!((altered[0].partition_epoch, &altered[0].in_sync_replicas), (1, &vec![7]));
    let error = |at: usize| altered[at].error.clone().map(|error| error.reason());
    assert_eq!(error(0), None);
    assert_eq!(error(1), Some(ErrorCode::StalePartitionEpoch));
    assert_eq!(error(2), Some(ErrorCode::UnknownPartition));
    assert_eq!((error(3), altered[3].partition_epoch), (None, 2));
    let dead = pb::ReplicaReport {
        topic_id: created.id.to_wire(),
        partition: 0,
        leader_epoch: 0,
        lost: false,
        offline: false,
    };
    let request = pb::ReportReplicasRequest { caller: leader.caller(), replicas: vec![dead] };
    let reported = leader.client.report_replicas(request).await.unwrap().into_inner();
    let now = image(&lab.handle);
    assert_eq!(reported.metadata_offset, now.next_offset().0, "as of which it is known");
    let partition = now.partition(&created.key(PartitionId(0))).unwrap();
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(8)), LeaderEpoch(1)));
    let request = pb::AllocateProducerIdsRequest { caller: leader.caller() };
    let block = leader.client.allocate_producer_ids(request).await.unwrap().into_inner();
    assert_eq!((block.first, block.count), (1, 1000));
    lab.handle.shutdown().await.unwrap();
}

/// K17.
#[actix::test]
async fn a_broker_may_stop_once_it_leads_nothing_and_everybody_knows() {
    let lab = lab(patient()).await;
    let mut leaving = Node::active(&lab, 7).await;
    let mut staying = Node::active(&lab, 8).await;
    lab.handle.create_topic(placed("shared", &[7, 8])).await.unwrap();
    lab.handle.create_topic(placed("alone", &[7])).await.unwrap();
    let leaves = pb::BrokerSessionRequest { wants_shutdown: true, ..leaving.heartbeat() };
    leaving.send(leaves.clone()).await;
    until_broker(&lab.handle, 7, |broker| broker.shutting_down).await;
    let now = image(&lab.handle);
    assert_eq!(now.led_by(NodeId(7)).count(), 0);
    assert!(!is_fenced(&lab, 7), "it is still heard");
    leaving.send(leaves.clone()).await;
    assert!(!leaving.next().await.unwrap().may_stop, "the other one does not know yet");
    let knows =
        pb::BrokerSessionRequest { metadata_offset: now.next_offset().0, ..staying.heartbeat() };
    staying.send(knows).await;
    staying.next().await.unwrap();
    leaving.until(|answer| answer.may_stop).await;
    assert_eq!(image(&lab.handle).next_offset(), now.next_offset(), "asked for once");
    leaving.listener = None;
    leaving.hang_up();
    until_fenced(&lab, 7).await;
    lab.handle.shutdown().await.unwrap();
}

/// K17: nobody else is there to know.
#[actix::test]
async fn the_last_broker_may_stop_too() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.handle.create_topic(placed("alone", &[7])).await.unwrap();
    let leaves = pb::BrokerSessionRequest { wants_shutdown: true, ..node.heartbeat() };
    node.send(leaves).await;
    node.until(|answer| answer.may_stop).await;
    lab.handle.shutdown().await.unwrap();
}

/// The broker did not ask for a drain: it goes on, and is told nothing about stopping.
#[actix::test]
async fn a_drained_broker_stays_in_session_and_leads_again_when_it_is_resumed() {
    let lab = lab(patient()).await;
    let mut node = Node::active(&lab, 7).await;
    lab.handle.create_topic(placed("alone", &[7])).await.unwrap();
    let request = pb::BeginShutdownRequest { caller: node.caller() };
    let begun = node.client.begin_shutdown(request).await.unwrap().into_inner();
    assert_eq!(begun.metadata_offset, image(&lab.handle).next_offset().0);
    node.send(node.heartbeat()).await;
    let answer = node.next().await.unwrap();
    assert_eq!((answer.fenced, answer.may_stop), (false, false));
    lab.handle.resume_broker(NodeId(7)).await.unwrap();
    assert_eq!(image(&lab.handle).led_by(NodeId(7)).count(), 1);
    lab.handle.shutdown().await.unwrap();
}

/// R9, R34: what completes a reassignment may end the leadership of who asked for it.
#[actix::test]
async fn a_leader_that_completes_its_own_removal_hears_who_leads_now() {
    let lab = lab(patient()).await;
    let (mut leader, _other) = (Node::active(&lab, 7).await, Node::active(&lab, 8).await);
    let created = lab.handle.create_topic(placed("orders", &[7])).await.unwrap();
    let target = Some(vec![NodeId(8)]);
    let one = ReassignPartition { topic: "orders".into(), partition: 0, target };
    let request = AlterPartitionReassignments {
        partitions: vec![one],
        allow_replication_factor_change: true,
        validate_only: false,
    };
    let begun = lab.handle.alter_partition_reassignments(request).await.unwrap();
    assert!(begun[0].as_ref().unwrap().partition.is_reassigning());
    let joins = pb::AlterPartition {
        topic_id: created.id.to_wire(),
        partition_epoch: 1,
        in_sync_replicas: [7, 8]
            .map(|node_id| pb::InSyncReplica { node_id, ..Default::default() })
            .to_vec(),
        recovered: true,
        ..Default::default()
    };
    let request = pb::AlterPartitionsRequest { caller: leader.caller(), partitions: vec![joins] };
    let altered = leader.client.alter_partitions(request).await.unwrap().into_inner().partitions;
    let told = altered[0].error.clone().unwrap();
    assert_eq!((told.reason(), told.leader_id), (ErrorCode::NewLeaderElected, Some(8)));
    let now = image(&lab.handle);
    let partition = now.partition(&created.key(PartitionId(0))).unwrap();
    assert_eq!((&partition.replicas, partition.leader), (&vec![NodeId(8)], Some(NodeId(8))));
    lab.handle.shutdown().await.unwrap();
}

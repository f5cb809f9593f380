//! What nodes say to each other: whoever is old, foreign or somebody else gets a clear answer.

use crate::{reason, refused, topic_on};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use troupe_proto::error::ErrorCode;
use troupe_proto::internal::v1::controller_service_client::ControllerServiceClient;
use troupe_proto::internal::v1::replicate_partitions_response::Refusal;
use troupe_proto::internal::v1::replication_service_client::ReplicationServiceClient;
use troupe_proto::internal::v1::{
    AllocateProducerIdsRequest, AlterPartition, AlterPartitionsRequest, BeginShutdownRequest,
    BrokerCaller, BrokerSessionRequest, Follower, InSyncReplica, OpenChannel,
    RegisterBrokerRequest, ReplicaReport, ReplicatePartitionsRequest, ReportReplicasRequest,
};
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Cluster, Picture};

/// A broker that calls, and the active controller.
struct Stranger {
    caller: BrokerCaller,
    stub: ControllerServiceClient<Channel>,
}

impl Stranger {
    async fn new(cluster: &Cluster, picture: &Picture) -> Stranger {
        let node = picture.node(1).unwrap();
        let caller = BrokerCaller {
            cluster_id: cluster.id().to_owned(),
            node_id: 1,
            broker_epoch: node.broker_epoch as u64,
        };
        let stub = ControllerServiceClient::new(cluster.controller_channel(picture.controller));
        Stranger { caller, stub }
    }

    /// The answer of every call to this caller.
    async fn answers(&mut self, caller: &BrokerCaller) -> Vec<(&'static str, ErrorCode)> {
        let caller = || Some(caller.clone());
        let stub = &mut self.stub;
        let session = BrokerSessionRequest { caller: caller(), ..Default::default() };
        let alter = AlterPartitionsRequest { caller: caller(), partitions: vec![] };
        let report = ReportReplicasRequest { caller: caller(), replicas: vec![] };
        let ids = AllocateProducerIdsRequest { caller: caller() };
        let shutdown = BeginShutdownRequest { caller: caller() };
        vec![
            ("AlterPartitions", refused(stub.alter_partitions(alter)).await.code),
            ("ReportReplicas", refused(stub.report_replicas(report)).await.code),
            ("AllocateProducerIds", refused(stub.allocate_producer_ids(ids)).await.code),
            ("BeginShutdown", refused(stub.begin_shutdown(shutdown)).await.code),
            ("BrokerSession", refused_session(stub, session).await),
        ]
    }
}

/// A session is refused as a call or as its first answer.
async fn refused_session(
    stub: &mut ControllerServiceClient<Channel>,
    first: BrokerSessionRequest,
) -> ErrorCode {
    let messages = tokio_stream::iter([first]).chain(tokio_stream::pending());
    let status = match stub.broker_session(messages).await {
        Err(status) => status,
        Ok(answers) => {
            answers.into_inner().message().await.expect_err("the session was not refused")
        }
    };
    troupe_tests::reason_of(&status)
}

/// K12, K21.
#[tokio::test]
async fn whoever_is_old_or_foreign_is_refused_in_every_call() {
    let cluster = Cluster::shared().await;
    let picture = cluster.healed().await;
    let mut stranger = Stranger::new(&cluster, &picture).await;
    let right = stranger.caller.clone();
    let stale = BrokerCaller { broker_epoch: right.broker_epoch - 1, ..right.clone() };
    let nobody = BrokerCaller { node_id: 99, ..right.clone() };
    let foreign = BrokerCaller { cluster_id: "another".to_owned(), ..right };
    for (caller, expected) in
        [(stale, StaleBrokerEpoch), (nobody, BrokerNotRegistered), (foreign, InconsistentClusterId)]
    {
        for (call, code) in stranger.answers(&caller).await {
            assert_eq!(code, expected, "{call} by {caller:?}");
        }
    }
}

/// K7: the others say who is the controller.
#[tokio::test]
async fn standbys_name_the_active_controller() {
    let cluster = Cluster::shared().await;
    let picture = cluster.healed().await;
    let caller = Stranger::new(&cluster, &picture).await.caller;
    for standby in cluster.ids().filter(|&id| id != picture.controller) {
        let mut stub = ControllerServiceClient::new(cluster.controller_channel(standby));
        let request = AllocateProducerIdsRequest { caller: Some(caller.clone()) };
        let error = refused(stub.allocate_producer_ids(request)).await;
        assert_eq!(error.code, NotController);
        let hint = error.leader.expect("it says whom to ask");
        assert_eq!(hint.node_id, picture.controller);
        assert_eq!(hint.endpoint, cluster.controller_address(picture.controller));
    }
}

/// K12: one id, one broker.
#[tokio::test]
async fn a_second_broker_of_one_id_is_refused() {
    let cluster = Cluster::shared().await;
    let picture = cluster.healed().await;
    let mut stranger = Stranger::new(&cluster, &picture).await;
    let request = RegisterBrokerRequest {
        caller: Some(BrokerCaller { broker_epoch: 0, ..stranger.caller.clone() }),
        incarnation_id: vec![7; 16].into(),
        endpoint: "127.0.0.1:1".to_owned(),
        http_endpoint: "127.0.0.1:2".to_owned(),
        ..Default::default()
    };
    let error = refused(stranger.stub.register_broker(request.clone())).await;
    assert_eq!(error.code, DuplicateBroker, "{error}");
    let foreign = BrokerCaller { cluster_id: "another".to_owned(), ..stranger.caller };
    let request = RegisterBrokerRequest { caller: Some(foreign), ..request };
    let error = refused(stranger.stub.register_broker(request)).await;
    assert_eq!(error.code, InconsistentClusterId, "{error}");
    // Nobody was put in its place.
    let of =
        |picture: &Picture| picture.node(1).map(|one| (one.broker_epoch, one.endpoint.clone()));
    assert_eq!(of(&cluster.healed().await), of(&picture));
}

/// R9: epochs that are old, replicas that are none.
#[tokio::test]
async fn changes_of_an_isr_are_checked_one_by_one() {
    let cluster = Cluster::shared().await;
    let topic = cluster.server(1).await.new_name("isr");
    let topic_id = topic_on(&cluster, &topic, &[1, 2, 3], &[]).await.topic_id;
    let picture = cluster.healed().await;
    let state = picture.partition(&topic, 0).unwrap().clone();
    let mut stranger = Stranger::new(&cluster, &picture).await;
    let all: Vec<InSyncReplica> =
        (1..=3).map(|node_id| InSyncReplica { node_id, broker_epoch: None }).collect();
    let right = AlterPartition {
        topic_id,
        partition: 0,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        in_sync_replicas: all,
        recovered: false,
    };
    let stale = InSyncReplica { node_id: 2, broker_epoch: Some(0) };
    let stranger_in_sync = InSyncReplica { node_id: 9, broker_epoch: None };
    let cases = [
        (AlterPartition { topic_id: vec![9; 16].into(), ..right.clone() }, UnknownTopic),
        (AlterPartition { partition: 7, ..right.clone() }, UnknownPartition),
        // Newer than the controller's own: the controller is the one that is behind.
        (AlterPartition { leader_epoch: right.leader_epoch + 1, ..right.clone() }, NotController),
        (
            AlterPartition { partition_epoch: right.partition_epoch + 1, ..right.clone() },
            NotController,
        ),
        (AlterPartition { in_sync_replicas: vec![], ..right.clone() }, InvalidRequest),
        (
            AlterPartition {
                in_sync_replicas: vec![right.in_sync_replicas[0], stranger_in_sync],
                ..right.clone()
            },
            InvalidRequest,
        ),
        (
            AlterPartition {
                in_sync_replicas: vec![right.in_sync_replicas[0], stale],
                ..right.clone()
            },
            IneligibleReplica,
        ),
    ];
    let (partitions, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let request = AlterPartitionsRequest { caller: Some(stranger.caller.clone()), partitions };
    let answer = stranger.stub.alter_partitions(request).await.unwrap().into_inner();
    let given: Vec<_> = answer.partitions.iter().map(|one| reason(&one.error)).collect();
    assert_eq!(given, expected);
    // A report of an epoch that is over is void.
    let report = ReplicaReport {
        topic_id: right.topic_id,
        partition: 0,
        leader_epoch: 77,
        ..Default::default()
    };
    let request = ReportReplicasRequest { caller: Some(stranger.caller), replicas: vec![report] };
    // Whether it is refused or passed over, nobody else leads.
    let _ = stranger.stub.report_replicas(request).await;
    assert_eq!(cluster.healed().await.leader(&topic, 0), Some(1));
}

/// What a leader answers to a follower's first message.
async fn first_refusal(
    cluster: &Cluster,
    leader: i32,
    request: ReplicatePartitionsRequest,
) -> ErrorCode {
    let mut stub = ReplicationServiceClient::new(cluster.channel(leader));
    let messages = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let status = match stub.replicate_partitions(messages).await {
        Err(status) => status,
        Ok(answers) => {
            let mut answers = answers.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(answer)) => match answer.refusal {
                        Some(Refusal::Error(error)) => return error.reason(),
                        _ => continue,
                    },
                    Ok(None) => panic!("the stream was not refused"),
                    Err(status) => break status,
                }
            }
        }
    };
    troupe_tests::reason_of(&status)
}

/// R1, R9, K21: a follower that is old, foreign or mistaken.
#[tokio::test]
async fn followers_that_cannot_be_are_refused() {
    let cluster = Cluster::shared().await;
    let topic = cluster.server(1).await.new_name("followed");
    let topic_id = topic_on(&cluster, &topic, &[1, 2], &[]).await.topic_id;
    let picture = cluster.healed().await;
    let follower = Follower {
        cluster_id: cluster.id().to_owned(),
        node_id: 2,
        broker_epoch: picture.node(2).unwrap().broker_epoch as u64,
        leader_id: 1,
    };
    let channel = OpenChannel {
        channel: 1,
        topic_id,
        partition: 0,
        leader_epoch: 0,
        log_end_offset: 0,
        flushed_end_offset: 0,
        last_epoch: None,
        log_start_offset: None,
        tombstones_gone_offset: None,
    };
    let request = |follower: Follower, channel: OpenChannel| ReplicatePartitionsRequest {
        follower: Some(follower),
        open: vec![channel],
        ..Default::default()
    };
    let foreign = Follower { cluster_id: "another".to_owned(), ..follower.clone() };
    let stale = Follower { broker_epoch: follower.broker_epoch - 1, ..follower.clone() };
    let mistaken = Follower { leader_id: 3, ..follower.clone() };
    for (who, expected) in
        [(foreign, InconsistentClusterId), (stale, StaleBrokerEpoch), (mistaken, InvalidRequest)]
    {
        let code = first_refusal(&cluster, 1, request(who.clone(), channel.clone())).await;
        assert_eq!(code, expected, "{who:?}");
    }
    let newer = OpenChannel { leader_epoch: 5, ..channel.clone() };
    let unknown = OpenChannel { topic_id: vec![9; 16].into(), ..channel.clone() };
    for (channel, expected) in [(newer, UnknownLeaderEpoch), (unknown, UnknownTopic)] {
        let code = first_refusal(&cluster, 1, request(follower.clone(), channel.clone())).await;
        assert_eq!(code, expected, "{channel:?}");
    }
    // Node 3 has no replica of it, node 2 follows itself.
    let to_three = Follower {
        node_id: 1,
        broker_epoch: picture.node(1).unwrap().broker_epoch as u64,
        leader_id: 3,
        ..follower
    };
    let code = first_refusal(&cluster, 3, request(to_three, channel)).await;
    assert!(matches!(code, NotLeader | UnknownTopic | UnknownPartition), "{code:?}");
}

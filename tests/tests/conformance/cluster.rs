//! The picture of the cluster, its changes as they come, health, reflection, what replicas and actors hold.

use crate::refused;
use std::collections::BTreeSet;
use tokio_stream::StreamExt;
use tonic::Streaming;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::{
    CreatePartitionsRequest, DeleteTopicRequest, GetClusterRequest, ListReplicasRequest,
    ReplicaRole,
};
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{ActorState, KillActorRequest, ListActorsRequest};
use troupe_proto::log::v1::{
    DescribeClusterRequest, DescribeTopicsRequest, WatchMetadataRequest, WatchMetadataResponse,
};
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Sample, Server, batch_of};

#[tokio::test]
async fn the_cluster_describes_itself_the_same_everywhere() {
    let server = Server::get().await;
    let described = server.metadata().describe_cluster(DescribeClusterRequest {}).await.unwrap();
    let described = described.into_inner();
    assert!(!described.cluster_id.is_empty());
    let controller = described.nodes.iter().find(|node| node.controller).unwrap();
    assert_eq!(controller.node_id, described.controller_id);
    assert!(described.nodes.iter().all(|node| !node.fenced && node.endpoint.contains(':')));

    let mut admin = ClusterServiceClient::new(server.channel());
    let cluster = admin.get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!(cluster.cluster_id, described.cluster_id);
    assert_eq!(cluster.controller_id, described.controller_id);
    assert_eq!(cluster.nodes.len(), described.nodes.len());
    assert_eq!(cluster.offline_partition_count, 0);
    assert!(!cluster.version.is_empty());
}

#[tokio::test]
async fn unknown_topics_are_named() {
    let server = Server::get().await;
    let topic = server.new_topic(3, &[]).await;
    let topics = vec![topic.name.clone(), "no-such-topic".to_owned()];
    let answer = server
        .metadata()
        .describe_topics(DescribeTopicsRequest { topics, ..Default::default() })
        .await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.unknown_topics, ["no-such-topic"]);
    assert_eq!(answer.topics.len(), 1);
    assert_eq!(answer.topics[0].topic_id, topic.topic_id);
    assert_eq!(answer.topics[0].partitions.len(), 3);
    assert!(!answer.nodes.is_empty());
    let all = DescribeTopicsRequest::default();
    let answer = server.metadata().describe_topics(all).await.unwrap().into_inner();
    assert!(answer.topics.iter().any(|one| one.name == topic.name));
}

/// The next change that concerns the topic.
async fn next_change(
    changes: &mut Streaming<WatchMetadataResponse>,
    topic: &str,
) -> WatchMetadataResponse {
    loop {
        let change = changes.message().await.unwrap().unwrap();
        let concerns = change.topics.iter().any(|one| one.name == topic)
            || change.deleted_topics.iter().any(|name| name == topic);
        if concerns {
            return change;
        }
    }
}

#[tokio::test]
async fn changes_are_pushed_as_they_are_committed() {
    let server = Server::get().await;
    let existing = server.new_topic(1, &[]).await.name;
    let later = server.new_name("later");
    let request = WatchMetadataRequest { topics: vec![existing.clone(), later.clone()] };
    let mut changes = server.metadata().watch_metadata(request).await.unwrap().into_inner();
    let first = changes.message().await.unwrap().unwrap();
    assert!(!first.nodes.is_empty(), "first the whole picture");
    assert_eq!(first.topics.len(), 1);

    server.create_topic(&later, 2, &[]).await;
    server.new_topic(1, &[]).await;
    let created = next_change(&mut changes, &later).await;
    assert_eq!(created.topics[0].partitions.len(), 2);
    assert!(created.metadata_offset > first.metadata_offset);

    let grow = CreatePartitionsRequest { name: existing.clone(), total: 4, ..Default::default() };
    server.topics().create_partitions(grow).await.unwrap();
    let grown = next_change(&mut changes, &existing).await;
    assert_eq!(grown.topics.len(), 1, "other topics were not asked for");
    assert_eq!(grown.topics[0].partitions.len(), 4);

    let delete = DeleteTopicRequest { name: later.clone(), validate_only: false, internal: false };
    server.topics().delete_topic(delete).await.unwrap();
    let deleted = next_change(&mut changes, &later).await;
    assert_eq!(deleted.deleted_topics, [later]);
}

#[tokio::test]
async fn health_says_live_and_ready() {
    let server = Server::get().await;
    let mut health = HealthClient::new(server.channel());
    for service in ["", "live", "ready"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest { service: "no-such-service".to_owned() };
    let code = crate::plainly_refused(health.check(request)).await;
    assert_eq!(code, tonic::Code::NotFound);
}

/// Go's `healthCheckConfig` and load balancers ask for the service that they want to call.
#[tokio::test]
async fn every_public_service_has_a_health_of_its_own() {
    use troupe_proto::health::v1 as pb;
    use troupe_proto::health::v1::health_check_response::ServingStatus;
    let server = Server::get().await;
    let mut health = pb::health_client::HealthClient::new(server.channel());
    let listed = health.list(pb::HealthListRequest {}).await.unwrap().into_inner().statuses;
    let own = SERVICES.iter().filter(|name| !name.contains("reflection"));
    for name in own.chain(["", "live", "ready"].iter()) {
        let request = pb::HealthCheckRequest { service: (*name).to_owned() };
        let checked = health.check(request.clone()).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving, "{name:?}");
        assert_eq!(listed.get(*name), Some(&checked), "{name:?}");
        let mut watched = health.watch(request).await.unwrap().into_inner();
        assert_eq!(watched.message().await.unwrap(), Some(checked), "{name:?}");
    }
    assert!(!listed.keys().any(|name| name.contains("internal")), "{listed:?}");
    // Who watches what is not there yet is told so, and may wait.
    let request = pb::HealthCheckRequest { service: "no-such-service".to_owned() };
    let mut watched = health.watch(request).await.unwrap().into_inner();
    let told = watched.message().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::ServiceUnknown);
}

/// Without them grpcurl prints the details of an error as bytes.
#[tokio::test]
async fn reflection_knows_the_types_that_errors_carry() {
    use pb::server_reflection_request::MessageRequest;
    use pb::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1 as pb;
    let server = Server::get().await;
    let mut client = pb::server_reflection_client::ServerReflectionClient::new(server.channel());
    let names = ["google.rpc.Status", "google.rpc.ErrorInfo", "troupe.v1.ErrorDetail"];
    let requests = names.map(|name| pb::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(name.into())),
    });
    let answers = client.server_reflection_info(tokio_stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    for name in names {
        let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
        assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{name}: {answer:?}");
    }
}

/// The services that a node offers to everybody.
const SERVICES: [&str; 11] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "troupe.admin.v1.ClusterService",
    "troupe.admin.v1.PlacementService",
    "troupe.admin.v1.ReassignmentService",
    "troupe.admin.v1.TopicService",
    "troupe.chaos.v1alpha1.ChaosService",
    "troupe.log.v1.LogService",
    "troupe.log.v1.MetadataService",
    "troupe.v1.EventBusService",
];

/// Both versions of the protocol have the same messages under another package.
macro_rules! reflection_test {
    ($name:ident, $version:ident, $own:literal) => {
        #[tokio::test]
        async fn $name() {
            use pb::server_reflection_request::MessageRequest;
            use pb::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version as pb;
            let server = Server::get().await;
            let mut client =
                pb::server_reflection_client::ServerReflectionClient::new(server.channel());
            let ask = |message| pb::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(message),
            };
            let services = SERVICES.iter().filter(|name| !name.contains("reflection"));
            let symbols = services.map(|name| MessageRequest::FileContainingSymbol((*name).into()));
            let requests: Vec<_> = std::iter::once(MessageRequest::ListServices(String::new()))
                .chain(symbols)
                .map(ask)
                .collect();
            let answers = client.server_reflection_info(tokio_stream::iter(requests)).await;
            let mut answers = answers.unwrap().into_inner();
            let first = answers.next().await.unwrap().unwrap().message_response.unwrap();
            let MessageResponse::ListServicesResponse(list) = first else { panic!("{first:?}") };
            let listed: BTreeSet<String> = list.service.into_iter().map(|one| one.name).collect();
            let expected: BTreeSet<String> = SERVICES
                .iter()
                .filter(|name| !name.contains("reflection") || name.contains($own))
                .map(|name| (*name).to_owned())
                .collect();
            let missing: Vec<_> = expected.difference(&listed).collect();
            assert!(missing.is_empty(), "not listed: {missing:?}");
            // What grpcurl does to call one: the file of every service, and all that it imports.
            let mut described = 0;
            while let Some(answer) = answers.next().await {
                match answer.unwrap().message_response.unwrap() {
                    MessageResponse::FileDescriptorResponse(files) => {
                        assert!(!files.file_descriptor_proto.is_empty());
                        described += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(described, SERVICES.len() - 2);
        }
    };
}

reflection_test!(reflection_lists_every_service, v1, "v1.");
reflection_test!(the_older_reflection_lists_every_service, v1alpha, "v1alpha");

/// The ruler: log start ≤ high watermark ≤ log end; flushed end ≤ log end.
#[tokio::test]
async fn replicas_say_what_they_hold() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await.name;
    let records: Vec<_> = (0..10).map(|n| Sample::of(vec![n; 100], 1)).collect();
    server.produce(&topic, 1, batch_of(&records), Acks::All).await;
    let mut admin = ClusterServiceClient::new(server.channel());
    let request = ListReplicasRequest { topic: topic.clone(), ..Default::default() };
    let replicas = admin.list_replicas(request).await.unwrap().into_inner().replicas;
    let offsets: Vec<_> = replicas
        .iter()
        .map(|one| {
            assert_eq!((one.topic.as_str(), one.role()), (topic.as_str(), ReplicaRole::Leader));
            assert_eq!(one.offline_reason, "");
            (one.partition, one.log_start_offset, one.high_watermark, one.log_end_offset)
        })
        .collect();
    assert_eq!(offsets, [(0, 0, 0, 0), (1, 0, 10, 10)]);
    assert_eq!(replicas[1].flushed_end_offset, 10, "acks=all was flushed");
    assert!(replicas[1].size_bytes > 1_000);
    let request = ListReplicasRequest { topic: "no-such-topic".into(), ..Default::default() };
    assert_eq!(refused(admin.list_replicas(request)).await.code, UnknownTopic);
}

#[tokio::test]
async fn actors_are_a_tree_by_their_addresses() {
    let server = Server::get().await;
    let topic = server.new_topic(3, &[]).await.name;
    // A partition that answers has its actor.
    for partition in 0..3 {
        server.produce(&topic, partition, batch_of(&[Sample::of("x", 1)]), Acks::All).await;
    }
    let mut chaos = ChaosServiceClient::new(server.channel());
    let (mut actors, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListActorsRequest { page_size: 2, page_token, ..Default::default() };
        let page = chaos.list_actors(request).await.unwrap().into_inner();
        assert!(page.actors.len() <= 2);
        actors.extend(page.actors);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let addresses: BTreeSet<&str> = actors.iter().map(|actor| actor.address.as_str()).collect();
    assert_eq!(addresses.len(), actors.len());
    let of_topic: Vec<_> =
        actors.iter().filter(|one| one.address.contains(&format!("/{topic}/"))).collect();
    assert_eq!(of_topic.len(), 3);
    for actor in of_topic {
        assert_eq!((actor.state(), actor.kind.as_str()), (ActorState::Running, "partition"));
        assert!(addresses.iter().any(|parent| {
            *parent != actor.address && actor.address.starts_with(&format!("{parent}/"))
        }));
    }
    let request = KillActorRequest { address: "node/1/nobody".into(), ..Default::default() };
    let code = refused(chaos.kill_actor(request)).await.code;
    assert!(matches!(code, UnknownActor | ChaosDisabled), "{code:?}");
}

/// Prometheus' text, at the HTTP address that the cluster knows.
#[tokio::test]
async fn metrics_are_served_over_http() {
    use std::io::{Read, Write};
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    server.produce(&topic, 0, batch_of(&[Sample::of("counted", 1)]), Acks::All).await;
    let mut admin = ClusterServiceClient::new(server.channel());
    let cluster = admin.get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&cluster.nodes[0].http_endpoint).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = get("/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("# TYPE troupe_"), "{answer}");
    assert!(get("/no/such/page").starts_with("HTTP/1.1 404"));
}

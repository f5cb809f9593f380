//! Two listeners for clients on each node: who comes by one of them is told the addresses of that one, everywhere, and
//! gets by them to all that leads and coordinates.

use crate::{partition_where, topic_on};
use std::collections::BTreeMap;
use tokio_stream::StreamExt;
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord,
};
use troupe_proto::admin::v1::{
    DeleteRecordsRequest, GetClusterRequest, RecordsDeletion, ReplicaAssignment,
};
use troupe_proto::error::Error;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{
    DescribeClusterRequest, DescribeGroupRequest, DescribeTopicsRequest, FetchPosition,
    FetchRequest, FetchStreamRequest, FindCoordinatorRequest, ListOffsetsRequest, Node,
    OffsetQuery, WatchMetadataRequest, offset_query::At,
};
use troupe_proto::v1::{Acks, ErrorDetail};
use troupe_tests::{
    Cluster, Sample, Server, batch_of, eventually_or_why, free_ports, partition_of,
};

const TOPIC: &str = "listened";

struct Listening {
    cluster: Cluster,
    /// By node, where it listens for who comes from outside.
    outside: BTreeMap<i32, String>,
}

impl Listening {
    /// Three nodes, each with the listeners INSIDE, by which nodes reach each other, and OUTSIDE; but for those that
    /// have no OUTSIDE.
    async fn start(without: &[i32]) -> Listening {
        let mut cluster = Cluster::prepare(3, &[]);
        let mut outside = BTreeMap::new();
        for (id, port) in (1..=3).zip(free_ports(3)) {
            let mut listeners = format!(
                "INSIDE://{},CONTROLLER://{}",
                cluster.address(id),
                cluster.controller_address(id)
            );
            if !without.contains(&id) {
                listeners += &format!(",OUTSIDE://127.0.0.1:{port}");
                outside.insert(id, format!("localhost:{port}"));
            }
            let advertised = match outside.get(&id) {
                Some(endpoint) => format!("advertised.listeners=OUTSIDE://{endpoint}"),
                None => String::new(),
            };
            cluster.set_listeners(id, &listeners);
            let settings = cluster.settings(id);
            settings.push(
                "listener.security.protocol.map=INSIDE:GRPC,OUTSIDE:GRPC,CONTROLLER:GRPC".into(),
            );
            settings.push("inter.broker.listener.name=INSIDE".into());
            settings.extend(Some(advertised).filter(|it| !it.is_empty()));
        }
        cluster.start_all().await.map_err(|exit| exit.stderr).unwrap();
        cluster.healed().await;
        Listening { cluster, outside }
    }

    async fn outside(&self, id: i32) -> Server {
        Server::at(&self.outside[&id]).await
    }
}

fn told(nodes: &[Node]) -> BTreeMap<i32, String> {
    nodes.iter().map(|node| (node.node_id, node.endpoint.clone())).collect()
}

#[tokio::test]
async fn who_comes_by_a_listener_is_told_its_addresses_wherever_somebody_is_named() {
    let Listening { cluster, outside } = &Listening::start(&[]).await;
    let inside: BTreeMap<i32, String> =
        cluster.ids().map(|id| (id, cluster.address(id).to_owned())).collect();
    topic_on(cluster, TOPIC, &[2, 1], &[]).await;
    partition_where(cluster, TOPIC, |one| one.leader_id == Some(2)).await;
    for (id, addresses) in [(1, &inside), (3, &inside), (1, outside), (3, outside)] {
        let server = Server::at(&addresses[&id]).await;
        let described = server.metadata().describe_cluster(DescribeClusterRequest {}).await;
        assert_eq!(told(&described.unwrap().into_inner().nodes), *addresses);
        let topics = vec![TOPIC.to_owned()];
        let request = DescribeTopicsRequest { topics: topics.clone(), ..Default::default() };
        let described = server.metadata().describe_topics(request).await.unwrap().into_inner();
        assert_eq!(told(&described.nodes), *addresses);
        let watch = WatchMetadataRequest { topics };
        let mut watch = server.metadata().watch_metadata(watch).await.unwrap().into_inner();
        assert_eq!(told(&watch.message().await.unwrap().unwrap().nodes), *addresses);
        let shown = server.cluster().get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
        let shown = shown.nodes.into_iter().map(|node| (node.node_id, node.endpoint)).collect();
        assert_eq!(*addresses, shown);

        let mut groups = GroupServiceClient::new(server.channel());
        let found = eventually_or_why("there is a coordinator", async || {
            let request = FindCoordinatorRequest { group_id: "g".to_owned() };
            groups.find_coordinator(request).await.map_err(|status| status.to_string())
        });
        let found = found.await.into_inner();
        assert_eq!(found.endpoint, addresses[&found.node_id]);

        // Node 2 leads.
        let is_told = |detail: Option<ErrorDetail>| {
            let detail = detail.expect("another leads");
            assert_eq!(detail.leader_id, Some(2), "{detail:?}");
            assert_eq!(detail.leader_endpoint, addresses[&2], "{detail:?}");
        };
        let partition = Some(partition_of(TOPIC, 0));
        let sample = batch_of(&[Sample::of("x", 1)]);
        is_told(server.produce(TOPIC, 0, sample, Acks::All).await.error);
        let position = FetchPosition { partition: partition.clone(), ..Default::default() };
        let request = FetchRequest { positions: vec![position.clone()], ..Default::default() };
        let mut fetched = server.log().fetch(request).await.unwrap().into_inner();
        is_told(fetched.partitions.remove(0).error);
        let request = FetchStreamRequest {
            positions: vec![position],
            credit_bytes: 1 << 20,
            ..Default::default()
        };
        let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
        let mut pushed = server.log().fetch_stream(requests).await.unwrap().into_inner();
        is_told(pushed.message().await.unwrap().unwrap().error);
        let query = OffsetQuery {
            isolation_level: Default::default(),
            partition,
            at: Some(At::Latest(true)),
        };
        let request = ListOffsetsRequest { queries: vec![query] };
        let mut listed = server.log().list_offsets(request).await.unwrap().into_inner();
        is_told(listed.results.remove(0).error);
        // What a node does for who asks any node names none.
        let deletion = RecordsDeletion { topic: TOPIC.to_owned(), ..Default::default() };
        let request = DeleteRecordsRequest { partitions: vec![deletion], ..Default::default() };
        let deleted = server.topics().delete_records(request).await.unwrap().into_inner();
        assert_eq!(deleted.results[0].error, None);
    }
}

#[tokio::test]
async fn a_client_of_the_second_listener_reaches_every_leader_by_it() {
    let listening = Listening::start(&[]).await;
    let server = listening.outside(1).await;
    let list = |replicas: [i32; 2]| ReplicaAssignment { replicas: replicas.to_vec() };
    let request = troupe_proto::admin::v1::CreateTopicRequest {
        name: TOPIC.to_owned(),
        assignments: vec![list([1, 2]), list([2, 3]), list([3, 1])],
        ..Default::default()
    };
    server.topics().create_topic(request).await.unwrap();
    let client = Client::connect(ClientConfig::new([listening.outside[&1].clone()])).await.unwrap();
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    for n in 0..30 {
        let record = ProducerRecord::new(TOPIC).value(n.to_string()).partition(n % 3);
        producer.send(record).await.unwrap().await.unwrap();
    }
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::new("outside")
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    let mut values: Vec<u32> = Vec::new();
    while values.len() < 30 {
        for record in consumer.poll(std::time::Duration::from_millis(100)).await.unwrap() {
            let value = record.value.unwrap();
            values.push(std::str::from_utf8(&value).unwrap().parse().unwrap());
        }
    }
    values.sort_unstable();
    assert_eq!(values, (0..30).collect::<Vec<_>>());
    consumer.close(troupe_tests::PATIENCE).await.unwrap();
    let mut groups = GroupServiceClient::new(server.channel());
    let request = DescribeGroupRequest { group_id: "outside".to_owned() };
    let described = groups.describe_group(request).await.unwrap().into_inner();
    let coordinator = described.coordinator_id;
    assert_eq!(described.coordinator_endpoint, listening.outside[&coordinator]);
}

/// KIP-103: it is not there for who comes by that name.
#[tokio::test]
async fn a_broker_without_a_listener_of_the_name_is_left_out_of_what_is_told_there() {
    let listening = Listening::start(&[2]).await;
    let cluster = &listening.cluster;
    topic_on(cluster, TOPIC, &[2, 1], &[]).await;
    partition_where(cluster, TOPIC, |one| one.leader_id == Some(2)).await;
    let server = listening.outside(1).await;
    let described = server.metadata().describe_cluster(DescribeClusterRequest {}).await.unwrap();
    assert_eq!(told(&described.into_inner().nodes), listening.outside);
    let refused = server.produce(TOPIC, 0, batch_of(&[Sample::of("x", 1)]), Acks::All).await;
    let refused = refused.error.expect("node 2 leads");
    assert_eq!((refused.leader_id, &*refused.leader_endpoint), (Some(2), ""));
    let mut groups = GroupServiceClient::new(server.channel());
    let mut unreachable = 0;
    for group in 0..50 {
        let request = FindCoordinatorRequest { group_id: format!("group {group}") };
        match groups.find_coordinator(request).await {
            Ok(found) => assert_ne!(found.into_inner().node_id, 2),
            Err(status) => {
                let error = Error::from(status);
                unreachable += usize::from(error.message.contains("has no listener OUTSIDE"));
            }
        }
    }
    assert!(unreachable > 0, "node 2 coordinates some of them");
    // Nodes are there for each other, and for who comes by the listener that they share.
    let server = cluster.server(1).await;
    let described = server.metadata().describe_cluster(DescribeClusterRequest {}).await.unwrap();
    assert_eq!(described.into_inner().nodes.len(), 3);
}

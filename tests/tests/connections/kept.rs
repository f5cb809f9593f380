//! Clients that hold every place they can get do not keep the cluster's own nodes apart.

use super::raw::{DATA, GOAWAY, Raw, call};
use super::{GET_CLUSTER, ask, metric};
use tonic::transport::Endpoint;
use troupe_proto::admin::v1::GetClusterRequest;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::Acks;
use troupe_tests::{Cluster, LocalNode, Sample, batch_of, eventually, eventually_or_why};

/// Of 80.
const KEPT: f64 = 10.0;
const LIMITS: [&str; 2] = ["max.connections.per.node=80", "max.connections.per.ip=80"];
const REPLICATION: &str = "/troupe.internal.v1.ReplicationService/ReplicatePartitions";

/// Connections that do nothing, until no client comes in any more.
async fn crowd(address: &str, http: &str) -> Vec<Raw> {
    let mut crowd = Vec::new();
    eventually_or_why("no client comes in any more", async || {
        for _ in 0..10 {
            crowd.push(Raw::introduced(address, None).await);
        }
        let open = metric(http, &["troupe_connections{", "listener=\"grpc\""]).await;
        match ask(address).await.map_err(Error::from) {
            Err(error) if error.code == ErrorCode::TooManyConnections => Ok(()),
            other => Err(format!("{open} are open, and the next is answered {:?}", other.err())),
        }
    })
    .await;
    crowd
}

#[tokio::test]
async fn a_node_of_the_cluster_comes_in_where_clients_have_taken_every_place() {
    let node = LocalNode::start(&LIMITS);
    let _crowd = crowd(&node.server(), &node.http()).await;
    // One that asks for what only nodes ask for, and goes on to ask.
    let mut raw = Raw::introduced(&node.server(), None).await;
    raw.send(&call(1, REPLICATION, &GetClusterRequest {})).await;
    raw.send(&call(3, GET_CLUSTER, &GetClusterRequest {})).await;
    loop {
        let frame = raw.next().await.expect("the connection stands");
        assert_ne!(frame.kind, GOAWAY);
        if (frame.kind, frame.stream) == (DATA, 3) {
            break;
        }
    }
    // One that calls itself a node.
    let endpoint = Endpoint::from_shared(format!("http://{}", node.server())).unwrap();
    let channel = endpoint.user_agent("troupe-node").unwrap().connect_lazy();
    ClusterServiceClient::new(channel).get_cluster(GetClusterRequest {}).await.unwrap();
    let refused = Error::from(ask(&node.server()).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::TooManyConnections);
    assert!(refused.message.contains("kept for the cluster's own nodes"), "{refused}");
    assert_eq!(refused.facts["limit"], "80");
    let open = metric(&node.http(), &["troupe_connections{", "listener=\"grpc\""]).await;
    assert!(open > 80.0 - KEPT && open <= 80.0, "{open}");
}

#[tokio::test]
async fn a_follower_comes_back_in_sync_where_clients_have_taken_every_place() {
    let mut cluster = Cluster::start(&LIMITS).await;
    let leader = cluster.server(1).await;
    leader.create_topic("orders", 1, &[]).await;
    let led = cluster.healed().await.leader("orders", 0).unwrap();
    let (away, other) = (led % 3 + 1, (led + 1) % 3 + 1);
    let server = cluster.server(led).await;
    cluster.kill(away);
    let crowd = crowd(cluster.address(led), cluster.http(led)).await;
    let result = server.produce("orders", 0, batch_of(&[Sample::of("a", 1)]), Acks::All).await;
    assert_eq!(result.error, None);
    cluster.restart(&[away]).await;
    eventually("it is in sync again", async || {
        let picture = cluster.describe_as(other).await.ok()?;
        let partition = picture.partition("orders", 0)?;
        let whole = partition.leader_id == Some(led) && partition.in_sync_replicas.len() == 3;
        whole.then_some(())
    })
    .await;
    let refused = Error::from(ask(cluster.address(led)).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::TooManyConnections, "the crowd is still there");
    drop(crowd);
}

//! Faults that actors are given, and what those who use them see.

use super::Cluster;
use std::time::Duration;
use tokio::time::timeout;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{
    Fault, InjectFaultRequest, InjectFaultResponse, KillActorRequest, ListActorsRequest,
};
use troupe_proto::error::{Error, ErrorCode};

const PATIENCE: Duration = Duration::from_secs(60);

impl Cluster {
    async fn inject(
        &self,
        node: i32,
        request: InjectFaultRequest,
    ) -> Result<InjectFaultResponse, Error> {
        let mut client = ChaosServiceClient::new(self.channel(node).await);
        Ok(client.inject_fault(request).await?.into_inner())
    }

    /// Addresses of actors of that kind.
    pub(super) async fn actors(&self, node: i32, kind: &str) -> Vec<String> {
        let mut client = ChaosServiceClient::new(self.channel(node).await);
        let actors = client.list_actors(ListActorsRequest::default()).await.unwrap().into_inner();
        let of_kind = actors.actors.into_iter().filter(|actor| actor.kind == kind);
        of_kind.map(|actor| actor.address).collect()
    }
}

fn fault(address: &str, fault: Fault, duration_ms: u32) -> InjectFaultRequest {
    InjectFaultRequest {
        address: address.to_owned(),
        fault: fault.into(),
        duration_ms,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_survive_faults_and_their_clients_are_told_the_truth() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, "t", 1).await.unwrap();
    let state = cluster.until(1, |state| state.in_sync_replicas.len() == 3).await;
    let leader = state.leader_id.unwrap();
    cluster.holds(leader, "t").await;
    let address = cluster.actors(leader, "partition").await.pop().unwrap();
    assert_eq!(super::produce(&cluster, leader, b"one").await, Ok(0));

    for kind in [Fault::Pause, Fault::Stall] {
        let injected = cluster.inject(leader, fault(&address, kind, 300));
        timeout(PATIENCE, injected).await.unwrap().unwrap();
    }
    assert_eq!(super::produce(&cluster, leader, b"two").await, Ok(1));

    // It lasts as long as somebody waits for its end.
    let request = InjectFaultRequest { seed: 7, ..fault(&address, Fault::DropReplies, 60_000) };
    let dropping = cluster.inject(leader, request.clone());
    let produced = async {
        while super::produce(&cluster, leader, b"three").await.is_ok() {}
        let twice = cluster.inject(leader, request.clone()).await.unwrap_err();
        assert_eq!(twice.code, ErrorCode::InvalidRequest);
        super::produce(&cluster, leader, b"four").await.unwrap_err()
    };
    let lost = tokio::select! {
        lost = produced => lost,
        ended = dropping => panic!("{ended:?}"),
    };
    assert_eq!(lost.code, ErrorCode::OutcomeUnknown);
    let served = async {
        while super::produce(&cluster, leader, b"five").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, served).await.unwrap();
    // What was done and not answered was done.
    assert!(super::record_count(&cluster, leader).await >= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_between_nodes_that_is_killed_comes_back() {
    let cluster = Cluster::start(3).await;
    cluster.create(1, "t", 1).await.unwrap();
    let state = cluster.until(1, |state| state.in_sync_replicas.len() == 3).await;
    let leader = state.leader_id.unwrap();
    let follower = leader % 3 + 1;
    let address = format!("node/{follower}/shard/0/replication/{leader}");
    let standing = async {
        while !cluster.actors(follower, "replication").await.contains(&address) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, standing).await.unwrap();
    let mut client = ChaosServiceClient::new(cluster.channel(follower).await);
    let kill = KillActorRequest { address: address.clone(), ..Default::default() };
    timeout(PATIENCE, client.kill_actor(kill)).await.unwrap().unwrap();
    assert_eq!(cluster.actors(follower, "replication").await, [address.as_str()]);
    cluster.holds(leader, "t").await;
    assert_eq!(super::produce(&cluster, leader, b"one").await, Ok(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_out_of_bounds_is_refused() {
    let cluster = Cluster::start(1).await;
    let controller = "node/1/controller";
    let unknown = fault("node/1/shard/0/partition/nothing/0", Fault::Pause, 1);
    let unknown = cluster.inject(1, unknown).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownActor);
    let refused = cluster.inject(1, fault(controller, Fault::Pause, 1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
}

//! What the members of one node commit at a coordinator on another, seen on the way between the two.

use super::Cluster;
use super::any_node::record;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::transport::{Channel, Server};
use tonic::{Status, Streaming};
use tower::Service;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{FetchOffsetsRequest, FindCoordinatorRequest};
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{
    Delivery, StartPosition, SubscribeRequest, SubscribeResponse, SubscriptionOptions,
};

const PATIENCE: Duration = Duration::from_secs(60);
const TOGETHER: &str = "/troupe.internal.v1.CommitService/CommitTogether";
const SINGLY: &str = "/troupe.log.v1.GroupService/CommitOffsets";
const MEMBERS: usize = 40;
const ROUNDS: usize = 3;

/// Stands in front of a node's listener, and counts the calls of other nodes by their paths.
#[derive(Clone, Default)]
struct Gate {
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    /// The node is of a version that does not know how to commit together.
    earlier: Arc<AtomicBool>,
}

impl Gate {
    fn start(&self, listener: TcpListener, node: std::net::SocketAddr) {
        let gate = self.clone();
        let endpoint = format!("http://{node}");
        let channel = Channel::from_shared(endpoint).unwrap().connect_lazy();
        let passes = move |request: http::Request<Body>| {
            let (gate, mut channel) = (gate.clone(), channel.clone());
            async move {
                let path = request.uri().path().to_owned();
                *gate.calls.lock().unwrap().entry(path.clone()).or_default() += 1;
                if path == TOGETHER && gate.earlier.load(Ordering::SeqCst) {
                    return Ok(Status::unimplemented("").into_http());
                }
                std::future::poll_fn(|context| channel.poll_ready(context)).await?;
                channel.call(request).await
            }
        };
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(Server::builder().serve_with_incoming(tower::service_fn(passes), incoming));
    }

    fn count(&self, path: &str) -> usize {
        self.calls.lock().unwrap().get(path).copied().unwrap_or(0)
    }
}

async fn start_behind_gates() -> (Cluster, BTreeMap<i32, Gate>) {
    let both: Vec<_> = (1..=2).map(|id| (id, "broker,controller")).collect();
    let mut listeners = BTreeMap::new();
    for (id, _) in &both {
        listeners.insert(*id, TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let cluster = Cluster::prepare(&both, |id, config| {
        config.advertised_listener = listeners[&id].local_addr().unwrap().to_string();
        config.offsets_topic_partitions = 1;
        config.default_replication_factor = 2;
    });
    let mut gates = BTreeMap::new();
    for (id, listener) in listeners {
        let gate = Gate::default();
        gate.start(listener, cluster.configs[&id].listener);
        gates.insert(id, gate);
    }
    (cluster.begin(&both).await, gates)
}

struct Member {
    requests: mpsc::Sender<SubscribeRequest>,
    answers: Streaming<SubscribeResponse>,
}

impl Member {
    /// Alone in its group.
    async fn join(bus: &mut EventBusServiceClient<Channel>, number: usize) -> Member {
        let start = SubscriptionOptions {
            topics: vec!["t".into()],
            group: format!("g{number}"),
            start_position: Some(StartPosition { at: Some(At::Earliest(true)) }),
            ..Default::default()
        };
        let (requests, stream) = mpsc::channel(8);
        let first = SubscribeRequest { start: Some(start), ..Default::default() };
        requests.send(first).await.unwrap();
        let answers = bus.subscribe(ReceiverStream::new(stream)).await.unwrap().into_inner();
        Member { requests, answers }
    }

    async fn next(&mut self) -> Delivery {
        loop {
            let message = timeout(PATIENCE, self.answers.message()).await.unwrap();
            if let Some(delivery) = message.unwrap().unwrap().deliveries.pop() {
                return delivery;
            }
        }
    }
}

/// Members of one node, and the coordinator of all their groups on the other: the calls that their commits were.
async fn read_through_one_node(earlier: bool) -> (usize, usize) {
    let (cluster, gates) = start_behind_gates().await;
    cluster.create(1, "t", 1).await.unwrap();
    let mut groups = GroupServiceClient::new(cluster.channel(1).await);
    let find = FindCoordinatorRequest { group_id: "g0".into() };
    let coordinator = groups.find_coordinator(find).await.unwrap().into_inner().node_id;
    let gate = &gates[&coordinator];
    gate.earlier.store(earlier, Ordering::SeqCst);
    let through = 3 - coordinator;
    let mut bus = EventBusServiceClient::new(cluster.channel(through).await);
    let mut groups = GroupServiceClient::new(cluster.channel(coordinator).await);
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        members.push(Member::join(&mut bus, number).await);
    }
    for round in 0..ROUNDS {
        cluster.publish(through, "t", vec![record("v", 0)]).await.unwrap();
        for member in &mut members {
            let ack_ids = vec![member.next().await.ack_id];
            let request = SubscribeRequest { ack_ids, ..Default::default() };
            member.requests.send(request).await.unwrap();
        }
        for number in 0..MEMBERS {
            let fetch =
                FetchOffsetsRequest { group_id: format!("g{number}"), ..Default::default() };
            let committed = async {
                loop {
                    let answer = groups.fetch_offsets(fetch.clone()).await.unwrap().into_inner();
                    let at = answer.offsets.first().and_then(|one| one.offset.as_ref());
                    if at.is_some_and(|at| at.offset == round as i64 + 1) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(PATIENCE, committed).await.unwrap();
        }
    }
    (gate.count(TOGETHER), gate.count(SINGLY))
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_a_nodes_members_travel_in_one_call() {
    let (together, singly) = read_through_one_node(false).await;
    assert_eq!(singly, 0);
    assert!(together * 5 <= MEMBERS * ROUNDS, "{together} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_of_an_earlier_version_gets_each_commit_by_itself() {
    let (together, singly) = read_through_one_node(true).await;
    assert!(singly >= MEMBERS * ROUNDS, "{singly}");
    // It is asked once; whoever asked before the answer came, has asked too.
    assert!(together * 5 <= MEMBERS * ROUNDS, "{together}");
}

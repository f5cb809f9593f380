//! A cluster of fake nodes in this process: the log and metadata services over memory, with faults that a
//! test asks for. Batches pass as opaque bytes, as in a real node.

use crate::fake_group::FakeGroup;
use crate::fake_log::FakeLog;
use crate::fake_node::Node;
use crate::fake_transactions::{FakeTransactions, Transactions};
use crate::gate::Gate;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use troupe_client::{Client, ClientConfig};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::TopicId;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_server::GroupServiceServer;
use troupe_proto::log::v1::metadata_service_server::MetadataServiceServer;
use troupe_proto::log::v1::transaction_service_server::TransactionServiceServer;

/// What happens to the next batch that arrives.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing.
    Pass,
    Refuse(ErrorCode),
    /// The stream breaks before the batch is appended.
    Lose,
    /// The batch is appended, then the stream breaks.
    LoseAnswer,
    /// Neither appended nor answered.
    Ignore,
    /// Not appended; answered as if it had been there, when the test lets it.
    Hold(i64),
    /// Another node leads from here on, and the refusal says so.
    Move(usize),
}

/// The rack of the follower that leaders name.
pub const NEAR: &str = "near";

/// A follower of every partition, alone in its rack.
#[derive(Clone, Copy, Debug)]
pub struct Follower {
    pub node: usize,
    pub in_sync: bool,
    /// What it answers to everybody.
    pub refuses: Option<ErrorCode>,
}

/// What the nodes share.
#[derive(Default)]
pub struct State {
    pub topics: HashMap<String, (TopicId, Vec<FakeLog>)>,
    /// Who leads which partition, in which epoch; those that are not named: the first node, in epoch 0.
    leaders: HashMap<i32, (Option<usize>, u32)>,
    /// Of the metadata log.
    pub offset: i64,
    pub faults: VecDeque<Fault>,
    /// Batches that are larger are refused.
    pub max_batch: usize,
    pub next_producer: u64,
    pub endpoints: Vec<String>,
    /// Answers that the test holds back.
    held: Vec<(Answers, pb::ProduceStreamResponse)>,
    /// Bytes that the last fetch stream pushed and was granted.
    pub pushed: u64,
    pub granted: u64,
    /// Fetch streams break after this many pushes.
    pub break_after: Option<usize>,
    /// No batch is taken from a stream while this is set.
    pub stalled: bool,
    /// A partition that is asked for again is first answered as it was asked for before: one slice is left out,
    /// the next one comes, and then the refusal of an epoch that is over.
    pub late_pushes: bool,
    /// How often that was.
    pub late_pushed: usize,
    /// Who asks for a topic that is not there, and allows it, has it created.
    pub creates_topics: bool,
    /// How often somebody asked for metadata.
    pub described: usize,
    /// Nobody pushes metadata.
    pub mute: bool,
    /// Leaders name it to who is in its rack; how often they did, and how often it has handed something out.
    pub follower: Option<Follower>,
    pub named: usize,
    pub followed: usize,
    /// So many positions are refused by nodes that do not know the topic yet.
    pub lagging: usize,
    /// So many pushes are zeros when they are sent.
    pub garbled: usize,
    /// Of the coordinator of every transactional id.
    pub transactions: Transactions,
}

pub type Answers = mpsc::Sender<Result<pb::ProduceStreamResponse, Status>>;

impl State {
    pub fn leader(&self, partition: i32) -> (Option<usize>, u32) {
        self.leaders.get(&partition).copied().unwrap_or((Some(0), 0))
    }

    pub fn elect(&mut self, partition: i32, leader: Option<usize>) {
        let (_, epoch) = self.leader(partition);
        self.leaders.insert(partition, (leader, epoch + 1));
        self.offset += 1;
    }

    /// R1. This client always says which leader it means.
    pub fn check_leader(
        &self,
        node: usize,
        partition: i32,
        expected: Option<u32>,
    ) -> Result<(), Refusal> {
        let (leader, epoch) = self.leader(partition);
        let refuse = |code: ErrorCode| {
            let refusal = Refusal::new(code, "as the rules want");
            Err(match leader {
                Some(at) => refusal.with_leader_of(at as i32, &*self.endpoints[at], epoch),
                None => refusal,
            })
        };
        let Some(expected) = expected else { return refuse(ErrorCode::InvalidRequest) };
        match expected.cmp(&epoch) {
            _ if leader != Some(node) => refuse(ErrorCode::NotLeader),
            Ordering::Less => refuse(ErrorCode::FencedLeaderEpoch),
            Ordering::Greater => refuse(ErrorCode::UnknownLeaderEpoch),
            Ordering::Equal => Ok(()),
        }
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }

    pub fn hold(&mut self, answers: Answers, answer: pb::ProduceStreamResponse) {
        self.held.push((answers, answer));
    }
}

pub struct Cluster {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    nodes: Vec<JoinHandle<()>>,
    pub gates: Vec<Gate>,
    /// The coordinator of every group.
    pub group: FakeGroup,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter().for_each(JoinHandle::abort);
    }
}

impl Cluster {
    pub async fn start(nodes: usize) -> Cluster {
        let state = State { max_batch: usize::MAX, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let mut cluster = Cluster {
            group: FakeGroup::new(state.clone()),
            state,
            changed: Arc::default(),
            nodes: Vec::new(),
            gates: Vec::new(),
        };
        for number in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let gate = Gate::open(listener.local_addr().unwrap().to_string()).await;
            cluster.state().endpoints.push(gate.endpoint.clone());
            cluster.gates.push(gate);
            let node = Node::new(number, cluster.state.clone(), cluster.changed.clone());
            let server = tonic::transport::Server::builder()
                .add_service(MetadataServiceServer::new(node.clone()))
                .add_service(GroupServiceServer::new(cluster.group.clone()))
                .add_service(TransactionServiceServer::new(FakeTransactions {
                    cluster: cluster.state.clone(),
                    group: cluster.group.clone(),
                    changed: cluster.changed.clone(),
                }))
                .add_service(node);
            cluster.nodes.push(tokio::spawn(async move {
                server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
            }));
        }
        cluster
    }

    /// One node and a topic.
    pub async fn with_topic(partitions: usize) -> (Cluster, Client) {
        let cluster = Self::start(1).await;
        cluster.create_topic("t", partitions);
        let client = cluster.client().await;
        (cluster, client)
    }

    pub fn create_topic(&self, name: &str, partitions: usize) {
        let logs = (0..partitions).map(|_| FakeLog::default()).collect();
        let mut state = self.state();
        state.topics.insert(name.to_owned(), (TopicId::random(), logs));
        state.offset += 1;
    }

    /// From now on there is this follower; who watches hears of it.
    pub fn follow(&self, follower: Follower) {
        let mut state = self.state();
        state.follower = Some(follower);
        state.offset += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// From now on; who watches hears of it.
    pub fn elect(&self, partition: i32, leader: Option<usize>) {
        self.state().elect(partition, leader);
        self.changed.notify_waiters();
    }

    pub fn delete_topic(&self, name: &str) {
        let mut state = self.state();
        state.topics.remove(name);
        state.offset += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// An answer that was held back goes out, if there is anybody to take it.
    pub async fn release(&self, place: usize) {
        let (answers, answer) = self.state().held.remove(place);
        let _ = answers.send(Ok(answer)).await;
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.config_of(&[0])).await.unwrap()
    }

    /// Of a client that is pointed at these nodes.
    pub fn config_of(&self, nodes: &[usize]) -> ClientConfig {
        let state = self.state();
        ClientConfig::new(nodes.iter().map(|&node| state.endpoints[node].clone()))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    pub fn stall(&self, stalled: bool) {
        self.state().stalled = stalled;
        self.changed.notify_waiters();
    }

    pub fn values(&self, partition: usize) -> Vec<Bytes> {
        self.state().topics["t"].1[partition].values()
    }

    /// A cluster with a topic, and a client that speaks with its second node.
    pub async fn of(nodes: usize, partitions: usize) -> (Cluster, Client) {
        let cluster = Self::start(nodes).await;
        cluster.create_topic("t", partitions);
        // What these would bring about is not what is tested.
        let hour = Duration::from_secs(3600);
        let config = ClientConfig {
            keepalive_interval: hour,
            control_keepalive_interval: hour,
            ..cluster.config_of(&[1])
        };
        let client = Client::connect(config).await.unwrap();
        (cluster, client)
    }

    /// Waits until something that the nodes do makes this true.
    pub async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(&self.state()) {
                return;
            }
            tokio::time::timeout(Duration::from_secs(20), changed).await.expect("it never happens");
        }
    }
}

//! A cluster of fake nodes in this process: the log and metadata services over memory, with faults that a
//! test asks for. Batches pass as opaque bytes, as in a real node.

use crate::fake_log::FakeLog;
use bytes::Bytes;
use futures::Stream;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use troupe_client::{Client, ClientConfig};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{PartitionId, PartitionKey, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::metadata_service_server::{MetadataService, MetadataServiceServer};
use troupe_proto::wire;

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
    /// Another node leads from here on, and the refusal says so.
    Move(usize),
}

/// What the nodes share.
#[derive(Default)]
pub struct State {
    pub topics: HashMap<String, (TopicId, Vec<FakeLog>)>,
    pub leader: usize,
    pub epoch: u32,
    pub faults: VecDeque<Fault>,
    /// Batches that are larger are refused.
    pub max_batch: usize,
    next_producer: u64,
    endpoints: Vec<String>,
    /// Bytes that the last fetch stream pushed and was granted.
    pub pushed: u64,
    pub granted: u64,
    /// Fetch streams break after this many pushes.
    pub break_after: Option<usize>,
    /// No batch is taken from a stream while this is set.
    pub stalled: bool,
}

pub struct Cluster {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    nodes: Vec<JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter().for_each(JoinHandle::abort);
    }
}

impl Cluster {
    pub async fn start(nodes: usize) -> Cluster {
        let state = State { max_batch: usize::MAX, ..State::default() };
        let mut cluster = Cluster {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::default(),
            nodes: Vec::new(),
        };
        for number in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            cluster.state().endpoints.push(listener.local_addr().unwrap().to_string());
            let node =
                Node { number, state: cluster.state.clone(), changed: cluster.changed.clone() };
            let server = tonic::transport::Server::builder()
                .add_service(MetadataServiceServer::new(node.clone()))
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
        self.state().topics.insert(name.to_owned(), (TopicId::random(), logs));
    }

    pub async fn client(&self) -> Client {
        let server = self.state().endpoints[0].clone();
        Client::connect(ClientConfig::new([server])).await.unwrap()
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

#[derive(Clone)]
struct Node {
    number: usize,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

type Answers<T> = ReceiverStream<Result<T, Status>>;

impl Node {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// None: no answer. An error breaks the stream.
    fn produce(
        &self,
        request: wire::ProduceStreamRequest,
    ) -> Result<Option<Result<u64, Refusal>>, Status> {
        let mut state = self.state();
        let at = request.partition.unwrap();
        let fault = state.faults.pop_front().unwrap_or(Fault::Pass);
        let refuse = |code: ErrorCode| Ok(Some(Err(Refusal::new(code, "as the test wants"))));
        match fault {
            Fault::Refuse(code) => return refuse(code),
            Fault::Lose => return Err(Status::unavailable("as the test wants")),
            Fault::Ignore => return Ok(None),
            Fault::Move(leader) => {
                state.leader = leader;
                state.epoch += 1;
            }
            Fault::Pass | Fault::LoseAnswer => {}
        }
        if state.leader != self.number {
            let refusal = Refusal::new(ErrorCode::NotLeader, "another node leads")
                .with_leader(state.leader as i32, state.endpoints[state.leader].clone())
                .with("leader_epoch", state.epoch);
            return Ok(Some(Err(refusal)));
        }
        if request.batch.len() > state.max_batch {
            return refuse(ErrorCode::RecordTooLarge);
        }
        let Some((topic_id, logs)) = state.topics.get_mut(&at.topic) else {
            return refuse(ErrorCode::UnknownTopic);
        };
        let key = PartitionKey { topic_id: *topic_id, partition: PartitionId(at.partition as u32) };
        let appended = logs[at.partition as usize].append(&key, request.batch);
        if matches!(fault, Fault::LoseAnswer) {
            return Err(Status::unavailable("as the test wants"));
        }
        Ok(Some(appended.map_err(|code| Refusal::new(code, "as the rules want"))))
    }

    async fn serve_produce(
        self,
        mut requests: Streaming<wire::ProduceStreamRequest>,
        answers: mpsc::Sender<Result<pb::ProduceStreamResponse, Status>>,
    ) {
        loop {
            while self.state().stalled {
                self.changed.notified().await;
            }
            let Ok(Some(request)) = requests.message().await else { return };
            let correlation_id = request.correlation_id;
            let answer = self.produce(request);
            self.changed.notify_waiters();
            let result = match answer {
                Ok(None) => continue,
                Ok(Some(Ok(base_offset))) => pb::PartitionProduceResult {
                    base_offset: base_offset as i64,
                    log_append_time_ms: -1,
                    ..Default::default()
                },
                Ok(Some(Err(refusal))) => {
                    pb::PartitionProduceResult { error: Some(refusal.into()), ..Default::default() }
                }
                Err(status) => {
                    let _ = answers.send(Err(status)).await;
                    return;
                }
            };
            let answer = pb::ProduceStreamResponse { correlation_id, result: Some(result) };
            let _ = answers.send(Ok(answer)).await;
        }
    }

    async fn serve_fetch(
        self,
        mut requests: Streaming<pb::FetchStreamRequest>,
        pushes: mpsc::Sender<Result<wire::FetchStreamResponse, Status>>,
    ) {
        let mut positions: HashMap<i32, (pb::TopicPartition, u64, u32)> = HashMap::new();
        // May go below zero: a batch goes whole, and is paid for all the same.
        let (mut credit, mut count) = (0i64, 0);
        loop {
            let changed = self.changed.notified();
            tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    credit += request.credit_bytes as i64;
                    self.state().granted += request.credit_bytes;
                    for dropped in request.drop {
                        positions.remove(&dropped.partition);
                    }
                    for position in request.positions {
                        let at = position.partition.unwrap();
                        let offset = position.offset as u64;
                        positions.insert(at.partition, (at, offset, position.max_bytes));
                    }
                }
                () = changed => {}
            }
            let mut failed = Vec::new();
            for (&partition, (at, offset, limit)) in &mut positions {
                while credit > 0 {
                    let Some(push) = self.read(at, offset, *limit) else { break };
                    credit -= push.batches.len() as i64;
                    self.state().pushed += push.batches.len() as u64;
                    let over = push.error.is_some();
                    let _ = pushes.send(Ok(push)).await;
                    count += 1;
                    self.changed.notify_waiters();
                    if self.state().break_after.take_if(|after| *after <= count).is_some() {
                        let _ = pushes.send(Err(Status::unavailable("as the test wants"))).await;
                        return;
                    }
                    if over {
                        failed.push(partition);
                        break;
                    }
                }
            }
            failed.iter().for_each(|partition| {
                positions.remove(partition);
            });
        }
    }

    fn read(
        &self,
        at: &pb::TopicPartition,
        offset: &mut u64,
        limit: u32,
    ) -> Option<wire::FetchStreamResponse> {
        let state = self.state();
        let log = &state.topics.get(&at.topic)?.1[at.partition as usize];
        let mut push = wire::FetchStreamResponse {
            partition: Some(at.clone()),
            high_watermark: log.end as i64,
            log_start_offset: log.start as i64,
            ..Default::default()
        };
        if *offset < log.start || *offset > log.end {
            let refusal = Refusal::new(ErrorCode::OffsetOutOfRange, "as the rules want");
            push.error = Some(refusal.into());
            return Some(push);
        }
        if *offset == log.end {
            return None;
        }
        (push.batches, *offset) = log.read(*offset, limit as usize);
        Some(push)
    }

    fn list_offsets(&self, request: pb::ListOffsetsRequest) -> pb::ListOffsetsResponse {
        let state = self.state();
        let results = request.queries.into_iter().map(|query| {
            let at = query.partition.unwrap();
            let log = &state.topics[&at.topic].1[at.partition as usize];
            let offset = match query.at.unwrap() {
                pb::offset_query::At::Earliest(_) => log.start as i64,
                pb::offset_query::At::Latest(_) => log.end as i64,
                pb::offset_query::At::TimestampMs(_) | pb::offset_query::At::MaxTimestamp(_) => -1,
            };
            pb::OffsetResult { partition: Some(at), offset, timestamp_ms: -1, ..Default::default() }
        });
        pb::ListOffsetsResponse { results: results.collect() }
    }
}

/// A closure as a tonic service.
struct Call<F>(F);

impl<F, Up, Down, S> StreamingService<Up> for Call<F>
where
    F: FnMut(Streaming<Up>) -> S,
    S: Stream<Item = Result<Down, Status>> + Send + 'static,
{
    type Response = Down;
    type ResponseStream = S;
    type Future = std::future::Ready<Result<Response<S>, Status>>;

    fn call(&mut self, request: Request<Streaming<Up>>) -> Self::Future {
        std::future::ready(Ok(Response::new((self.0)(request.into_inner()))))
    }
}

impl<F, Up, Down> UnaryService<Up> for Call<F>
where
    F: FnMut(Up) -> Down,
{
    type Response = Down;
    type Future = std::future::Ready<Result<Response<Down>, Status>>;

    fn call(&mut self, request: Request<Up>) -> Self::Future {
        std::future::ready(Ok(Response::new((self.0)(request.into_inner()))))
    }
}

impl NamedService for Node {
    const NAME: &'static str = "troupe.log.v1.LogService";
}

impl Service<http::Request<Body>> for Node {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let node = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "ProduceStream" => {
                    let call = Call(|requests| {
                        let (answers, stream) = mpsc::channel(64);
                        tokio::spawn(node.clone().serve_produce(requests, answers));
                        Answers::new(stream)
                    });
                    Grpc::new(ProstCodec::default()).streaming(call, request).await
                }
                "FetchStream" => {
                    let call = Call(|requests| {
                        let (pushes, stream) = mpsc::channel(64);
                        tokio::spawn(node.clone().serve_fetch(requests, pushes));
                        Answers::new(stream)
                    });
                    Grpc::new(ProstCodec::default()).streaming(call, request).await
                }
                "InitProducer" => {
                    let call = Call(|_: pb::InitProducerRequest| {
                        let mut state = node.state();
                        state.next_producer += 1;
                        let producer_id = state.next_producer;
                        pb::InitProducerResponse { producer_id, producer_epoch: 0 }
                    });
                    Grpc::new(ProstCodec::default()).unary(call, request).await
                }
                "ListOffsets" => {
                    let call = Call(|request| node.list_offsets(request));
                    Grpc::new(ProstCodec::default()).unary(call, request).await
                }
                _ => Status::unimplemented("the fake has no such call").into_http(),
            })
        })
    }
}

#[tonic::async_trait]
impl MetadataService for Node {
    type WatchMetadataStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchMetadataResponse, Status>> + Send>>;

    async fn describe_cluster(
        &self,
        _: Request<pb::DescribeClusterRequest>,
    ) -> Result<Response<pb::DescribeClusterResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn describe_topics(
        &self,
        request: Request<pb::DescribeTopicsRequest>,
    ) -> Result<Response<pb::DescribeTopicsResponse>, Status> {
        let state = self.state();
        let mut answer = pb::DescribeTopicsResponse::default();
        for name in request.into_inner().topics {
            let Some((topic_id, logs)) = state.topics.get(&name) else {
                answer.unknown_topics.push(name);
                continue;
            };
            let partitions = (0..logs.len() as i32).map(|partition| pb::PartitionMetadata {
                partition,
                leader_id: state.leader as i32,
                leader_epoch: state.epoch,
                ..Default::default()
            });
            answer.topics.push(pb::TopicMetadata {
                name,
                topic_id: topic_id.to_wire(),
                internal: false,
                partitions: partitions.collect(),
            });
        }
        answer.nodes = (0..)
            .zip(&state.endpoints)
            .map(|(node_id, endpoint)| pb::Node {
                node_id,
                endpoint: endpoint.clone(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(answer))
    }

    async fn watch_metadata(
        &self,
        _: Request<pb::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

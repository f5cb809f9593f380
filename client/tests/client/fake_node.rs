//! One node of the fake cluster: the log and metadata services.

use crate::fake::{Answers, Fault, NEAR, State};
use crate::fake_log::{FakeLog, produced};
use futures::Stream;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{PartitionId, PartitionKey, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::metadata_service_server::MetadataService;
use troupe_proto::v1::IsolationLevel;
use troupe_proto::wire;

#[derive(Clone)]
pub struct Node {
    number: usize,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

/// What becomes of a batch.
enum Outcome {
    Answer(Result<u64, Refusal>),
    NoAnswer,
    /// This offset, when the test lets it.
    Later(i64),
}

impl Node {
    pub fn new(number: usize, state: Arc<Mutex<State>>, changed: Arc<Notify>) -> Node {
        Node { number, state, changed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// An error breaks the stream.
    fn produce(&self, request: wire::ProduceStreamRequest) -> Result<Outcome, Status> {
        let mut state = self.state();
        let at = request.partition.clone().unwrap();
        let fault = state.faults.pop_front().unwrap_or(Fault::Pass);
        let refuse =
            |code: ErrorCode| Ok(Outcome::Answer(Err(Refusal::new(code, "as the test wants"))));
        match fault {
            Fault::Refuse(code) => return refuse(code),
            Fault::Lose => return Err(Status::unavailable("as the test wants")),
            Fault::Ignore => return Ok(Outcome::NoAnswer),
            Fault::Hold(offset) => return Ok(Outcome::Later(offset)),
            Fault::Move(leader) => state.elect(at.partition, Some(leader)),
            Fault::Pass | Fault::LoseAnswer => {}
        }
        if let Err(refusal) = state.check_leader(self.number, at.partition, request.leader_epoch) {
            return Ok(Outcome::Answer(Err(refusal)));
        }
        if request.batch.len() > state.max_batch {
            return refuse(ErrorCode::RecordTooLarge);
        }
        if let Err(code) = begin(&mut state, &request) {
            return Ok(Outcome::Answer(Err(Refusal::new(code, "as the rules want"))));
        }
        let Some((topic_id, logs)) = state.topics.get_mut(&at.topic) else {
            return refuse(ErrorCode::UnknownTopic);
        };
        let key = PartitionKey { topic_id: *topic_id, partition: PartitionId(at.partition as u32) };
        let appended = logs[at.partition as usize].append(&key, request.batch);
        if matches!(fault, Fault::LoseAnswer) {
            return Err(Status::unavailable("as the test wants"));
        }
        Ok(Outcome::Answer(appended.map_err(|code| Refusal::new(code, "as the rules want"))))
    }

    async fn serve_produce(
        self,
        mut requests: Streaming<wire::ProduceStreamRequest>,
        answers: Answers,
    ) {
        loop {
            while self.state().stalled {
                self.changed.notified().await;
            }
            let Ok(Some(request)) = requests.message().await else { return };
            let correlation_id = request.correlation_id;
            let answer = self.produce(request);
            self.changed.notify_waiters();
            let placed = |base_offset| pb::PartitionProduceResult {
                base_offset,
                log_append_time_ms: -1,
                ..Default::default()
            };
            let result = match answer {
                Ok(Outcome::NoAnswer) => continue,
                Ok(Outcome::Later(offset)) => {
                    let result = Some(placed(offset));
                    let answer = pb::ProduceStreamResponse { correlation_id, result };
                    self.state().hold(answers.clone(), answer);
                    self.changed.notify_waiters();
                    continue;
                }
                Ok(Outcome::Answer(Ok(base_offset))) => placed(base_offset as i64),
                Ok(Outcome::Answer(Err(refusal))) => {
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
        let mut positions: HashMap<i32, pb::FetchPosition> = HashMap::new();
        let mut dropped = HashMap::new();
        // May go below zero: a batch goes whole, and is paid for all the same.
        let (mut credit, mut count) = (0i64, 0);
        loop {
            let changed = self.changed.notified();
            tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    credit += request.credit_bytes as i64;
                    self.state().granted += request.credit_bytes;
                    for partition in request.drop.iter().map(|at| at.partition) {
                        dropped.extend(positions.remove(&partition).map(|at| (partition, at)));
                    }
                    for position in request.positions {
                        let partition = position.partition.as_ref().unwrap().partition;
                        positions.insert(partition, position);
                        let before = dropped.remove(&partition);
                        if let Some(before) = before.filter(|_| self.state().late_pushes) {
                            self.push_late(before, &pushes).await;
                        }
                    }
                }
                () = changed => {}
            }
            let mut failed = Vec::new();
            for (&partition, position) in &mut positions {
                while credit > 0 {
                    let Some(push) = self.read(position) else { break };
                    credit -= push.batches.len() as i64;
                    self.state().pushed += push.batches.len() as u64;
                    let over = push.error.is_some() || push.preferred_read_replica.is_some();
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
            for partition in failed {
                dropped.extend(positions.remove(&partition).map(|at| (partition, at)));
            }
        }
    }

    /// What was under way before the client asked anew.
    async fn push_late(
        &self,
        mut asked: pb::FetchPosition,
        pushes: &mpsc::Sender<Result<wire::FetchStreamResponse, Status>>,
    ) {
        let partition = asked.partition.as_ref().unwrap().partition;
        asked.leader_epoch = Some(self.state().leader(partition).1);
        // Thrown away by the client while it had nobody to ask.
        drop(self.read(&mut asked));
        let mut late: Vec<_> = self.read(&mut asked).into_iter().collect();
        let refusal = Refusal::new(ErrorCode::FencedLeaderEpoch, "as the test wants");
        late.push(wire::FetchStreamResponse {
            partition: asked.partition.clone(),
            subscription: asked.subscription,
            error: Some(refusal.into()),
            ..Default::default()
        });
        self.state().late_pushed += 1;
        for push in late {
            let _ = pushes.send(Ok(push)).await;
        }
    }

    /// What comes next; None: nothing yet.
    fn read(&self, position: &mut pb::FetchPosition) -> Option<wire::FetchStreamResponse> {
        let mut state = self.state();
        let at = position.partition.clone().unwrap();
        let mut push = wire::FetchStreamResponse {
            partition: Some(at.clone()),
            subscription: position.subscription,
            ..Default::default()
        };
        let mut refuse = |refusal: Refusal| {
            push.error = Some(refusal.into());
            Some(push.clone())
        };
        let lagging = state.lagging > 0;
        if lagging || !state.topics.contains_key(&at.topic) {
            state.lagging = state.lagging.saturating_sub(1);
            return refuse(Refusal::new(ErrorCode::UnknownTopic, "as the test wants"));
        }
        let follower = state.follower.filter(|_| position.client_rack.is_some());
        let here = follower.filter(|follower| follower.node == self.number);
        let checked = match here {
            Some(follower) => {
                follower.refuses.map_or(Ok(()), |code| Err(Refusal::new(code, "as the test wants")))
            }
            None => state.check_leader(self.number, at.partition, position.leader_epoch),
        };
        if let Err(refusal) = checked {
            return refuse(refusal);
        }
        let in_rack = position.client_rack.as_deref() == Some(NEAR);
        if let Some(follower) = follower.filter(|near| near.in_sync && here.is_none() && in_rack) {
            state.named += 1;
            push.preferred_read_replica = Some(follower.node as i32);
            return Some(push);
        }
        let log = &state.topics[&at.topic].1[at.partition as usize];
        let offset = position.offset as u64;
        if offset < log.start || offset > log.end {
            return refuse(Refusal::new(ErrorCode::OffsetOutOfRange, "as the rules want"));
        }
        let committed = position.isolation_level() == IsolationLevel::ReadCommitted;
        let end = if committed { log.last_stable() } else { log.end };
        if offset >= end {
            return None;
        }
        let (batches, next) = log.read(offset, position.max_bytes as usize, end);
        position.offset = next as i64;
        (push.high_watermark, push.log_start_offset) = (log.end as i64, log.start as i64);
        push.last_stable_offset = log.last_stable() as i64;
        if committed {
            push.aborted_transactions = log.aborted(offset, next);
        }
        push.batches = match state.garbled.checked_sub(1) {
            Some(left) => {
                state.garbled = left;
                vec![0; batches.len()].into()
            }
            None => batches,
        };
        state.followed += usize::from(here.is_some());
        Some(push)
    }

    fn list_offsets(&self, request: pb::ListOffsetsRequest) -> pb::ListOffsetsResponse {
        let state = self.state();
        let results = request.queries.into_iter().map(|query| {
            let committed = query.isolation_level() == IsolationLevel::ReadCommitted;
            let at = query.partition.unwrap();
            let log = &state.topics[&at.topic].1[at.partition as usize];
            let offset = match query.at.unwrap() {
                pb::offset_query::At::Earliest(_) => log.start as i64,
                pb::offset_query::At::Latest(_) if committed => log.last_stable() as i64,
                // Nothing is ever cut off here, so what was read in any epoch is still there.
                pb::offset_query::At::Latest(_) | pb::offset_query::At::EndOfEpoch(_) => {
                    log.end as i64
                }
                pb::offset_query::At::TimestampMs(_) | pb::offset_query::At::MaxTimestamp(_) => -1,
            };
            pb::OffsetResult { partition: Some(at), offset, timestamp_ms: -1, ..Default::default() }
        });
        pb::ListOffsetsResponse { results: results.collect() }
    }
}

/// X19: a batch of a transaction makes its partition part of it. One that does not say so is of none.
fn begin(state: &mut State, request: &wire::ProduceStreamRequest) -> Result<(), ErrorCode> {
    let (header, _) = produced(request.batch.clone())?;
    match (header.attributes.is_transactional(), header.producer) {
        (true, Some(stamp)) => {
            let at = request.partition.as_ref().unwrap();
            let partition = (at.topic.clone(), at.partition);
            let id = &request.transactional_id;
            state.transactions.add(id, (stamp.id, stamp.epoch), partition)
        }
        (true, None) => Err(ErrorCode::InvalidRecord),
        (false, _) if request.transactional_id.is_empty() => Ok(()),
        (false, _) => Err(ErrorCode::InvalidRequest),
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
                        ReceiverStream::new(stream)
                    });
                    Grpc::new(ProstCodec::default()).streaming(call, request).await
                }
                "FetchStream" => {
                    let call = Call(|requests| {
                        let (pushes, stream) = mpsc::channel(64);
                        tokio::spawn(node.clone().serve_fetch(requests, pushes));
                        ReceiverStream::new(stream)
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
        let request = request.into_inner();
        if request.allow_auto_topic_creation && self.state().creates_topics {
            self.create_missing(&request.topics);
        }
        let answer = self.describe(request.topics);
        self.state().described += 1;
        self.changed.notify_waiters();
        Ok(Response::new(answer))
    }

    async fn watch_metadata(
        &self,
        request: Request<pb::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        let names = request.into_inner().topics;
        let (pushes, stream) = mpsc::channel(64);
        tokio::spawn(self.clone().serve_metadata(names, pushes));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Node {
    /// The whole picture whenever something in it has changed.
    async fn serve_metadata(
        self,
        names: Vec<String>,
        pushes: mpsc::Sender<Result<pb::WatchMetadataResponse, Status>>,
    ) {
        let mut last = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mute = self.state().mute;
            let described = self.describe(names.clone());
            if !mute && last.as_ref() != Some(&described) {
                last = Some(described.clone());
                let push = pb::WatchMetadataResponse {
                    topics: described.topics,
                    deleted_topics: described.unknown_topics,
                    nodes: described.nodes,
                    metadata_offset: described.metadata_offset,
                    as_of: None,
                };
                if pushes.send(Ok(push)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = changed => {}
                () = pushes.closed() => return,
            }
        }
    }

    fn create_missing(&self, names: &[String]) {
        let mut state = self.state();
        for name in names.iter().filter(|name| !name.starts_with("__")) {
            if !state.topics.contains_key(name) {
                state.topics.insert(name.clone(), (TopicId::random(), vec![FakeLog::default()]));
                state.offset += 1;
            }
        }
    }

    fn describe(&self, names: Vec<String>) -> pb::DescribeTopicsResponse {
        let state = self.state();
        let mut answer =
            pb::DescribeTopicsResponse { metadata_offset: state.offset, ..Default::default() };
        for name in names {
            let Some((topic_id, logs)) = state.topics.get(&name) else {
                answer.unknown_topics.push(name);
                continue;
            };
            let partitions = (0..logs.len() as i32).map(|partition| {
                let (leader, leader_epoch) = state.leader(partition);
                let leader_id = leader.map_or(-1, |leader| leader as i32);
                let follower = state.follower.filter(|follower| follower.in_sync);
                let in_sync = leader.into_iter().chain(follower.map(|follower| follower.node));
                let in_sync_replicas = in_sync.map(|node| node as i32).collect();
                pb::PartitionMetadata {
                    partition,
                    leader_id,
                    leader_epoch,
                    in_sync_replicas,
                    ..Default::default()
                }
            });
            answer.topics.push(pb::TopicMetadata {
                name,
                topic_id: topic_id.to_wire(),
                internal: false,
                partitions: partitions.collect(),
            });
        }
        let nodes = (0..).zip(&state.endpoints).map(|(node_id, endpoint)| pb::Node {
            node_id,
            endpoint: endpoint.clone(),
            rack: match state.follower {
                Some(follower) if follower.node as i32 == node_id => NEAR.to_owned(),
                _ => String::new(),
            },
            ..Default::default()
        });
        answer.nodes = nodes.collect();
        answer
    }
}

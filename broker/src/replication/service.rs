//! `troupe.internal.v1.ReplicationService`, by hand: batches go out as they lie in memory or in a mapped file.

use super::sender::{ChannelName, FollowerSink, Push, SharedStream};
use crate::context::Context;
use crate::grpc::{
    MessageReader, Outgoing, Requests, ResponseBody, decode, encode, encode_with_pieces, response,
};
use crate::page_cache;
use crate::partition::{CloseFollower, FollowerReport, OpenFollower, PartitionHandle};
use bytes::Bytes;
use http::{Request, Response};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use troupe_machines::replica::{Follower, Position, ReplicaEnd};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionId, TopicId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::replicate_partitions_response::Refusal;
use troupe_proto::wire::ReplicatePartitionsResponse;

/// The field of the batches in an answer.
const BATCHES_TAG: u32 = 15;
/// Pushes that are joined into one write.
const PUSHES_PER_WRITE: usize = 64;
/// Writes that wait for the connection; the bytes in them are bounded by the follower's credit.
const WRITES_AHEAD: usize = 4;

static NEXT_STREAM: AtomicU64 = AtomicU64::new(1);

#[derive(Clone)]
pub struct ReplicationService {
    context: Arc<Context>,
}

impl ReplicationService {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn dispatch(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        if method != "ReplicatePartitions" {
            let message = format!("ReplicationService has no method `{method}`");
            return Err(Status::unimplemented(message));
        }
        let max_request = self.context.config.max_request_bytes.0 as usize;
        let requests = MessageReader::new(request.into_body(), max_request);
        let (outgoing, body) = ResponseBody::channel(WRITES_AHEAD);
        tokio::spawn(serve(self.context, requests, outgoing));
        Ok(response(body))
    }
}

impl NamedService for ReplicationService {
    const NAME: &'static str = "troupe.internal.v1.ReplicationService";
}

impl tower::Service<Request<Body>> for ReplicationService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.clone().dispatch(request).unwrap_or_else(Status::into_http);
        Box::pin(async move { Ok(answer) })
    }
}

/// One stream, to its end.
async fn serve(context: Arc<Context>, mut requests: Requests, outgoing: mpsc::Sender<Outgoing>) {
    let (pushes, pushed) = mpsc::unbounded_channel();
    let name = NEXT_STREAM.fetch_add(1, Ordering::Relaxed);
    let stream = Arc::new(SharedStream::new(name, pushes));
    let writer = tokio::spawn(write(pushed, outgoing.clone()));
    let shutdown = context.shutdown.clone();
    let mut leading = Leading { context, stream, follower: None, channels: HashMap::new() };
    let end = loop {
        let request = tokio::select! {
            request = requests.next() => request,
            () = outgoing.closed() => break None,
            () = shutdown.cancelled() => {
                let message = "the node is stopping";
                break Some(Error::new(ErrorCode::ShuttingDown, message).into());
            }
        };
        let handled = match request {
            Ok(Some(message)) => decode(message).and_then(|request| leading.on_request(request)),
            Ok(None) => break None,
            Err(status) => Err(status),
        };
        if let Err(status) = handled {
            break Some(status);
        }
    };
    leading.close();
    if let Some(status) = end {
        // The follower may be gone.
        let _ = outgoing.send(Err(status)).await;
    }
    // What is still to be written has nobody to read it.
    writer.abort();
}

/// The leader's side of a stream.
struct Leading {
    context: Arc<Context>,
    stream: Arc<SharedStream>,
    /// Known from the first message on.
    follower: Option<Follower>,
    channels: HashMap<u32, Arc<PartitionHandle>>,
}

impl Leading {
    fn on_request(&mut self, request: pb::ReplicatePartitionsRequest) -> Result<(), Status> {
        let follower = match (self.follower, request.follower) {
            (Some(follower), _) => follower,
            (None, Some(named)) => {
                let follower = self.check(&named, request.answers_rounds)?;
                *self.follower.insert(follower)
            }
            (None, None) => {
                let message = "the first message has to say who follows";
                return Err(Error::new(ErrorCode::InvalidRequest, message).into());
            }
        };
        if request.credit_bytes > 0 {
            self.stream.grant(request.credit_bytes);
        }
        for channel in request.close {
            if let Some(handle) = self.channels.remove(&channel) {
                let name = ChannelName { stream: self.stream.name(), channel };
                handle.command(CloseFollower { node: follower.node, name });
            }
        }
        for open in request.open {
            self.open(follower, &open);
        }
        for end in request.ends {
            if let Some(handle) = self.channels.get(&end.channel) {
                handle.command(FollowerReport {
                    node: follower.node,
                    name: ChannelName { stream: self.stream.name(), channel: end.channel },
                    end: ReplicaEnd {
                        log_end: Offset(end.log_end_offset),
                        flushed_end: Offset(end.flushed_end_offset),
                    },
                    round: end.round,
                });
            }
        }
        Ok(())
    }

    fn check(&self, named: &pb::Follower, answers_rounds: bool) -> Result<Follower, Status> {
        let identity = self.context.controller.identity();
        if named.cluster_id != identity.cluster_id {
            let message =
                format!("this is cluster `{}`, not `{}`", identity.cluster_id, named.cluster_id);
            return Err(Error::new(ErrorCode::InconsistentClusterId, message).into());
        }
        if named.leader_id != identity.node_id.0 {
            let message = format!("this is node {}, not {}", identity.node_id, named.leader_id);
            return Err(Error::new(ErrorCode::InvalidRequest, message).into());
        }
        let (node, broker_epoch) = (NodeId(named.node_id), BrokerEpoch(named.broker_epoch));
        let image = self.context.metadata.image.borrow();
        match image.broker(node) {
            Some(known) if known.epoch > broker_epoch => {
                let message =
                    format!("node {node} has registered anew; broker epoch {broker_epoch} is over");
                Err(Error::new(ErrorCode::StaleBrokerEpoch, message).into())
            }
            // One that is not known here yet has registered a moment ago.
            Some(_) | None => Ok(Follower { node, broker_epoch, answers_rounds }),
        }
    }

    fn open(&mut self, follower: Follower, open: &pb::OpenChannel) {
        let channel = open.channel;
        let found = self.find(open).inspect(|handle| {
            let sink = FollowerSink::new(Arc::clone(&self.stream), channel, Arc::clone(handle));
            let position = Position {
                leader_epoch: LeaderEpoch(open.leader_epoch),
                end: ReplicaEnd {
                    log_end: Offset(open.log_end_offset),
                    flushed_end: Offset(open.flushed_end_offset),
                },
                last_epoch: open.last_epoch.map(LeaderEpoch),
            };
            // Without an actor the sink is dropped, and the follower hears of it.
            handle.command(OpenFollower { follower, position, sink });
        });
        match found {
            Ok(handle) => {
                self.channels.insert(channel, handle);
            }
            Err(error) => {
                self.stream.end(channel, Refusal::Error(error.into()));
            }
        }
    }

    fn find(&self, open: &pb::OpenChannel) -> Result<Arc<PartitionHandle>, Error> {
        let unknown = || {
            let message = "this node does not know the topic (yet)";
            Error::new(ErrorCode::UnknownTopic, message)
        };
        let topic_id = TopicId::from_wire(&open.topic_id).ok_or_else(unknown)?;
        let name = {
            let image = self.context.metadata.image.borrow();
            Arc::clone(&image.topic_by_id(topic_id).ok_or_else(unknown)?.name)
        };
        let number = i32::try_from(open.partition).unwrap_or(i32::MAX);
        let (key, handle) =
            self.context.metadata.registry.partition(&name, &open.topic_id, number)?;
        debug_assert_eq!(key.partition, PartitionId(open.partition));
        handle.ok_or_else(|| {
            Error::new(ErrorCode::NotLeader, "this node has no replica of the partition")
        })
    }

    /// Tells every leader that its follower is gone.
    fn close(&mut self) {
        self.stream.close();
        let Some(follower) = self.follower else { return };
        for (channel, handle) in self.channels.drain() {
            let name = ChannelName { stream: self.stream.name(), channel };
            handle.command(CloseFollower { node: follower.node, name });
        }
    }
}

/// Writes what is pushed, joined as it comes.
async fn write(mut pushed: mpsc::UnboundedReceiver<Push>, outgoing: mpsc::Sender<Outgoing>) {
    let mut pushes = Vec::with_capacity(PUSHES_PER_WRITE);
    while pushed.recv_many(&mut pushes, PUSHES_PER_WRITE).await > 0 {
        let mut written = Vec::with_capacity(2 * pushes.len());
        for push in pushes.drain(..) {
            match push {
                Push::Slice { channel, ends, round, pieces } => {
                    for piece in &pieces {
                        page_cache::make_resident(piece).await;
                    }
                    let head = ReplicatePartitionsResponse {
                        channel,
                        high_watermark: ends.high_watermark.0,
                        log_start_offset: ends.log_start.0,
                        refusal: None,
                        round,
                        batches: Bytes::new(),
                    };
                    encode_with_pieces(&head, BATCHES_TAG, pieces, &mut written);
                }
                Push::End { channel, refusal } => {
                    let refusal = Some(refusal);
                    written.push(encode(&ReplicatePartitionsResponse {
                        channel,
                        refusal,
                        ..Default::default()
                    }));
                }
            }
        }
        if outgoing.send(Ok(written)).await.is_err() {
            return;
        }
    }
}

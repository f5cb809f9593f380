//! A follower's end: one stream to every node that leads something which a shard of this node follows.

use super::credit_pool::CreditPool;
use crate::controller_channel::ControllerChannel;
use crate::metadata_cache::MetadataCache;
use crate::partition::{
    Credit, CreditSource, FromLeader, LeaderSays, LeaderStreams, ReplicaHandle,
    ReplicationThrottles, Slice,
};
use crate::peers::connect_bulk;
use futures::{Stream, StreamExt, stream};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use troupe_machines::replica::{Divergence, FollowSession, LeaderEnds, Position, ReplicaEnd};
use troupe_proto::bulk::replicate_partitions;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, NodeId, Offset, PartitionKey};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::replicate_partitions_response::Refusal;
use troupe_proto::wire::ReplicatePartitionsResponse;

/// Answers that are handed to the actors together, if they came together.
const ANSWERS_TOGETHER: usize = 64;

/// The streams of one shard, by leading node.
pub struct Replicator {
    shard: usize,
    /// Where leaders are.
    metadata: Arc<MetadataCache>,
    /// Who this node is.
    controller: Arc<ControllerChannel>,
    /// What a leader may push ahead on a stream.
    credit_bytes: u64,
    throttles: Arc<ReplicationThrottles>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// To each leader one for those that are held back, and one for the rest.
    streams: BTreeMap<(NodeId, bool), Arc<LeaderStream>>,
    /// Where each partition is followed.
    followed: HashMap<PartitionKey, Followed>,
}

struct Followed {
    stream: Arc<LeaderStream>,
    session: FollowSession,
    channel: u32,
}

/// One stream: what is to be said on it, and who listens.
struct LeaderStream {
    leader: NodeId,
    said: Mutex<Said>,
    /// Something is to be said.
    more: Notify,
    killed: CancellationToken,
}

struct Said {
    next_channel: u32,
    listeners: HashMap<u32, Listener>,
    open: Vec<pb::OpenChannel>,
    close: Vec<u32>,
    /// And the newest round that is answered; 0: none.
    ends: BTreeMap<u32, (ReplicaEnd, u64)>,
    credit: CreditPool,
    ended: bool,
}

struct Listener {
    replica: Arc<dyn ReplicaHandle>,
    session: FollowSession,
}

/// A stream, as chaos sees it.
pub struct StreamView {
    pub leader: NodeId,
    /// Partitions that are followed by it.
    pub channels: usize,
}

impl Replicator {
    pub fn new(
        shard: usize,
        metadata: Arc<MetadataCache>,
        controller: Arc<ControllerChannel>,
        credit_bytes: u64,
        throttles: Arc<ReplicationThrottles>,
    ) -> Self {
        Self { shard, metadata, controller, credit_bytes, throttles, state: Mutex::default() }
    }

    /// The streams of now. One that is about to break because it was killed is none.
    pub fn streams(&self) -> Vec<StreamView> {
        let state = self.lock();
        let stands =
            |stream: &&Arc<LeaderStream>| !(stream.killed.is_cancelled() || stream.has_ended());
        let standing = state.streams.values().filter(stands);
        standing
            .map(|stream| StreamView {
                leader: stream.leader,
                channels: stream.lock().listeners.len(),
            })
            .collect()
    }

    /// Chaos: its streams break. False if there are none.
    pub fn kill(&self, leader: NodeId) -> bool {
        let state = self.lock();
        let of_leader = state.streams.values().filter(|stream| stream.leader == leader);
        let standing = of_leader.filter(|stream| !stream.has_ended());
        standing.inspect(|stream| stream.killed.cancel()).count() > 0
    }

    /// Every stream breaks and is opened again, under the broker epoch of then.
    pub fn renew(&self) {
        self.lock().streams.values().for_each(|stream| stream.killed.cancel());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaderStreams for Replicator {
    fn open(
        &self,
        leader: NodeId,
        replica: &Arc<dyn ReplicaHandle>,
        session: FollowSession,
        position: Position,
        throttled: bool,
    ) {
        if self.metadata.shutdown.is_cancelled() {
            let says = LeaderSays::Closed(stopping());
            return replica.hear_leader(FromLeader { session, says });
        }
        let key = replica.key();
        let mut state = self.lock();
        if let Some(before) = state.followed.remove(&key) {
            before.stream.forget(before.channel);
        }
        let name = (leader, throttled);
        let known = state.streams.get(&name).filter(|stream| !stream.has_ended()).cloned();
        let stream = known.unwrap_or_else(|| {
            let killed = self.metadata.shutdown.child_token();
            let throttles = throttled.then(|| Arc::clone(&self.throttles));
            let credit = CreditPool::new(self.credit_bytes, throttles);
            let stream = Arc::new(LeaderStream::new(leader, killed, credit));
            // Also those to nodes that are there no more.
            state.streams.retain(|_, known| !known.has_ended());
            state.streams.insert(name, Arc::clone(&stream));
            tracing::debug!(shard = self.shard, %leader, throttled, "a replication stream opens");
            let (metadata, controller) = (Arc::clone(&self.metadata), Arc::clone(&self.controller));
            tokio::spawn(Arc::clone(&stream).run(metadata, controller));
            stream
        });
        match stream.open(replica, session, position) {
            Some(channel) => {
                state.followed.insert(key, Followed { stream, session, channel });
            }
            // It ended just now; the machine tries again.
            None => {
                let says = LeaderSays::Closed(broken());
                replica.hear_leader(FromLeader { session, says });
            }
        }
    }

    fn close(&self, key: PartitionKey, session: FollowSession) {
        let mut state = self.lock();
        if state.followed.get(&key).is_some_and(|followed| followed.session == session)
            && let Some(followed) = state.followed.remove(&key)
        {
            followed.stream.forget(followed.channel);
        }
    }

    fn abandon(&self, key: PartitionKey) {
        if let Some(followed) = self.lock().followed.remove(&key) {
            followed.stream.forget(followed.channel);
        }
    }

    fn report(&self, key: PartitionKey, session: FollowSession, end: ReplicaEnd, round: u64) {
        let state = self.lock();
        if let Some(followed) = state.followed.get(&key)
            && followed.session == session
        {
            followed.stream.report(followed.channel, end, round);
        }
    }
}

fn stopping() -> Error {
    Error::new(ErrorCode::ShuttingDown, "this node is stopping")
}

fn broken() -> Error {
    Error::new(ErrorCode::LeaderNotAvailable, "the stream to the leader broke")
}

impl LeaderStream {
    fn new(leader: NodeId, killed: CancellationToken, credit: CreditPool) -> Self {
        let said = Said {
            next_channel: 0,
            listeners: HashMap::new(),
            open: Vec::new(),
            close: Vec::new(),
            ends: BTreeMap::new(),
            credit,
            ended: false,
        };
        Self { leader, said: Mutex::new(said), more: Notify::new(), killed }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// The channel's number; `None` if the stream has ended.
    fn open(
        &self,
        replica: &Arc<dyn ReplicaHandle>,
        session: FollowSession,
        position: Position,
    ) -> Option<u32> {
        let mut said = self.lock();
        if said.ended {
            return None;
        }
        said.next_channel += 1;
        let channel = said.next_channel;
        said.listeners.insert(channel, Listener { replica: Arc::clone(replica), session });
        let key = replica.key();
        said.open.push(pb::OpenChannel {
            channel,
            topic_id: key.topic_id.to_wire(),
            partition: key.partition.0,
            leader_epoch: position.leader_epoch.0,
            log_end_offset: position.end.log_end.0,
            flushed_end_offset: position.end.flushed_end.0,
            last_epoch: position.last_epoch.map(|epoch| epoch.0),
            log_start_offset: position.end.log_start.map(|start| start.0),
            tombstones_gone_offset: position.tombstones_gone_below.map(|offset| offset.0),
        });
        self.more.notify_one();
        Some(channel)
    }

    fn forget(&self, channel: u32) {
        let mut said = self.lock();
        if said.listeners.remove(&channel).is_some() {
            said.ends.remove(&channel);
            said.close.push(channel);
            self.more.notify_one();
        }
    }

    fn report(&self, channel: u32, end: ReplicaEnd, round: u64) {
        let mut said = self.lock();
        if said.listeners.contains_key(&channel) {
            let unsaid = said.ends.get(&channel).map_or(0, |(_, unsaid)| *unsaid);
            said.ends.insert(channel, (end, round.max(unsaid)));
            self.more.notify_one();
        }
    }

    /// What is to be said now, if anything.
    fn next_request(&self) -> Option<pb::ReplicatePartitionsRequest> {
        let mut said = self.lock();
        let is_quiet = said.open.is_empty() && said.close.is_empty() && said.ends.is_empty();
        if is_quiet && !said.credit.is_worth_a_message() {
            return None;
        }
        Some(pb::ReplicatePartitionsRequest {
            follower: None,
            open: std::mem::take(&mut said.open),
            close: std::mem::take(&mut said.close),
            ends: std::mem::take(&mut said.ends)
                .into_iter()
                .map(|(channel, (end, round))| pb::FollowerEnd {
                    channel,
                    log_end_offset: end.log_end.0,
                    flushed_end_offset: end.flushed_end.0,
                    round,
                    log_start_offset: end.log_start.map(|start| start.0),
                })
                .collect(),
            credit_bytes: said.credit.take(),
            answers_rounds: false,
        })
    }

    fn requests(
        self: &Arc<Self>,
        first: pb::ReplicatePartitionsRequest,
    ) -> impl Stream<Item = pb::ReplicatePartitionsRequest> + Send + 'static {
        let me = Arc::clone(self);
        let rest = stream::unfold(me, |me| async move {
            loop {
                if let Some(request) = me.next_request() {
                    return Some((request, me));
                }
                let pause = me.lock().credit.pause();
                match pause {
                    Some(pause) => {
                        let _ = tokio::time::timeout(pause, me.more.notified()).await;
                    }
                    None => me.more.notified().await,
                }
            }
        });
        stream::once(async move { first }).chain(rest)
    }

    async fn run(
        self: Arc<Self>,
        metadata: Arc<MetadataCache>,
        controller: Arc<ControllerChannel>,
    ) {
        let ended = tokio::select! {
            ended = self.follow(&metadata, &controller) => ended,
            () = self.killed.cancelled() => Err(broken()),
        };
        let error = ended.err().unwrap_or_else(broken);
        tracing::debug!(leader = %self.leader, %error, "a replication stream ended");
        let listeners = {
            let mut said = self.lock();
            said.ended = true;
            std::mem::take(&mut said.listeners)
        };
        for Listener { replica, session } in listeners.into_values() {
            let says = LeaderSays::Closed(error.clone());
            replica.hear_leader(FromLeader { session, says });
        }
    }

    async fn follow(
        self: &Arc<Self>,
        metadata: &MetadataCache,
        controller: &ControllerChannel,
    ) -> Result<(), Error> {
        let endpoint = {
            let image = metadata.image.borrow();
            image.broker(self.leader).map(|broker| broker.endpoint.clone())
        };
        let endpoint = endpoint.ok_or_else(|| {
            let message = format!("node {} is not registered", self.leader);
            Error::new(ErrorCode::LeaderNotAvailable, message)
        })?;
        let channel = connect_bulk(&controller.network, self.leader, &endpoint).await?;
        let identity = controller.identity();
        let first = pb::ReplicatePartitionsRequest {
            follower: Some(pb::Follower {
                cluster_id: identity.cluster_id,
                node_id: identity.node_id.0,
                broker_epoch: identity.broker_epoch.0,
                leader_id: self.leader.0,
            }),
            answers_rounds: true,
            credit_bytes: self.lock().credit.take_at_first(),
            ..Default::default()
        };
        let answers = replicate_partitions(channel, self.requests(first)).await?;
        let mut answers = answers.ready_chunks(ANSWERS_TOGETHER);
        while let Some(together) = answers.next().await {
            self.hand_out(together)?;
        }
        Ok(())
    }

    /// Gives every actor what came for it; batches of one partition that came together, together.
    fn hand_out(
        self: &Arc<Self>,
        together: Vec<Result<ReplicatePartitionsResponse, Status>>,
    ) -> Result<(), Error> {
        let mut batches: Option<Gathered> = None;
        for answer in together {
            let answer = match answer {
                Ok(answer) => answer,
                Err(status) => {
                    self.deliver(batches.take());
                    return Err(status.into());
                }
            };
            match answer.refusal {
                None => {
                    if batches.as_ref().is_some_and(|held| held.channel != answer.channel) {
                        self.deliver(batches.take());
                    }
                    let held = batches.get_or_insert_with(|| Gathered::new(answer.channel));
                    held.bytes += answer.batches.len() as u64;
                    held.round = held.round.max(answer.round);
                    held.slices.push(Slice {
                        read_from: answer.read_offset.map(Offset),
                        batches: answer.batches,
                    });
                    held.ends = LeaderEnds {
                        high_watermark: Offset(answer.high_watermark),
                        log_start: Offset(answer.log_start_offset),
                        everyone_has: Offset(answer.everyone_has_offset),
                        tombstones_gone_below: Offset(answer.tombstones_gone_offset),
                    };
                }
                Some(refusal) => {
                    self.deliver(batches.take());
                    self.refused(answer.channel, refusal);
                }
            }
        }
        self.deliver(batches);
        Ok(())
    }

    fn deliver(self: &Arc<Self>, gathered: Option<Gathered>) {
        let Some(Gathered { channel, slices, ends, round, bytes }) = gathered else { return };
        let me: Weak<Self> = Arc::downgrade(self);
        let credit = Credit::new(me, bytes);
        let listener = {
            let said = self.lock();
            let found = said.listeners.get(&channel);
            found.map(|listener| (Arc::clone(&listener.replica), listener.session))
        };
        // Of a channel that was closed something may still be on its way.
        if let Some((replica, session)) = listener {
            let says = LeaderSays::Batches { slices, ends, round, credit };
            replica.hear_leader(FromLeader { session, says });
        }
    }

    /// The leader has closed the channel.
    fn refused(&self, channel: u32, refusal: Refusal) {
        let Listener { replica, session } = {
            let mut said = self.lock();
            let Some(listener) = said.listeners.remove(&channel) else { return };
            said.ends.remove(&channel);
            // The other end forgets it too, with whatever is said next.
            said.close.push(channel);
            listener
        };
        let says = match refusal {
            Refusal::Divergence(divergence) => LeaderSays::Diverging(Divergence {
                leader_epoch: divergence.leader_epoch.map(LeaderEpoch),
                end_offset: Offset(divergence.end_offset),
            }),
            Refusal::OutOfRange(range) => LeaderSays::OutOfRange {
                log_start: Offset(range.log_start_offset),
                log_end: Offset(range.log_end_offset),
            },
            Refusal::BeginAnew(anew) => {
                LeaderSays::BeginAnew { log_start: Offset(anew.log_start_offset) }
            }
            Refusal::Error(detail) => LeaderSays::Closed(detail.into()),
        };
        replica.hear_leader(FromLeader { session, says });
    }
}

impl CreditSource for LeaderStream {
    /// Small grants wait until they are worth a message.
    fn give_back(&self, bytes: u64) {
        let mut said = self.lock();
        said.credit.give_back(bytes);
        if said.credit.is_worth_a_message() {
            self.more.notify_one();
        }
    }
}

/// Batches of one channel that came together.
struct Gathered {
    channel: u32,
    slices: Vec<Slice>,
    ends: LeaderEnds,
    round: u64,
    bytes: u64,
}

impl Gathered {
    fn new(channel: u32) -> Self {
        Self { channel, slices: Vec::new(), ends: LeaderEnds::default(), round: 0, bytes: 0 }
    }
}

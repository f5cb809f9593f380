//! A leader's end: what a follower says on its stream, handed to the partitions that it follows.

use crate::controller_channel::ControllerChannel;
use crate::metadata_cache::MetadataCache;
use crate::partition::{
    ChannelName, CloseFollower, FollowerReport, FollowerSink, OpenFollower, PartitionHandle, Push,
    PushStream,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use troupe_machines::replica::{Follower, Position, ReplicaEnd};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionId, TopicId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::replicate_partitions_response::Refusal;

static NEXT_STREAM: AtomicU64 = AtomicU64::new(1);

/// The leader's end of a stream.
pub struct Leading {
    /// What is led here, and who has registered.
    metadata: Arc<MetadataCache>,
    /// Who this node is.
    controller: Arc<ControllerChannel>,
    stream: Arc<PushStream>,
    /// Known from the first message on.
    follower: Option<Follower>,
    channels: HashMap<u32, Arc<PartitionHandle>>,
}

impl Leading {
    /// And what is to be written on the stream.
    pub fn begin(
        metadata: Arc<MetadataCache>,
        controller: Arc<ControllerChannel>,
    ) -> (Self, mpsc::UnboundedReceiver<Push>) {
        let (pushes, pushed) = mpsc::unbounded_channel();
        let name = NEXT_STREAM.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(PushStream::new(name, pushes));
        let channels = HashMap::new();
        (Self { metadata, controller, stream, follower: None, channels }, pushed)
    }

    /// # Errors
    /// The stream is over.
    pub fn on_request(&mut self, request: pb::ReplicatePartitionsRequest) -> Result<(), Error> {
        let follower = match (self.follower, request.follower) {
            (Some(follower), _) => follower,
            (None, Some(named)) => {
                let follower = self.check(&named, request.answers_rounds)?;
                *self.follower.insert(follower)
            }
            (None, None) => {
                let message = "the first message has to say who follows";
                return Err(Error::new(ErrorCode::InvalidRequest, message));
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
                        log_start: end.log_start_offset.map(Offset),
                    },
                    round: end.round,
                });
            }
        }
        Ok(())
    }

    fn check(&self, named: &pb::Follower, answers_rounds: bool) -> Result<Follower, Error> {
        let identity = self.controller.identity();
        if named.cluster_id != identity.cluster_id {
            let message =
                format!("this is cluster `{}`, not `{}`", identity.cluster_id, named.cluster_id);
            return Err(Error::new(ErrorCode::InconsistentClusterId, message));
        }
        if named.leader_id != identity.node_id.0 {
            let message = format!("this is node {}, not {}", identity.node_id, named.leader_id);
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        let (node, broker_epoch) = (NodeId(named.node_id), BrokerEpoch(named.broker_epoch));
        let image = self.metadata.image.borrow();
        match image.broker(node) {
            Some(known) if known.epoch > broker_epoch => {
                let message =
                    format!("node {node} has registered anew; broker epoch {broker_epoch} is over");
                Err(Error::new(ErrorCode::StaleBrokerEpoch, message))
            }
            // One that is not known here yet has registered a moment ago.
            Some(_) | None => Ok(Follower { node, broker_epoch, answers_rounds }),
        }
    }

    fn open(&mut self, follower: Follower, open: &pb::OpenChannel) {
        let channel = open.channel;
        let found = self.find(open).inspect(|handle| {
            let pusher = Arc::<PartitionHandle>::clone(handle);
            let sink = FollowerSink::new(Arc::clone(&self.stream), channel, pusher);
            let position = Position {
                leader_epoch: LeaderEpoch(open.leader_epoch),
                end: ReplicaEnd {
                    log_end: Offset(open.log_end_offset),
                    flushed_end: Offset(open.flushed_end_offset),
                    log_start: open.log_start_offset.map(Offset),
                },
                last_epoch: open.last_epoch.map(LeaderEpoch),
                tombstones_gone_below: open.tombstones_gone_offset.map(Offset),
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
            let image = self.metadata.image.borrow();
            Arc::clone(&image.topic_by_id(topic_id).ok_or_else(unknown)?.name)
        };
        let number = i32::try_from(open.partition).unwrap_or(i32::MAX);
        let (key, handle) = self.metadata.registry.partition(&name, &open.topic_id, number)?;
        debug_assert_eq!(key.partition, PartitionId(open.partition));
        handle.ok_or_else(|| {
            Error::new(ErrorCode::NotLeader, "this node has no replica of the partition")
        })
    }

    /// Tells every leader that its follower is gone.
    pub fn close(&mut self) {
        self.stream.close();
        let Some(follower) = self.follower else { return };
        for (channel, handle) in self.channels.drain() {
            let name = ChannelName { stream: self.stream.name(), channel };
            handle.command(CloseFollower { node: follower.node, name });
        }
    }
}

//! From whom each partition is read: streams to the leaders, or to followers that they name, and what to do when they
//! change.
//!
//! Promise: a partition is asked of one replica at a time, from behind what was received. Another leader is
//! asked as soon as it is known, the same one again only after a pause.

use super::node_stream::NodeStream;
use super::positions::Source;
use super::{Failure, Fetcher, Ready, to_wire};
use crate::client::Missing;
use crate::error::ClientError;
use crate::exclusive::Exclusive;
use crate::metadata::{Leader, LeaderAt, Leadership};
use crate::topic_partition::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::ids::NodeId;
use troupe_proto::log::v1::FetchPosition;

/// The replica that a partition is asked of.
struct ReplicaAt {
    endpoint: Arc<str>,
    /// Whom it follows, if it does not lead.
    leadership: Leadership,
    /// Said to who may be a follower, or may name one.
    client_rack: Option<Arc<str>>,
}

impl Fetcher {
    /// A leader that leads no more may be silent, or not know it yet: its partitions are taken from it.
    pub(super) fn follow_leaders(&mut self) {
        let mut moved = false;
        for (at, topic_id, served_by) in self.positions.with_source() {
            let Leader::Known(leader) = self.client.metadata.leader(&at.topic, at.partition) else {
                continue;
            };
            if served_by == Some(leader.leadership) && self.has_left_rack(&at) {
                self.leave_follower(&at);
                moved = true;
            }
            // Another topic of the same name: the leader of ours will say that it is gone.
            if leader.topic_id == topic_id && served_by != Some(leader.leadership) {
                self.unsubscribe(&at);
                if let Some(tracked) = self.positions.get_mut(&at) {
                    tracked.source = Source::None;
                }
                moved = true;
            }
        }
        if moved {
            self.close_unused();
        }
    }

    pub(super) fn close_unused(&mut self) {
        let numbers = self.streams.iter().map(|open| open.number);
        let unused = numbers.filter(|&stream| self.positions.is_unused(stream));
        for stream in unused.collect::<Vec<_>>() {
            drop(self.close(stream));
        }
    }

    /// The leader has named a follower to be read from.
    pub(super) fn turn_to(&mut self, at: &TopicPartition, node: NodeId) {
        let until = Instant::now() + self.client.connections.config().metadata_max_age;
        let Some(tracked) = self.positions.get_mut(at) else { return };
        tracked.source = Source::None;
        if let Some(by) = tracked.leadership {
            tracked.nearby.turn_to(node, by, until);
        }
        self.close_unused();
    }

    /// On with the leader, from behind what was received.
    pub(super) fn leave_follower(&mut self, at: &TopicPartition) {
        self.unsubscribe(at);
        if let Some(tracked) = self.positions.get_mut(at) {
            tracked.left(Instant::now());
        }
    }

    /// It is read from a follower that is no in-sync replica of the client's rack any more.
    fn has_left_rack(&self, at: &TopicPartition) -> bool {
        let node = self.positions.get(at).and_then(|tracked| tracked.nearby.node());
        node.is_some_and(|node| self.endpoint_near(at, node).is_none())
    }

    fn endpoint_near(&self, at: &TopicPartition, node: NodeId) -> Option<Arc<str>> {
        let rack = self.config.rack.as_deref()?;
        self.client.metadata.follower(&at.topic, at.partition, node, rack)
    }

    /// Whom to ask for a partition: the leader, or whom it has named in its place.
    fn replica(&mut self, at: &TopicPartition, leader: LeaderAt, now: Instant) -> ReplicaAt {
        let named =
            self.positions.get(at).and_then(|at| at.nearby.follower(leader.leadership, now));
        let near = named.and_then(|node| self.endpoint_near(at, node));
        let LeaderAt { leadership, endpoint, .. } = leader;
        let mut client_rack = self.config.rack.clone();
        if let Some(tracked) = self.positions.get_mut(at) {
            match (&near, named) {
                (Some(_), _) => {}
                // The leader knows more than this client does, or the other way round.
                (None, Some(_)) => {
                    tracked.nearby.failed(now);
                    self.stale.insert(at.topic.clone());
                }
                (None, None) => tracked.nearby.leave(),
            }
            if near.is_none() && !tracked.nearby.may_be_sent_on(now) {
                client_rack = None;
            }
        }
        ReplicaAt { endpoint: near.unwrap_or(endpoint), leadership, client_rack }
    }

    /// Who has been read from for long enough is left, for the leader to say whether somebody else is better.
    fn review(&mut self, now: Instant) {
        for at in self.positions.to_review(now) {
            self.unsubscribe(&at);
            if let Some(tracked) = self.positions.get_mut(&at) {
                tracked.source = Source::None;
            }
        }
    }

    /// Finds streams for the partitions that have none.
    pub(super) fn mend(&mut self, now: Instant) {
        self.review(now);
        let mut by_node: BTreeMap<Arc<str>, Vec<(TopicPartition, ReplicaAt)>> = BTreeMap::new();
        for at in self.positions.without_source() {
            let Some(tracked) = self.positions.get_mut(&at) else { continue };
            match self.client.metadata.leader(&at.topic, at.partition) {
                Leader::Known(leader) => {
                    let (led, asks) =
                        (leader.leadership.epoch, tracked.may_ask(leader.leadership, now));
                    match tracked.is_doubtful(led) {
                        _ if !asks => {}
                        Some(after) => self.check(at, after, led),
                        None => {
                            let replica = self.replica(&at, leader, now);
                            let partitions = by_node.entry(replica.endpoint.clone());
                            partitions.or_default().push((at, replica));
                        }
                    }
                }
                // Until it is over, or a leader is found.
                Leader::None if tracked.retry_at.is_some_and(|at| at > now) => {}
                Leader::None => {
                    tracked.refused(now);
                    self.stale.insert(at.topic);
                }
                // Not for want of news: that it was deleted is newer than that it was there.
                Leader::UnknownTopic => {
                    tracked.source = Source::Over;
                    let error = ClientError::unknown_topic(&at.topic);
                    self.ready.push_back(Ready::Failure(Box::new(Failure { at, error })));
                }
            }
        }
        let is_open = |endpoint: &Arc<str>| self.streams.iter().any(|o| o.endpoint == *endpoint);
        let opened = by_node.keys().filter(|endpoint| !is_open(endpoint)).count();
        let nodes = (self.streams.len() + opened).max(1) as u64;
        for (endpoint, partitions) in by_node {
            self.subscribe(endpoint, &partitions, self.config.credit_bytes / nodes);
        }
        if !self.stale.is_empty() && self.refresh.is_none() {
            self.refresh_metadata();
        }
    }

    fn refresh_metadata(&mut self) {
        let stale = std::mem::take(&mut self.stale);
        let topics: Vec<_> = stale.iter().map(|topic| topic.to_string()).collect();
        let client = self.client.clone();
        self.refresh = Some(Exclusive::new(Box::pin(async move {
            if let Err(error) = client.refresh(&topics, Missing::StaysMissing).await {
                tracing::debug!(%error, "metadata refresh");
            }
        })));
    }

    fn subscribe(
        &mut self,
        endpoint: Arc<str>,
        partitions: &[(TopicPartition, ReplicaAt)],
        credit: u64,
    ) {
        let mut positions = Vec::with_capacity(partitions.len());
        let first = self.next_subscription + 1;
        for ((at, replica), subscription) in partitions.iter().zip(first..) {
            let Some(tracked) = self.positions.get(at) else { continue };
            self.next_subscription = subscription;
            positions.push(FetchPosition {
                isolation_level: self.config.isolation.to_wire(),
                leader_epoch: Some(replica.leadership.epoch.0),
                partition: Some(to_wire(at, tracked.topic_id)),
                offset: tracked.received.to_wire(),
                max_bytes: self.config.max_partition_bytes,
                subscription,
                client_rack: replica.client_rack.as_deref().map(str::to_owned),
            });
        }
        let open = self.streams.iter_mut().find(|open| open.endpoint == endpoint);
        let stream = match open {
            // If it has ended, it will say so.
            Some(open) => {
                open.add(positions);
                open.number
            }
            None => {
                self.next_stream += 1;
                let number = self.next_stream;
                let client = self.client.clone();
                let (stream, events) =
                    NodeStream::open(client, endpoint, number, positions, credit.max(1));
                self.streams.push(stream);
                self.events.insert(number, events);
                number
            }
        };
        for ((at, replica), subscription) in partitions.iter().zip(first..) {
            if let Some(tracked) = self.positions.get_mut(at) {
                self.subscribed.remove(&tracked.subscription);
                self.subscribed.insert(subscription, at.clone());
                tracked.asked(replica.leadership, stream, subscription);
            }
        }
    }
}

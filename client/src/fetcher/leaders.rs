//! From whom each partition is read: streams to the leaders, and what to do when they change.
//!
//! Promise: a partition is asked of one leader at a time, from behind what was received. Another leader is
//! asked as soon as it is known, the same one again only after a pause.

use super::node_stream::NodeStream;
use super::positions::Source;
use super::{Failure, Fetcher, Ready, to_wire};
use crate::error::ClientError;
use crate::metadata::{Leader, LeaderAt};
use crate::topic_partition::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::log::v1::FetchPosition;

impl Fetcher {
    /// A leader that leads no more may be silent, or not know it yet: its partitions are taken from it.
    pub(super) fn follow_leaders(&mut self) {
        let mut moved = false;
        for (at, topic_id, served_by) in self.positions.with_source() {
            let Leader::Known(leader) = self.client.metadata.leader(&at.topic, at.partition) else {
                continue;
            };
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

    /// Finds streams for the partitions that have none.
    pub(super) fn mend(&mut self, now: Instant) {
        let mut by_leader: BTreeMap<Arc<str>, Vec<(TopicPartition, LeaderAt)>> = BTreeMap::new();
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
                            let partitions = by_leader.entry(leader.endpoint.clone());
                            partitions.or_default().push((at, leader));
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
        let opened = by_leader.keys().filter(|endpoint| !is_open(endpoint)).count();
        let nodes = (self.streams.len() + opened).max(1) as u64;
        for (endpoint, partitions) in by_leader {
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
        self.refresh = Some(Box::pin(async move {
            if let Err(error) = client.refresh(&topics).await {
                tracing::debug!(%error, "metadata refresh");
            }
        }));
    }

    fn subscribe(
        &mut self,
        endpoint: Arc<str>,
        partitions: &[(TopicPartition, LeaderAt)],
        credit: u64,
    ) {
        let mut positions = Vec::with_capacity(partitions.len());
        let first = self.next_subscription + 1;
        for ((at, leader), subscription) in partitions.iter().zip(first..) {
            let Some(tracked) = self.positions.get(at) else { continue };
            self.next_subscription = subscription;
            positions.push(FetchPosition {
                leader_epoch: Some(leader.leadership.epoch.0),
                partition: Some(to_wire(at, tracked.topic_id)),
                offset: tracked.received.to_wire(),
                max_bytes: self.config.max_partition_bytes,
                subscription,
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
        for ((at, leader), subscription) in partitions.iter().zip(first..) {
            if let Some(tracked) = self.positions.get_mut(at) {
                self.subscribed.remove(&tracked.subscription);
                self.subscribed.insert(subscription, at.clone());
                tracked.asked(leader.leadership, stream, subscription);
            }
        }
    }
}

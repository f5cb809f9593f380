//! From whom each partition is read: streams to the leaders, and what to do when they change.
//!
//! Promise: a partition is asked of one leader at a time, from behind what was received. Another leader is
//! asked as soon as it is known, the same one again only after a pause.

use super::node_stream::NodeStream;
use super::positions::Source;
use super::{Partitions, Reader, Ready, Start};
use crate::error::ClientError;
use crate::metadata::{Leader, LeaderAt};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::ids::{Offset, PartitionId};
use troupe_proto::log::v1::FetchPosition;

impl Reader {
    pub(super) fn on_metadata(&mut self) {
        self.add_partitions();
        self.follow_leaders();
    }

    /// Partitions that the topic got meanwhile: their records are newer than this reader, so it wants all of
    /// them, unless it reads certain partitions or up to an end.
    fn add_partitions(&mut self) {
        if self.config.until_end || self.config.partitions != Partitions::All {
            return;
        }
        let described = self.client.metadata.topic_of_any_age(&self.topic);
        let Some(topic) = described.filter(|topic| topic.topic_id == self.topic_id) else { return };
        for partition in topic.partitions.iter().map(|described| described.partition) {
            if self.positions.get(partition).is_none() {
                let start = match &self.config.start {
                    Start::Offset(offset) => *offset,
                    Start::Each(each) => each.get(&partition).copied().unwrap_or(Offset::ZERO),
                    Start::Earliest | Start::Latest | Start::Timestamp(_) => Offset::ZERO,
                };
                self.positions.insert(partition, start, None);
            }
        }
    }

    /// A leader that leads no more may be silent, or not know it yet: its partitions are taken from it.
    fn follow_leaders(&mut self) {
        let mut moved = false;
        for (partition, served_by) in self.positions.with_source() {
            let Leader::Known(at) = self.client.metadata.leader(&self.topic, partition) else {
                continue;
            };
            // Another topic of the same name: the leader of ours will say that it is gone.
            if at.topic_id == self.topic_id && served_by != Some(at.leadership) {
                self.unsubscribe(partition);
                if let Some(tracked) = self.positions.get_mut(partition) {
                    tracked.source = Source::None;
                }
                moved = true;
            }
        }
        if moved {
            let numbers = self.streams.iter().map(|open| open.number);
            let unused = numbers.filter(|&stream| self.positions.is_unused(stream));
            for stream in unused.collect::<Vec<_>>() {
                drop(self.close(stream));
            }
        }
    }

    /// Finds streams for the partitions that have none.
    pub(super) fn mend(&mut self, now: Instant) {
        let mut by_leader: BTreeMap<Arc<str>, Vec<(PartitionId, LeaderAt)>> = BTreeMap::new();
        for partition in self.positions.without_source() {
            let Some(tracked) = self.positions.get_mut(partition) else { continue };
            match self.client.metadata.leader(&self.topic, partition) {
                Leader::Known(at) => {
                    if tracked.may_ask(at.leadership, now) {
                        by_leader.entry(at.endpoint.clone()).or_default().push((partition, at));
                    }
                }
                // Until it is over, or a leader is found.
                Leader::None if tracked.retry_at.is_some_and(|at| at > now) => {}
                Leader::None => {
                    tracked.refused(now);
                    self.stale = true;
                }
                // Not for want of news: that it was deleted is newer than that it was there.
                Leader::UnknownTopic => {
                    tracked.source = Source::Over;
                    self.ready.push_back(Ready::Error(ClientError::unknown_topic(&self.topic)));
                }
            }
        }
        let nodes = by_leader.len().max(1) as u64;
        for (endpoint, partitions) in by_leader {
            self.subscribe(endpoint, &partitions, self.config.credit_bytes / nodes);
        }
        if self.stale && self.refresh.is_none() {
            self.stale = false;
            self.refresh_metadata();
        }
    }

    fn refresh_metadata(&mut self) {
        let (client, topic) = (self.client.clone(), self.topic.to_string());
        self.refresh = Some(Box::pin(async move {
            if let Err(error) = client.refresh(&[topic]).await {
                tracing::debug!(%error, "metadata refresh");
            }
        }));
    }

    fn subscribe(
        &mut self,
        endpoint: Arc<str>,
        partitions: &[(PartitionId, LeaderAt)],
        credit: u64,
    ) {
        let mut positions = Vec::with_capacity(partitions.len());
        let first = self.next_subscription + 1;
        for ((partition, at), subscription) in partitions.iter().zip(first..) {
            let Some(tracked) = self.positions.get(*partition) else { continue };
            self.next_subscription = subscription;
            positions.push(FetchPosition {
                leader_epoch: Some(at.leadership.epoch.0),
                partition: Some(self.to_wire(*partition)),
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
        for ((partition, at), subscription) in partitions.iter().zip(first..) {
            if let Some(tracked) = self.positions.get_mut(*partition) {
                tracked.asked(at.leadership, stream, subscription);
            }
        }
    }
}

//! The difference between two images as records: how a broker that keeps no metadata log follows.
//!
//! Promise: an image with a delta applied equals the image that the delta was made of. What both images share
//! in memory is not looked at.

use super::configs::config_changes;
use super::image::{Broker, ClusterImage, Topic};
use super::replay::{
    Fault, ReplayError, broker_record, fencing_record, partition_record, topic_records,
};
use super::wrap;
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::{MetadataOffset, NodeId};
use troupe_proto::internal::v1::config_resource::Resource;
use troupe_proto::internal::v1::metadata_record::Record;
use troupe_proto::internal::v1::{
    BrokerRemovalRecord, ClusterRecord, MetadataDelta, MetadataRecord, OffsetRecord,
    ProducerIdsRecord, TopicRemovalRecord,
};

/// The records that make the image at `next_offset` out of that at `since_offset`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// 0: everything; what there was before does not count.
    pub since_offset: MetadataOffset,
    pub next_offset: MetadataOffset,
    /// Each with the offset it counts for; only registrations of brokers have one of their own.
    pub records: Vec<(MetadataOffset, MetadataRecord)>,
}

impl ClusterImage {
    /// What makes this image out of an earlier one of the same log. Everything, if the earlier one is empty.
    pub fn delta(&self, since: &ClusterImage) -> Delta {
        let mut records = Records(Vec::new());
        let same = since.cluster_id() == self.cluster_id()
            && since.metadata_version == self.metadata_version;
        if let Some(id) = self.cluster_id().filter(|_| !same) {
            let (cluster_id, metadata_version) = (id.to_owned(), self.metadata_version);
            records.push(Record::Cluster(ClusterRecord { cluster_id, metadata_version }));
        }
        if self.next_producer_id != since.next_producer_id {
            let next_producer_id = self.next_producer_id.0;
            records.push(Record::ProducerIds(ProducerIdsRecord { node_id: -1, next_producer_id }));
        }
        // First: topics that come stand on them.
        if !Arc::ptr_eq(&self.cluster_overrides, &since.cluster_overrides) {
            let (before, after) = (since.cluster_overrides(), self.cluster_overrides());
            let changes = config_changes(&Resource::Cluster(true), before, after);
            changes.into_iter().for_each(|change| records.push(Record::Config(change)));
        }
        self.topic_changes(since, &mut records);
        self.broker_changes(since, &mut records);
        Delta {
            since_offset: since.next_offset(),
            next_offset: self.next_offset(),
            records: records.0,
        }
    }

    /// Takes what [`ClusterImage::delta`] gave. Nothing has changed after an error.
    pub fn apply_delta(&mut self, delta: &Delta) -> Result<(), ReplayError> {
        let mut image = match delta.since_offset {
            MetadataOffset(0) => ClusterImage::default(),
            since if since == self.next_offset => self.clone(),
            offset => {
                let fault = Fault::WrongOffset { next: self.next_offset };
                return Err(ReplayError { offset, fault });
            }
        };
        for (offset, record) in &delta.records {
            let offset = *offset;
            image.apply(offset, record).map_err(|fault| ReplayError { offset, fault })?;
        }
        image.next_offset = delta.next_offset;
        *self = image;
        Ok(())
    }

    /// What goes, goes first: what comes may need its name.
    fn topic_changes(&self, since: &ClusterImage, records: &mut Records) {
        let mut added = Vec::new();
        let mut changed = Vec::new();
        let mut olds = since.topics().peekable();
        for new in self.topics() {
            while let Some(old) = olds.next_if(|old| old.name < new.name) {
                records.push(removal(old));
            }
            match olds.next_if(|old| old.name == new.name) {
                Some(old) if Arc::ptr_eq(old, new) => {}
                Some(old) if old.id == new.id => changed.push((old, new)),
                Some(old) => {
                    records.push(removal(old));
                    added.push(new);
                }
                None => added.push(new),
            }
        }
        olds.for_each(|old| records.push(removal(old)));
        for topic in added {
            topic_records(topic).into_iter().for_each(|record| records.push(record));
        }
        for (old, new) in changed {
            records.push_topic(old, new);
        }
    }

    fn broker_changes(&self, since: &ClusterImage, records: &mut Records) {
        for old in since.brokers().filter(|old| self.broker(old.node_id).is_none()) {
            let NodeId(node_id) = old.node_id;
            let removal = BrokerRemovalRecord { node_id, broker_epoch: old.epoch.0 };
            records.push(Record::BrokerRemoval(removal));
        }
        for new in self.brokers() {
            let old = since.broker(new.node_id);
            if old != Some(new) {
                records.push_broker(old, new);
            }
            let NodeId(node_id) = new.node_id;
            let own = |image: &'_ ClusterImage| image.broker_overrides(new.node_id).clone();
            let changes = config_changes(&Resource::NodeId(node_id), &own(since), &own(self));
            changes.into_iter().for_each(|change| records.push(Record::Config(change)));
        }
    }
}

struct Records(Vec<(MetadataOffset, MetadataRecord)>);

impl Records {
    fn push(&mut self, record: Record) {
        self.0.push((MetadataOffset(0), wrap(record)));
    }

    fn push_broker(&mut self, old: Option<&Broker>, new: &Broker) {
        let registered = |broker: &Broker| Broker {
            fenced: true,
            shutting_down: false,
            log_version: 0,
            metadata_version: 0,
            listeners: BTreeMap::new(),
            retiring: false,
            ..broker.clone()
        };
        if old.map(registered) != Some(registered(new)) {
            let record = wrap(Record::Broker(broker_record(new)));
            self.0.push((MetadataOffset(new.epoch.0), record));
        }
        self.push(Record::BrokerFencing(fencing_record(new)));
    }

    fn push_topic(&mut self, old: &Topic, new: &Topic) {
        let id = new.id.to_wire();
        let resource = Resource::TopicId(id.clone());
        for record in config_changes(&resource, &old.overrides, &new.overrides) {
            self.push(Record::Config(record));
        }
        for (at, partition) in (0..).zip(&new.partitions) {
            if old.partitions.get(at as usize) != Some(partition) {
                self.push(Record::Partition(partition_record(&id, at, partition)));
            }
        }
    }
}

fn removal(topic: &Topic) -> Record {
    Record::TopicRemoval(TopicRemovalRecord { topic_id: topic.id.to_wire() })
}

impl From<Delta> for MetadataDelta {
    fn from(delta: Delta) -> MetadataDelta {
        let record = |(offset, record): (MetadataOffset, _)| OffsetRecord {
            offset: offset.0,
            record: Some(record),
        };
        MetadataDelta {
            since_offset: delta.since_offset.0,
            next_offset: delta.next_offset.0,
            records: delta.records.into_iter().map(record).collect(),
        }
    }
}

impl From<MetadataDelta> for Delta {
    /// A record that is missing becomes one of unknown kind, which [`ClusterImage::apply_delta`] refuses.
    fn from(delta: MetadataDelta) -> Delta {
        let record = |record: OffsetRecord| {
            (MetadataOffset(record.offset), record.record.unwrap_or_default())
        };
        Delta {
            since_offset: MetadataOffset(delta.since_offset),
            next_offset: MetadataOffset(delta.next_offset),
            records: delta.records.into_iter().map(record).collect(),
        }
    }
}

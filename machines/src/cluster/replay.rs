//! Records into image, and image into records again.
//!
//! Promise: an image restored from a snapshot equals the image that the snapshot was made of (K9).

use super::configs::{Overrides, config_changes};
use super::image::{Broker, ClusterImage, Partition, Topic, collision_form};
use super::wrap;
use crate::config::ConfigError;
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;
use troupe_proto::ids::{
    BrokerEpoch, LeaderEpoch, MetadataOffset, NodeId, PartitionEpoch, ProducerId, TopicId,
};
use troupe_proto::internal::v1::config_resource::Resource;
use troupe_proto::internal::v1::metadata_record::Record;
use troupe_proto::internal::v1::{
    BrokerFencingRecord, BrokerRecord, ClusterRecord, MetadataRecord, PartitionRecord,
    ProducerIdsRecord, TopicRecord,
};

/// A record that cannot be: the metadata log is damaged, or newer software wrote it. Going on would mean
/// to forget something, so the node stops instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("metadata record {offset}: {fault}")]
pub struct ReplayError {
    pub offset: MetadataOffset,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("where record {next} was due")]
    WrongOffset { next: MetadataOffset },
    #[error("of a kind that this version does not know")]
    UnknownKind,
    #[error("a malformed {0}")]
    Malformed(&'static str),
    #[error("about a topic or partition that does not exist")]
    UnknownTopic,
    #[error("about a broker that is not registered")]
    UnknownBroker,
    #[error("about a partition whose epochs are higher already")]
    EpochWentBack,
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// An image as records, each with the offset it counts for.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSnapshot {
    pub next_offset: MetadataOffset,
    pub records: Vec<(MetadataOffset, MetadataRecord)>,
}

impl ClusterImage {
    /// Applies the next record of the log.
    pub fn replay(
        &mut self,
        offset: MetadataOffset,
        record: &MetadataRecord,
    ) -> Result<(), ReplayError> {
        let next = self.next_offset;
        if offset != next {
            return Err(ReplayError { offset, fault: Fault::WrongOffset { next } });
        }
        self.apply(offset, record).map_err(|fault| ReplayError { offset, fault })?;
        self.next_offset = MetadataOffset(offset.0 + 1);
        Ok(())
    }

    /// Applies records from [`ClusterImage::next_offset`] on. After an error the image is of no use.
    pub fn replay_all(&mut self, records: &[MetadataRecord]) -> Result<(), ReplayError> {
        records.iter().try_for_each(|record| self.replay(self.next_offset, record))
    }

    pub(super) fn apply(
        &mut self,
        offset: MetadataOffset,
        record: &MetadataRecord,
    ) -> Result<(), Fault> {
        match record.record.as_ref().ok_or(Fault::UnknownKind)? {
            Record::Cluster(record) => {
                self.cluster_id = Some(record.cluster_id.as_str().into());
                self.metadata_version = self.metadata_version.max(record.metadata_version);
                Ok(())
            }
            Record::Broker(record) => self.apply_broker(offset, record),
            Record::BrokerFencing(record) => {
                let broker = self.brokers.get_mut(&NodeId(record.node_id));
                let broker = broker.ok_or(Fault::UnknownBroker)?;
                broker.fenced = record.fenced;
                broker.shutting_down = record.shutting_down;
                broker.log_version = broker.log_version.max(record.log_version);
                broker.metadata_version = broker.metadata_version.max(record.metadata_version);
                broker.retiring = record.retiring.unwrap_or(broker.retiring);
                if !record.listeners.is_empty() {
                    broker.listeners.clone_from(&record.listeners);
                }
                Ok(())
            }
            Record::BrokerRemoval(record) => {
                let node_id = NodeId(record.node_id);
                self.broker_overrides.remove_mut(&node_id);
                let removed = self.brokers.remove_mut(&node_id);
                if removed { Ok(()) } else { Err(Fault::UnknownBroker) }
            }
            Record::Topic(record) => self.apply_topic(record),
            Record::TopicRemoval(record) => self.apply_topic_removal(&record.topic_id),
            Record::Partition(record) => self.apply_partition(record),
            Record::Config(record) => self.apply_config(record),
            Record::ProducerIds(record) => {
                self.next_producer_id = ProducerId(record.next_producer_id);
                Ok(())
            }
        }
    }

    /// A new registration is fenced until a record says otherwise (K12).
    fn apply_broker(&mut self, offset: MetadataOffset, record: &BrokerRecord) -> Result<(), Fault> {
        let node_id = NodeId(record.node_id);
        let incarnation =
            record.incarnation_id[..].try_into().map_err(|_| Fault::Malformed("incarnation id"))?;
        let broker = Broker {
            node_id,
            epoch: BrokerEpoch(offset.0),
            incarnation,
            endpoint: record.endpoint.clone(),
            listeners: record.listeners.clone(),
            http_endpoint: record.http_endpoint.clone(),
            rack: (!record.rack.is_empty()).then(|| record.rack.clone()),
            log_version: record.log_version,
            metadata_version: record.metadata_version,
            fenced: true,
            shutting_down: false,
            // Whoever comes back is still to go.
            retiring: self.brokers.get(&node_id).is_some_and(|known| known.retiring),
        };
        self.brokers.insert_mut(node_id, broker);
        Ok(())
    }

    fn apply_topic(&mut self, record: &TopicRecord) -> Result<(), Fault> {
        let id = topic_id(&record.topic_id)?;
        let name: Arc<str> = record.name.as_str().into();
        let topic = Topic {
            id,
            name: name.clone(),
            partitions: Vec::new(),
            overrides: BTreeMap::new(),
            config: Arc::clone(&self.topic_defaults),
        };
        self.topics.insert_mut(name.clone(), Arc::new(topic));
        if let Some(form) = collision_form(&name) {
            self.collision_forms.insert_mut(form);
        }
        self.names_by_id.insert_mut(id, name);
        Ok(())
    }

    fn apply_topic_removal(&mut self, id: &[u8]) -> Result<(), Fault> {
        let id = topic_id(id)?;
        let name = self.names_by_id.get(&id).cloned().ok_or(Fault::UnknownTopic)?;
        self.names_by_id.remove_mut(&id);
        self.topics.remove_mut(&name);
        if let Some(form) = collision_form(&name) {
            self.collision_forms.remove_mut(&form);
        }
        Ok(())
    }

    fn apply_partition(&mut self, record: &PartitionRecord) -> Result<(), Fault> {
        let nodes = |ids: &[i32]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let partition = Partition {
            replicas: nodes(&record.replicas),
            adding: nodes(&record.adding_replicas),
            removing: nodes(&record.removing_replicas),
            original: nodes(&record.original_replicas),
            isr: nodes(&record.in_sync_replicas),
            elr: nodes(&record.eligible_leader_replicas),
            leader: record.leader_id.map(NodeId),
            last_known_leader: record.last_known_leader_id.map(NodeId),
            last_in_sync: nodes(&record.last_in_sync_replicas),
            recovering: record.leader_recovering,
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: PartitionEpoch(record.partition_epoch),
        };
        let topic = self.topic_mut(&record.topic_id)?;
        let at = record.partition as usize;
        match at.cmp(&topic.partitions.len()) {
            std::cmp::Ordering::Less => {
                let before = &topic.partitions[at];
                if partition.leader_epoch < before.leader_epoch
                    || partition.partition_epoch <= before.partition_epoch
                {
                    return Err(Fault::EpochWentBack);
                }
                topic.partitions[at] = partition;
            }
            std::cmp::Ordering::Equal => topic.partitions.push(partition),
            std::cmp::Ordering::Greater => return Err(Fault::UnknownTopic),
        }
        Ok(())
    }

    pub(super) fn topic_mut(&mut self, id: &[u8]) -> Result<&mut Topic, Fault> {
        let name = self.names_by_id.get(&topic_id(id)?).ok_or(Fault::UnknownTopic)?;
        let topic = self.topics.get_mut(name).ok_or(Fault::UnknownTopic)?;
        Ok(Arc::make_mut(topic))
    }

    /// The image as records; all but the registrations of brokers count for no offset of their own.
    pub fn snapshot(&self) -> ClusterSnapshot {
        let mut records = Vec::new();
        let mut push = |record| records.push((MetadataOffset(0), wrap(record)));
        if let Some(id) = &self.cluster_id {
            push(Record::Cluster(ClusterRecord {
                cluster_id: id.to_string(),
                metadata_version: self.metadata_version,
            }));
        }
        push(Record::ProducerIds(ProducerIdsRecord {
            node_id: -1,
            next_producer_id: self.next_producer_id.0,
        }));
        let nothing = Overrides::new();
        let settings = |resource, overrides| config_changes(&resource, &nothing, overrides);
        let cluster = settings(Resource::Cluster(true), self.cluster_overrides());
        cluster.into_iter().map(Record::Config).for_each(&mut push);
        for topic in self.topics() {
            topic_records(topic).into_iter().for_each(&mut push);
        }
        for broker in self.brokers() {
            let offset = MetadataOffset(broker.epoch.0);
            records.push((offset, wrap(Record::Broker(broker_record(broker)))));
            let fencing = fencing_record(broker);
            records.push((offset, wrap(Record::BrokerFencing(fencing))));
            let own = self.broker_overrides(broker.node_id);
            let own = settings(Resource::NodeId(broker.node_id.0), own);
            let own = own.into_iter().map(|record| wrap(Record::Config(record)));
            records.extend(own.map(|record| (MetadataOffset(0), record)));
        }
        ClusterSnapshot { next_offset: self.next_offset, records }
    }

    pub fn from_snapshot(snapshot: &ClusterSnapshot) -> Result<ClusterImage, ReplayError> {
        let mut image = ClusterImage::default();
        for (offset, record) in &snapshot.records {
            let offset = *offset;
            image.apply(offset, record).map_err(|fault| ReplayError { offset, fault })?;
        }
        image.next_offset = snapshot.next_offset;
        Ok(image)
    }
}

pub(super) fn topic_id(bytes: &[u8]) -> Result<TopicId, Fault> {
    TopicId::from_wire(bytes).ok_or(Fault::Malformed("topic id"))
}

/// A topic as it is: itself, what differs from the defaults, its partitions.
pub(super) fn topic_records(topic: &Topic) -> Vec<Record> {
    let topic_id = topic.id.to_wire();
    let name = topic.name.to_string();
    let itself = Record::Topic(TopicRecord { topic_id: topic_id.clone(), name });
    let resource = Resource::TopicId(topic_id.clone());
    let configs = config_changes(&resource, &Overrides::new(), &topic.overrides);
    let configs = configs.into_iter().map(Record::Config);
    let partitions = (0..).zip(&topic.partitions);
    let partitions = partitions
        .map(|(at, partition)| Record::Partition(partition_record(&topic_id, at, partition)));
    std::iter::once(itself).chain(configs).chain(partitions).collect()
}

pub(super) fn partition_record(
    topic_id: &bytes::Bytes,
    at: u32,
    partition: &Partition,
) -> PartitionRecord {
    let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    PartitionRecord {
        topic_id: topic_id.clone(),
        partition: at,
        replicas: numbers(&partition.replicas),
        in_sync_replicas: numbers(&partition.isr),
        leader_id: partition.leader.map(|node| node.0),
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch.0,
        eligible_leader_replicas: numbers(&partition.elr),
        last_known_leader_id: partition.last_known_leader.map(|node| node.0),
        leader_recovering: partition.recovering,
        last_in_sync_replicas: numbers(&partition.last_in_sync),
        adding_replicas: numbers(&partition.adding),
        removing_replicas: numbers(&partition.removing),
        original_replicas: numbers(&partition.original),
    }
}

pub(super) fn broker_record(broker: &Broker) -> BrokerRecord {
    BrokerRecord {
        node_id: broker.node_id.0,
        incarnation_id: bytes::Bytes::copy_from_slice(&broker.incarnation),
        endpoint: broker.endpoint.clone(),
        listeners: broker.listeners.clone(),
        http_endpoint: broker.http_endpoint.clone(),
        rack: broker.rack.clone().unwrap_or_default(),
        log_version: broker.log_version,
        metadata_version: broker.metadata_version,
    }
}

pub(super) fn fencing_record(broker: &Broker) -> BrokerFencingRecord {
    BrokerFencingRecord {
        node_id: broker.node_id.0,
        broker_epoch: broker.epoch.0,
        fenced: broker.fenced,
        shutting_down: broker.shutting_down,
        log_version: broker.log_version,
        metadata_version: broker.metadata_version,
        retiring: Some(broker.retiring),
        listeners: broker.listeners.clone(),
    }
}

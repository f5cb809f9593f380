//! Decisions about brokers, and what they are given: leaderships and producer ids.

use super::election::Rules;
use super::image::{Broker, ClusterImage, Partition, Topic};
use super::replay::{broker_record, fencing_record, partition_record};
use super::{
    Arrival, ClusterError, Decision, PRODUCER_ID_BLOCK, ProducerIdBlock, RegisterBroker, wrap,
};
use crate::config::FlushPolicy;
use std::collections::BTreeSet;
use troupe_proto::ids::{
    BrokerEpoch, MetadataOffset, NodeId, PartitionId, PartitionKey, ProducerId,
};
use troupe_proto::internal::v1::metadata_record::Record;
use troupe_proto::internal::v1::{
    BrokerRemovalRecord, ClusterRecord, MetadataRecord, ProducerIdsRecord,
};

/// Of the replicas for which a removal is refused, so many are named, in so many bytes: an error travels in headers.
const NAMED_REPLICAS: usize = 10;
const NAMED_REPLICAS_BYTES: usize = 600;

impl ClusterImage {
    /// The first decision of a new cluster: its id. Nothing to do in one that has an id.
    pub fn initialize(&self, cluster_id: &str) -> Result<Decision<()>, ClusterError> {
        match self.cluster_id() {
            Some(actual) if actual != cluster_id => Err(ClusterError::WrongCluster {
                asked: cluster_id.to_owned(),
                actual: actual.to_owned(),
            }),
            Some(_) => Ok(Decision { records: Vec::new(), answer: () }),
            None => {
                let record =
                    ClusterRecord { cluster_id: cluster_id.to_owned(), metadata_version: 0 };
                Ok(Decision { records: vec![wrap(Record::Cluster(record))], answer: () })
            }
        }
    }

    /// K12, and at once unfenced: the caller serves already. The same incarnation again is answered with
    /// the epoch it has. A new incarnation is a broker that has been away: what it led gets a new leader,
    /// or itself again in a new leader epoch, because its log may have lost what was not flushed.
    pub fn register_unfenced_broker(
        &self,
        request: &RegisterBroker,
    ) -> Result<Decision<BrokerEpoch>, ClusterError> {
        self.check_cluster(request)?;
        self.check_metadata_version(request)?;
        let node_id = request.node_id;
        let epoch = BrokerEpoch(self.next_offset().0);
        let retiring = self.is_retiring(node_id);
        let broker = Broker { fenced: false, retiring, ..registered(request, epoch) };
        if let Some(known) = self.broker(node_id)
            && *known == (Broker { epoch: known.epoch, ..broker.clone() })
        {
            return Ok(Decision { records: Vec::new(), answer: known.epoch });
        }
        let active = |node| node == node_id || self.is_active(node);
        let mut records = vec![
            wrap(Record::Broker(broker_record(&broker))),
            wrap(Record::BrokerFencing(fencing_record(&broker))),
        ];
        records.extend(self.change_partitions(|partition, topic| {
            let rules = Rules::of(&topic.config, active);
            let patient = Rules { unclean: false, ..Rules::of(&topic.config, active) };
            let gone = (partition.isr.contains(&node_id))
                .then(|| patient.without(partition, node_id, false))
                .flatten();
            let back = rules.with(gone.as_ref().unwrap_or(partition));
            back.or(gone)
        }));
        Ok(Decision { records, answer: epoch })
    }

    /// K12: a broker that will hold a session. It is fenced until [`ClusterImage::unfence_broker`]; its
    /// predecessor under the same id leaves every ISR and leads nothing any more. The same incarnation
    /// again is answered with the epoch it has.
    ///
    /// After an unclean stop it has lost what it had not flushed. Where everything committed was flushed
    /// first (`flush.policy=commit`) it remains eligible; elsewhere it does not (R16). With an empty disk it
    /// is eligible nowhere.
    pub fn register_broker(
        &self,
        request: &RegisterBroker,
        arrival: Arrival,
    ) -> Result<Decision<BrokerEpoch>, ClusterError> {
        self.check_cluster(request)?;
        self.check_metadata_version(request)?;
        let node_id = request.node_id;
        let known = self.broker(node_id);
        if let Some(known) = known {
            let same = Broker {
                fenced: known.fenced,
                shutting_down: known.shutting_down,
                // Its heartbeats say it again.
                log_version: known.log_version,
                metadata_version: known.metadata_version,
                listeners: known.listeners.clone(),
                retiring: known.retiring,
                ..registered(request, known.epoch)
            };
            if *known == same {
                return Ok(Decision { records: Vec::new(), answer: known.epoch });
            }
            let another = known.incarnation != request.incarnation;
            if another && arrival.predecessor_alive && !known.fenced {
                return Err(ClusterError::DuplicateBroker { node_id });
            }
        }
        let epoch = BrokerEpoch(self.next_offset().0);
        let retiring = self.is_retiring(node_id);
        let broker = Broker { retiring, ..registered(request, epoch) };
        let clean = known.is_none_or(|known| Some(known.epoch) == arrival.stopped_cleanly);
        let mut records = vec![
            wrap(Record::Broker(broker_record(&broker))),
            wrap(Record::BrokerFencing(fencing_record(&broker))),
        ];
        records.extend(self.change_partitions(|partition, topic| {
            let unflushed = !clean && topic.config.flush_policy != FlushPolicy::Commit;
            let lost = unflushed || arrival.holds_nothing;
            self.depart(partition, topic, node_id, lost, Some(&arrival.silent))
        }));
        // A controller that was of an earlier version has not kept it of those that came before.
        let others = self.brokers().filter(|other| other.node_id != node_id);
        let newer = others.filter(|other| other.log_version > 0 || other.metadata_version > 0);
        records.extend(newer.map(|other| wrap(Record::BrokerFencing(fencing_record(other)))));
        Ok(Decision { records, answer: epoch })
    }

    /// K15, K20: out of every ISR, and leader of nothing. Who else is silent just now, if that is known.
    pub fn fence_broker(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        silent: Option<&BTreeSet<NodeId>>,
    ) -> Result<Decision<()>, ClusterError> {
        let broker = self.known_broker(node_id, epoch)?;
        if broker.fenced {
            return Ok(Decision { records: Vec::new(), answer: () });
        }
        let fenced = Broker { fenced: true, ..broker.clone() };
        let mut records = vec![wrap(Record::BrokerFencing(fencing_record(&fenced)))];
        records.extend(self.change_partitions(|partition, topic| {
            self.depart(partition, topic, node_id, false, silent)
        }));
        Ok(Decision { records, answer: () })
    }

    /// K16: what has no leader, and could have this one, gets it. One that is shutting down stays out.
    pub fn unfence_broker(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<Decision<()>, ClusterError> {
        let broker = self.known_broker(node_id, epoch)?;
        if !broker.fenced || broker.shutting_down {
            return Ok(Decision { records: Vec::new(), answer: () });
        }
        let unfenced = Broker { fenced: false, ..broker.clone() };
        let mut records = vec![wrap(Record::BrokerFencing(fencing_record(&unfenced)))];
        records.extend(self.leaders_with(node_id));
        Ok(Decision { records, answer: () })
    }

    /// K17: its leaderships move, and it gets no new ones. It may stop when every active broker has applied
    /// the metadata before the offset that is the answer, and it leads nothing. Asked again, nothing changes.
    pub fn begin_shutdown(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<Decision<MetadataOffset>, ClusterError> {
        let broker = self.known_broker(node_id, epoch)?;
        if broker.shutting_down {
            return Ok(Decision { records: Vec::new(), answer: self.next_offset() });
        }
        let leaving = Broker { shutting_down: true, ..broker.clone() };
        let mut records = vec![wrap(Record::BrokerFencing(fencing_record(&leaving)))];
        records.extend(self.change_partitions(|partition, topic| {
            self.depart(partition, topic, node_id, false, None)
        }));
        let applied = MetadataOffset(self.next_offset().0 + records.len() as u64);
        Ok(Decision { records, answer: applied })
    }

    /// Ends a drain: the broker may lead and be in sync again, and gets what has no leader, if it is heard
    /// (K16). Nothing to do for one that is not on its way out.
    pub fn resume_broker(&self, node_id: NodeId) -> Result<Decision<()>, ClusterError> {
        let broker = self.broker(node_id).ok_or(ClusterError::UnknownBroker { node_id })?;
        if !broker.shutting_down {
            return Ok(Decision { records: Vec::new(), answer: () });
        }
        let resumed = Broker { shutting_down: false, ..broker.clone() };
        let mut records = vec![wrap(Record::BrokerFencing(fencing_record(&resumed)))];
        if resumed.is_active() {
            records.extend(self.leaders_with(node_id));
        }
        Ok(Decision { records, answer: () })
    }

    /// K22: forgets a broker that has stopped and holds nothing: a replica of nobody would be missing for ever.
    pub fn unregister_broker(&self, node_id: NodeId) -> Result<Decision<()>, ClusterError> {
        let broker = self.broker(node_id).ok_or(ClusterError::UnknownBroker { node_id })?;
        if !broker.fenced {
            return Err(ClusterError::BrokerAlive { node_id });
        }
        let held: Vec<String> = self.held_by(node_id).collect();
        if !held.is_empty() {
            let (count, first) = (held.len(), first_of(&held));
            return Err(ClusterError::BrokerHoldsReplicas { node_id, count, first });
        }
        let removal = BrokerRemovalRecord { node_id: node_id.0, broker_epoch: broker.epoch.0 };
        Ok(Decision { records: vec![wrap(Record::BrokerRemoval(removal))], answer: () })
    }

    /// What is assigned to this broker, as `topic:partition`.
    fn held_by(&self, node_id: NodeId) -> impl Iterator<Item = String> {
        self.topics().flat_map(move |topic| {
            let partitions = (0..).zip(&topic.partitions);
            partitions
                .filter(move |(_, partition): &(u32, _)| partition.replicas.contains(&node_id))
                .map(|(at, _)| format!("{}:{at}", topic.name))
        })
    }

    /// K23: ids that nobody has had before.
    pub fn allocate_producer_ids(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<Decision<ProducerIdBlock>, ClusterError> {
        self.known_broker(node_id, epoch)?;
        let first = self.next_producer_id();
        let next = ProducerId(first.0 + PRODUCER_ID_BLOCK);
        let record = ProducerIdsRecord { node_id: node_id.0, next_producer_id: next.0 };
        Ok(Decision {
            records: vec![wrap(Record::ProducerIds(record))],
            answer: ProducerIdBlock { first, len: PRODUCER_ID_BLOCK },
        })
    }

    /// What this broker leads.
    pub fn led_by(&self, node_id: NodeId) -> impl Iterator<Item = PartitionKey> {
        self.topics().flat_map(move |topic| {
            let partitions = (0..).map(PartitionId).zip(&topic.partitions);
            partitions
                .filter(move |(_, partition)| partition.leader == Some(node_id))
                .map(|(at, _)| topic.key(at))
        })
    }

    fn check_cluster(&self, request: &RegisterBroker) -> Result<(), ClusterError> {
        match (&request.cluster_id, self.cluster_id()) {
            (Some(asked), Some(actual)) if asked != actual => {
                Err(ClusterError::WrongCluster { asked: asked.clone(), actual: actual.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// K21, K22: the broker, if it is registered under this epoch.
    pub fn known_broker(
        &self,
        node_id: NodeId,
        asked: BrokerEpoch,
    ) -> Result<&Broker, ClusterError> {
        let broker = self.broker(node_id).ok_or(ClusterError::UnknownBroker { node_id })?;
        if broker.epoch != asked {
            let current = broker.epoch;
            return Err(ClusterError::StaleBrokerEpoch { node_id, asked, current });
        }
        Ok(broker)
    }

    /// The partition without one that no longer counts.
    fn depart(
        &self,
        partition: &Partition,
        topic: &Topic,
        node_id: NodeId,
        lost: bool,
        silent: Option<&BTreeSet<NodeId>>,
    ) -> Option<Partition> {
        if !partition.replicas.contains(&node_id) {
            return None;
        }
        let rules = Rules { silent, ..Rules::of(&topic.config, |node| self.is_active(node)) };
        rules.without(partition, node_id, lost)
    }

    /// Leaders for what has none, once this broker is active.
    fn leaders_with(&self, node_id: NodeId) -> Vec<MetadataRecord> {
        let active = |node| node == node_id || self.is_active(node);
        self.change_partitions(|partition, topic| {
            let leaderless = partition.leader.is_none();
            leaderless.then(|| Rules::of(&topic.config, active).with(partition)).flatten()
        })
    }

    /// A record for every partition that `change` changes.
    pub(super) fn change_partitions(
        &self,
        change: impl Fn(&Partition, &Topic) -> Option<Partition>,
    ) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        for topic in self.topics() {
            let id = topic.id.to_wire();
            for (at, partition) in (0..).zip(&topic.partitions) {
                if let Some(after) = change(partition, topic) {
                    records.push(wrap(Record::Partition(partition_record(&id, at, &after))));
                }
            }
        }
        records
    }
}

/// The first of these names, and how many more there are.
fn first_of(names: &[String]) -> String {
    let mut text = String::new();
    for (named, name) in names.iter().enumerate() {
        let full = text.len() + name.len() > NAMED_REPLICAS_BYTES && named > 0;
        if full || named == NAMED_REPLICAS {
            return format!("{text} and {} more", names.len() - named);
        }
        text += if named > 0 { ", " } else { "" };
        text += name;
    }
    text
}

/// As it stands in the image after its registration: fenced.
fn registered(request: &RegisterBroker, epoch: BrokerEpoch) -> Broker {
    Broker {
        node_id: request.node_id,
        epoch,
        incarnation: request.incarnation,
        endpoint: request.endpoint.clone(),
        listeners: request.listeners.clone(),
        http_endpoint: request.http_endpoint.clone(),
        rack: request.rack.clone().filter(|rack| !rack.is_empty()),
        log_version: request.log_version,
        metadata_version: request.metadata_version,
        fenced: true,
        shutting_down: false,
        retiring: false,
    }
}

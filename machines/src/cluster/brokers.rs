//! Decisions about brokers, and what they are given: leaderships and producer ids.

use super::election;
use super::image::{Broker, ClusterImage, Partition};
use super::replay::{broker_record, fencing_record, partition_record};
use super::{ClusterError, Decision, PRODUCER_ID_BLOCK, ProducerIdBlock, RegisterBroker, wrap};
use troupe_proto::ids::{BrokerEpoch, NodeId, ProducerId};
use troupe_proto::internal::v1::metadata_record::Record;
use troupe_proto::internal::v1::{ClusterRecord, MetadataRecord, ProducerIdsRecord};

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
                let record = ClusterRecord { cluster_id: cluster_id.to_owned() };
                Ok(Decision { records: vec![wrap(Record::Cluster(record))], answer: () })
            }
        }
    }

    /// K12, and at once unfenced: the caller serves already. The same incarnation again is answered with
    /// the epoch it has. A new incarnation is a broker that has been away: what it led gets a new leader,
    /// or itself again in a new leader epoch, because its log may have lost what was not flushed.
    pub fn register_broker(
        &self,
        request: &RegisterBroker,
    ) -> Result<Decision<BrokerEpoch>, ClusterError> {
        if let (Some(asked), Some(actual)) = (&request.cluster_id, self.cluster_id())
            && asked != actual
        {
            let (asked, actual) = (asked.clone(), actual.to_owned());
            return Err(ClusterError::WrongCluster { asked, actual });
        }
        let node_id = request.node_id;
        let epoch = BrokerEpoch(self.next_offset().0);
        let broker = Broker {
            node_id,
            epoch,
            incarnation: request.incarnation,
            endpoint: request.endpoint.clone(),
            http_endpoint: request.http_endpoint.clone(),
            rack: request.rack.clone().filter(|rack| !rack.is_empty()),
            fenced: false,
        };
        if let Some(known) = self.broker(node_id)
            && *known == (Broker { epoch: known.epoch, ..broker.clone() })
        {
            return Ok(Decision { records: Vec::new(), answer: known.epoch });
        }
        let active = |node| node == node_id || self.is_active(node);
        let mut records = vec![
            wrap(Record::Broker(broker_record(&broker))),
            wrap(Record::BrokerFencing(fencing_record(&broker, false))),
        ];
        records.extend(self.change_partitions(|partition, unclean| {
            let gone = partition
                .isr
                .contains(&node_id)
                .then(|| election::without(partition, node_id, active, false))
                .flatten();
            let back = election::with(gone.as_ref().unwrap_or(partition), active, unclean);
            back.or(gone)
        }));
        Ok(Decision { records, answer: epoch })
    }

    /// K15, K20: out of every ISR that has another member, and leader of nothing.
    pub fn fence_broker(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<Decision<()>, ClusterError> {
        let broker = self.known_broker(node_id, epoch)?;
        if broker.fenced {
            return Ok(Decision { records: Vec::new(), answer: () });
        }
        let mut records = vec![wrap(Record::BrokerFencing(fencing_record(broker, true)))];
        records.extend(self.change_partitions(|partition, unclean| {
            let is_active = |node| self.is_active(node);
            let holds = partition.replicas.contains(&node_id);
            holds.then(|| election::without(partition, node_id, is_active, unclean)).flatten()
        }));
        Ok(Decision { records, answer: () })
    }

    /// K16: what has no leader, and could have this one, gets it.
    pub fn unfence_broker(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
    ) -> Result<Decision<()>, ClusterError> {
        let broker = self.known_broker(node_id, epoch)?;
        if !broker.fenced {
            return Ok(Decision { records: Vec::new(), answer: () });
        }
        let active = |node| node == node_id || self.is_active(node);
        let mut records = vec![wrap(Record::BrokerFencing(fencing_record(broker, false)))];
        records.extend(self.change_partitions(|partition, unclean| {
            partition.leader.is_none().then(|| election::with(partition, active, unclean)).flatten()
        }));
        Ok(Decision { records, answer: () })
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

    /// K21, K22.
    fn known_broker(&self, node_id: NodeId, asked: BrokerEpoch) -> Result<&Broker, ClusterError> {
        let broker = self.broker(node_id).ok_or(ClusterError::UnknownBroker { node_id })?;
        if broker.epoch != asked {
            let current = broker.epoch;
            return Err(ClusterError::StaleBrokerEpoch { node_id, asked, current });
        }
        Ok(broker)
    }

    /// A record for every partition that `change` changes; it is told whether the topic allows unclean
    /// elections.
    fn change_partitions(
        &self,
        change: impl Fn(&Partition, bool) -> Option<Partition>,
    ) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        for topic in self.topics() {
            let id = topic.id.to_wire();
            for (at, partition) in (0..).zip(&topic.partitions) {
                if let Some(after) = change(partition, topic.config.unclean_leader_election) {
                    records.push(wrap(Record::Partition(partition_record(&id, at, &after))));
                }
            }
        }
        records
    }
}

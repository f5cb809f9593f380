//! What nodes of different versions can live with: which records they know, and what their logs can take.
//!
//! A node that meets a record which it does not know stops rather than forget something. So a record of a new kind goes
//! into the log only once every voter and every registered broker has said that it knows it; that this was so is a
//! record too, and from then on nobody is let in who does not.
//! Never here: how a voter or a broker says it.

use super::image::{Broker, ClusterImage};
use super::replay::fencing_record;
use super::{ClusterError, Decision, RegisterBroker, TRANSACTION_TOPIC, wrap};
use std::collections::BTreeMap;
use troupe_proto::ids::{BrokerEpoch, NodeId};
use troupe_proto::internal::v1::metadata_record::Record;
use troupe_proto::internal::v1::{ClusterRecord, MetadataRecord};

/// What this version knows. 1: settings of brokers and of the whole cluster. 2: replicas that are
/// reassigned, and brokers that are being retired. 3: transactions.
pub const METADATA_VERSION: u32 = TRANSACTIONS;
/// From this version on something can be set for a broker and for the cluster.
pub const SETTINGS_VERSION: u32 = 1;
/// From this version on nodes know that replicas may be reassigned: an earlier one takes those that are to go for
/// replicas that stay, and a controller of an earlier one forgets which they are.
pub const REASSIGNMENTS: u32 = 2;
/// From this version on nodes know of transactions: a leader or a follower of an earlier one forgets which are open.
pub const TRANSACTIONS: u32 = 3;
/// What every node has to know before there is a topic of that name.
pub fn version_of_topic(name: &str) -> u32 {
    if name == TRANSACTION_TOPIC { TRANSACTIONS } else { 0 }
}

/// From this version on nodes know of brokers that are being retired: an earlier one would place replicas on them.
pub(super) const RETIREMENT_VERSION: u32 = 2;

impl ClusterImage {
    /// Which records may be in the log: every node knows them.
    pub fn metadata_version(&self) -> u32 {
        self.metadata_version
    }

    /// Lets records of that version into the log from now on, if every node knows them. Nothing to do if it was done.
    pub fn raise_metadata_version(
        &self,
        version: u32,
        voters_behind: &[NodeId],
    ) -> Result<Decision<()>, ClusterError> {
        let raised = self.require_metadata_version(version, voters_behind)?;
        Ok(Decision { records: raised.into_iter().collect(), answer: () })
    }

    /// What has to be decided before a record of that version: nothing, if it was already. `voters_behind` are those
    /// that do not know it, or have not said so.
    pub fn require_metadata_version(
        &self,
        version: u32,
        voters_behind: &[NodeId],
    ) -> Result<Option<MetadataRecord>, ClusterError> {
        if self.metadata_version >= version {
            return Ok(None);
        }
        let behind = self.brokers().filter(|broker| broker.metadata_version < version);
        let mut nodes: Vec<_> = behind.map(|broker| broker.node_id).collect();
        // A voter that is away, or that the controller has not heard yet, may be known as a broker.
        let known = |voter: &&NodeId| {
            self.broker(**voter).is_some_and(|broker| broker.metadata_version >= version)
        };
        nodes.extend(voters_behind.iter().filter(|voter| !known(voter)));
        nodes.sort_unstable();
        nodes.dedup();
        match self.cluster_id() {
            Some(id) if nodes.is_empty() => {
                let cluster_id = id.to_owned();
                let raised = ClusterRecord { cluster_id, metadata_version: version };
                Ok(Some(wrap(Record::Cluster(raised))))
            }
            _ => Err(ClusterError::NodesBehind { nodes }),
        }
    }

    /// Whether a decision may have records of that version. `would`: it is only asked whether it could be made.
    pub(super) fn check_knows(&self, version: u32, would: bool) -> Result<(), ClusterError> {
        if self.metadata_version >= version {
            return Ok(());
        }
        let behind = self.brokers().filter(|broker| broker.metadata_version < version);
        let nodes: Vec<_> = behind.map(|broker| broker.node_id).collect();
        if nodes.is_empty() && would { Ok(()) } else { Err(ClusterError::NodesBehind { nodes }) }
    }

    pub(super) fn check_metadata_version(
        &self,
        request: &RegisterBroker,
    ) -> Result<(), ClusterError> {
        if request.metadata_version >= self.metadata_version {
            return Ok(());
        }
        let node_id = request.node_id;
        Err(ClusterError::BrokerBehind {
            node_id,
            version: request.metadata_version,
            needed: self.metadata_version,
        })
    }

    /// What a broker knows, what its logs can take and what it tells by its listeners, if whoever let it in has not kept
    /// that. It keeps its epoch.
    pub fn note_versions(
        &self,
        node_id: NodeId,
        epoch: BrokerEpoch,
        log_version: u32,
        metadata_version: u32,
        listeners: &BTreeMap<String, String>,
    ) -> Result<Decision<()>, ClusterError> {
        let broker = self.known_broker(node_id, epoch)?;
        let noted = Broker {
            log_version: broker.log_version.max(log_version),
            metadata_version: broker.metadata_version.max(metadata_version),
            listeners: match listeners.is_empty() {
                true => broker.listeners.clone(),
                false => listeners.clone(),
            },
            ..broker.clone()
        };
        if noted == *broker {
            return Ok(Decision { records: Vec::new(), answer: () });
        }
        let records = vec![wrap(Record::BrokerFencing(fencing_record(&noted)))];
        Ok(Decision { records, answer: () })
    }

    /// Registered brokers, fenced ones too, whose logs cannot take what those of this version can: for as long as
    /// there is one, no log is cleaned.
    pub fn behind_log_version(&self, log_version: u32) -> impl Iterator<Item = NodeId> + '_ {
        self.brokers().filter(move |broker| broker.log_version < log_version).map(|it| it.node_id)
    }
}

//! Retiring a broker: from the mark on nothing is placed on it and it gets no leaderships, while others take over what
//! it holds; then it stops, and is removed.
//!
//! Owns the mark, which outlives restarts of the broker and of controllers. Moving the replicas is a reassignment, which
//! whoever retires asks for; so is the end of it, by [`ClusterImage::unregister_broker`].

use super::balance::plan::PlanRequest;
use super::image::{ClusterImage, Partition};
use super::replay::fencing_record;
use super::versions::RETIREMENT_VERSION;
use super::{Broker, ClusterError, Decision, PlanGoal, wrap};
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionEpoch};
use troupe_proto::internal::v1::metadata_record::Record;

impl ClusterImage {
    /// Marks a broker, and has others lead what it leads where they are in sync. Refused where the others could not
    /// hold what it holds, and where somebody would not know the mark: `voters_behind` are voters that do not.
    /// Answers with how many leaderships moved; asked again, nothing changes.
    pub fn retire_broker(
        &self,
        node_id: NodeId,
        voters_behind: &[NodeId],
    ) -> Result<Decision<usize>, ClusterError> {
        let broker = self.broker(node_id).ok_or(ClusterError::UnknownBroker { node_id })?;
        if broker.retiring {
            return Ok(Decision { records: Vec::new(), answer: 0 });
        }
        self.check_retirement(node_id)?;
        let retiring = Broker { retiring: true, ..broker.clone() };
        let raised = self.require_metadata_version(RETIREMENT_VERSION, voters_behind)?;
        let mut records: Vec<_> = raised.into_iter().collect();
        records.push(wrap(Record::BrokerFencing(fencing_record(&retiring))));
        let moved = self.change_partitions(|partition, _| self.led_by_another(partition, node_id));
        let answer = moved.len();
        records.extend(moved);
        Ok(Decision { records, answer })
    }

    /// The broker stays: it may be given replicas and leaderships again. What has moved does not come back by itself.
    pub fn keep_broker(&self, node_id: NodeId) -> Result<Decision<()>, ClusterError> {
        let broker = self.broker(node_id).ok_or(ClusterError::UnknownBroker { node_id })?;
        if !broker.retiring {
            return Ok(Decision { records: Vec::new(), answer: () });
        }
        let kept = Broker { retiring: false, ..broker.clone() };
        let records = vec![wrap(Record::BrokerFencing(fencing_record(&kept)))];
        Ok(Decision { records, answer: () })
    }

    /// Whether what a broker holds could be elsewhere.
    fn check_retirement(&self, node_id: NodeId) -> Result<(), ClusterError> {
        if !self.brokers().any(|other| other.node_id != node_id && !other.retiring) {
            return Err(ClusterError::LastBroker { node_id });
        }
        let exclude_nodes = vec![node_id];
        let request = PlanRequest { goal: PlanGoal::Empty, exclude_nodes, ..Default::default() };
        self.check_plan(&request)
    }

    /// The first other replica that is in sync leads.
    fn led_by_another(&self, before: &Partition, node_id: NodeId) -> Option<Partition> {
        if before.leader != Some(node_id) {
            return None;
        }
        let may = |node: &NodeId| {
            *node != node_id
                && before.isr.contains(node)
                && self.is_active(*node)
                && !self.is_retiring(*node)
        };
        let leader = before.replicas.iter().copied().find(may)?;
        Some(Partition {
            leader: Some(leader),
            leader_epoch: LeaderEpoch(before.leader_epoch.0 + 1),
            partition_epoch: PartitionEpoch(before.partition_epoch.0 + 1),
            ..before.clone()
        })
    }
}

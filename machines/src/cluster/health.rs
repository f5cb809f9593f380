//! What is wrong with the cluster, as far as its image says.
//!
//! Never here: whether the image is old, and what nodes know of themselves alone.

use super::{ClusterImage, Partition, Topic};
use troupe_proto::ids::NodeId;

/// Partitions that are named one by one.
const EXAMPLES: usize = 5;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub problem: Problem,
    /// How many partitions or nodes.
    pub count: usize,
    /// The first of the partitions, as `topic:partition`.
    pub examples: Vec<String>,
    /// The nodes.
    pub nodes: Vec<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// Nobody leads: nothing is written or read.
    OfflinePartitions,
    /// Fewer are in sync than acks=all asks for.
    UnderMinIsr,
    /// Some replica is not in sync.
    UnderReplicated,
    FencedNodes,
    /// Drained, or stopping.
    DrainingNodes,
}

impl Partition {
    /// Whether fewer are in sync than there are, or are to be (R35), replicas.
    pub fn is_under_replicated(&self) -> bool {
        self.isr.len() < self.target().count()
    }
}

impl Topic {
    /// Whether just as many are in sync as acks=all asks for: one fewer, and it is refused.
    pub fn is_at_min_isr(&self, partition: &Partition) -> bool {
        partition.isr.len() == self.min_isr(partition)
    }

    /// Whether fewer are in sync than acks=all asks for.
    pub fn is_under_min_isr(&self, partition: &Partition) -> bool {
        partition.isr.len() < self.min_isr(partition)
    }

    fn min_isr(&self, partition: &Partition) -> usize {
        (self.config.min_insync_replicas as usize).min(partition.least_replicas())
    }
}

impl ClusterImage {
    /// All that is wrong, the worst first. A partition counts once for each thing that is wrong with it, except
    /// that one without a leader has nobody in sync either.
    pub fn findings(&self) -> Vec<Finding> {
        let of_partitions = |problem, is_ill: &dyn Fn(&Topic, &Partition) -> bool| {
            let mut finding = Finding::new(problem);
            for topic in self.topics() {
                for (number, partition) in (0_u32..).zip(&topic.partitions) {
                    if is_ill(topic, partition) {
                        finding.count += 1;
                        if finding.examples.len() < EXAMPLES {
                            finding.examples.push(format!("{}:{number}", topic.name));
                        }
                    }
                }
            }
            finding
        };
        let of_nodes = |problem, is_ill: &dyn Fn(&super::Broker) -> bool| {
            let ill = self.brokers().filter(|broker| is_ill(broker));
            let nodes: Vec<NodeId> = ill.map(|broker| broker.node_id).collect();
            Finding { count: nodes.len(), nodes, ..Finding::new(problem) }
        };
        let led = |partition: &Partition| partition.leader.is_some();
        let findings = [
            of_partitions(Problem::OfflinePartitions, &|_, partition| !led(partition)),
            of_partitions(Problem::UnderMinIsr, &|topic, partition| {
                led(partition) && topic.is_under_min_isr(partition)
            }),
            of_partitions(Problem::UnderReplicated, &|_, partition| {
                led(partition) && partition.is_under_replicated()
            }),
            of_nodes(Problem::FencedNodes, &|broker| broker.fenced),
            of_nodes(Problem::DrainingNodes, &|broker| !broker.fenced && broker.shutting_down),
        ];
        findings.into_iter().filter(|finding| finding.count > 0).collect()
    }
}

impl Finding {
    fn new(problem: Problem) -> Finding {
        Finding { problem, count: 0, examples: Vec::new(), nodes: Vec::new() }
    }
}

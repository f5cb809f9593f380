//! A plan for a cluster: what is asked for, what it would take, and how much each broker has before and after.
//!
//! Nothing is changed by it: a plan is a proposal, and whoever asks carries it out as a reassignment.

use super::layout::{Held, Layout, Load, Role, Site};
use super::replicas::Levelling;
use crate::cluster::image::{Broker, ClusterImage, Partition, Topic};
use crate::cluster::placement::classic::{Candidate, assign_classic};
use crate::cluster::{ClusterError, check_topic_name};
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::{NodeId, PartitionId, PartitionKey};

/// What a plan is to bring about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PlanGoal {
    /// Racks are separated; replicas, leaderships and bytes are even.
    #[default]
    Even,
    /// These brokers get their share, from those that have more; the others exchange nothing.
    Fill(Vec<NodeId>),
    /// What is on brokers that are not to have anything goes elsewhere; all else stays.
    Empty,
    /// Kafka's classic algorithm (R29, R30): as even, and as predictable, and as if there were no data yet.
    Classic,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest {
    pub goal: PlanGoal,
    /// Empty: all, the cluster's own too.
    pub topics: Vec<String>,
    /// The brokers that may have replicas of these topics. Empty: all that are alive and are not being retired.
    pub to_nodes: Vec<NodeId>,
    /// Brokers that may have none of these topics.
    pub exclude_nodes: Vec<NodeId>,
    /// How many replicas each partition shall have. `None`: as many as it has.
    pub replication_factor: Option<u32>,
    pub ignore_racks: bool,
    /// Bytes, where they are known.
    pub sizes: BTreeMap<PartitionKey, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// All that were looked at, also those that stay as they are.
    pub partitions: Vec<PlannedPartition>,
    pub brokers: Vec<PlannedBroker>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPartition {
    pub topic: Arc<str>,
    pub key: PartitionKey,
    pub current: Vec<NodeId>,
    pub proposed: Vec<NodeId>,
    pub size: u64,
    /// Its replicas are in as many racks as there are, or as there are replicas.
    pub separated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBroker {
    pub node_id: NodeId,
    pub rack: Option<String>,
    /// All that it has, of whatever topics.
    pub before: BrokerLoad,
    pub after: BrokerLoad,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerLoad {
    /// Partitions for which it is preferred as leader.
    pub leaders: u64,
    pub replicas: u64,
    pub bytes: u64,
}

impl PlannedPartition {
    /// Replicas that have to be copied.
    pub fn added(&self) -> usize {
        self.proposed.iter().filter(|node| !self.current.contains(node)).count()
    }
}

impl ClusterImage {
    /// A proposal that changes as little as reaches the goal.
    pub fn plan_reassignment(&self, request: &PlanRequest) -> Result<Plan, ClusterError> {
        let chosen = self.chosen_topics(&request.topics)?;
        let sites = self.plan_sites(request)?;
        check_factors(&chosen, request, &sites)?;
        let planned = |topic: &Arc<Topic>| chosen.iter().any(|one| one.id == topic.id);
        let mut beside: BTreeMap<NodeId, Load> = BTreeMap::new();
        for topic in self.topics().filter(|topic| !planned(topic)) {
            count(topic, &request.sizes, &mut beside);
        }
        let mut before = beside.clone();
        chosen.iter().for_each(|topic| count(topic, &request.sizes, &mut before));
        let with_beside = |mut site: Site| {
            site.beside = beside.get(&site.node_id).copied().unwrap_or_default();
            site
        };
        let sites: Vec<Site> = sites.into_iter().map(with_beside).collect();
        let mut layout = layout(&chosen, request, sites);
        arrange(&mut layout, request, &chosen)?;
        Ok(summary(&layout, &chosen, &before))
    }

    /// Whether there can be such a plan.
    pub(in crate::cluster) fn check_plan(&self, request: &PlanRequest) -> Result<(), ClusterError> {
        let chosen = self.chosen_topics(&request.topics)?;
        check_factors(&chosen, request, &self.plan_sites(request)?)
    }

    fn chosen_topics(&self, names: &[String]) -> Result<Vec<Arc<Topic>>, ClusterError> {
        if names.is_empty() {
            return Ok(self.topics().cloned().collect());
        }
        let mut chosen: BTreeMap<&str, Arc<Topic>> = BTreeMap::new();
        for name in names {
            check_topic_name(name)?;
            let topic = self.topic(name);
            let topic = topic.ok_or_else(|| ClusterError::UnknownTopic { name: name.clone() })?;
            chosen.insert(name, Arc::clone(topic));
        }
        Ok(chosen.into_values().collect())
    }

    /// All brokers, and what each may do in this plan.
    fn plan_sites(&self, request: &PlanRequest) -> Result<Vec<Site>, ClusterError> {
        let filled: &[NodeId] = match &request.goal {
            PlanGoal::Fill(nodes) => nodes,
            PlanGoal::Even | PlanGoal::Empty | PlanGoal::Classic => &[],
        };
        for node in request.to_nodes.iter().chain(filled) {
            let node_id = *node;
            let broker = self.broker(node_id).ok_or(ClusterError::UnknownBroker { node_id })?;
            if let Some(reason) = unfit(broker) {
                return Err(ClusterError::CannotTakeReplicas { node_id, reason });
            }
        }
        for node in &request.exclude_nodes {
            let node_id = *node;
            self.broker(node_id).ok_or(ClusterError::UnknownBroker { node_id })?;
        }
        let role = |broker: &Broker| {
            let id = broker.node_id;
            let wanted = request.to_nodes.is_empty() || request.to_nodes.contains(&id);
            if !wanted || request.exclude_nodes.contains(&id) || broker.retiring {
                Role::Leaves
            } else if broker.is_active() {
                Role::Takes
            } else {
                Role::Keeps
            }
        };
        let site = |broker: &Broker| Site {
            node_id: broker.node_id,
            rack: broker.rack.clone(),
            role: role(broker),
            beside: Load::default(),
        };
        let sites: Vec<Site> = self.brokers().map(site).collect();
        let takers = || sites.iter().filter(|site| site.role == Role::Takes);
        if takers().next().is_none() {
            return Err(ClusterError::NoActiveBroker);
        }
        let without: Vec<NodeId> =
            takers().filter(|site| site.rack.is_none()).map(|site| site.node_id).collect();
        let by_racks = match request.goal {
            PlanGoal::Even | PlanGoal::Classic => !request.ignore_racks,
            PlanGoal::Fill(_) | PlanGoal::Empty => false,
        };
        if by_racks && !without.is_empty() && takers().any(|site| site.rack.is_some()) {
            return Err(ClusterError::RacksIncomplete { without });
        }
        Ok(sites)
    }
}

/// No partition can have more replicas than there are brokers for them.
fn check_factors(
    chosen: &[Arc<Topic>],
    request: &PlanRequest,
    sites: &[Site],
) -> Result<(), ClusterError> {
    if request.replication_factor == Some(0) {
        return Err(ClusterError::InvalidReplicationFactor { asked: 0 });
    }
    let with = |role| sites.iter().filter(move |site| site.role == role).map(|site| site.node_id);
    let (takers, keepers): (usize, Vec<_>) =
        (with(Role::Takes).count(), with(Role::Keeps).collect());
    for topic in chosen {
        for partition in &topic.partitions {
            let replicas = partition.target_replicas();
            let kept = replicas.iter().filter(|node| keepers.contains(node)).count();
            let (factor, brokers) = (factor(partition, request), takers + kept);
            if factor > brokers {
                let (name, factor, brokers) =
                    (topic.name.to_string(), factor as u32, brokers as u32);
                return Err(ClusterError::TooFewBrokersFor { name, factor, brokers });
            }
        }
    }
    Ok(())
}

/// Why a broker can be given nothing.
fn unfit(broker: &Broker) -> Option<&'static str> {
    if broker.retiring {
        Some("it is being retired; end that with `troupe node retire ID --cancel`")
    } else if broker.fenced {
        Some("it is not alive")
    } else if broker.shutting_down {
        Some("it is drained or stopping; start it anew, or `troupe node resume ID`")
    } else {
        None
    }
}

fn factor(partition: &Partition, request: &PlanRequest) -> usize {
    request.replication_factor.map_or(partition.target_replicas().len(), |asked| asked as usize)
}

fn count(topic: &Topic, sizes: &BTreeMap<PartitionKey, u64>, loads: &mut BTreeMap<NodeId, Load>) {
    for (at, partition) in (0..).map(PartitionId).zip(&topic.partitions) {
        let size = sizes.get(&topic.key(at)).copied().unwrap_or(0);
        for (place, node) in partition.target_replicas().iter().enumerate() {
            let load = loads.entry(*node).or_default();
            load.replicas += 1;
            load.bytes += size;
            load.leaders += u64::from(place == 0);
        }
    }
}

fn layout(chosen: &[Arc<Topic>], request: &PlanRequest, sites: Vec<Site>) -> Layout {
    let place: BTreeMap<NodeId, usize> =
        sites.iter().enumerate().map(|(at, site)| (site.node_id, at)).collect();
    let mut partitions = Vec::new();
    for (number, topic) in chosen.iter().enumerate() {
        for (at, partition) in (0..).map(PartitionId).zip(&topic.partitions) {
            // A broker that is not registered has no place; what it had is missing.
            let known = partition.target_replicas().iter().filter_map(|node| place.get(node));
            let replicas: Vec<usize> = known.copied().collect();
            let size = request.sizes.get(&topic.key(at)).copied().unwrap_or(0);
            let factor = factor(partition, request);
            let origin = replicas.clone();
            partitions.push(Held { topic: number, replicas, origin, size, factor });
        }
    }
    Layout::new(sites, partitions, !request.ignore_racks)
}

fn arrange(
    layout: &mut Layout,
    request: &PlanRequest,
    chosen: &[Arc<Topic>],
) -> Result<(), ClusterError> {
    let led: Vec<_> = (0..layout.partitions.len()).map(|at| layout.leader(at)).collect();
    layout.fill();
    match &request.goal {
        PlanGoal::Classic => return assign_classically(layout, chosen, request.ignore_racks),
        PlanGoal::Even => {
            layout.separate();
            layout.level_replicas(&Levelling::Even);
            layout.cheapen();
            layout.move_leaders();
            layout.level_bytes();
        }
        PlanGoal::Fill(nodes) => {
            let sites = 0..layout.sites.len();
            let filled = sites.filter(|site| nodes.contains(&layout.sites[*site].node_id));
            let levelling = Levelling::Fill(filled.collect());
            layout.level_replicas(&levelling);
            layout.level_leaders(&levelling);
        }
        PlanGoal::Empty => {
            let moved: Vec<usize> =
                (0..led.len()).filter(|at| layout.leader(*at) != led[*at]).collect();
            layout.lead_by_emptiest(&moved);
        }
    }
    Ok(())
}

/// R29, R30: each topic begins where the one before it ended.
fn assign_classically(
    layout: &mut Layout,
    chosen: &[Arc<Topic>],
    ignore_racks: bool,
) -> Result<(), ClusterError> {
    let takers: Vec<usize> = layout.takers().collect();
    let candidate = |site: &usize| Candidate {
        node_id: layout.sites[*site].node_id,
        rack: layout.sites[*site].rack.clone().filter(|_| !ignore_racks),
    };
    let candidates: Vec<Candidate> = takers.iter().map(candidate).collect();
    let place: BTreeMap<NodeId, usize> =
        candidates.iter().map(|it| it.node_id).zip(takers.iter().copied()).collect();
    let mut first = 0;
    for topic in chosen {
        let count = topic.partitions.len();
        let factor = layout.partitions[first].factor;
        let lists = assign_classic(&candidates, count as u32, factor as u32, first, first);
        let lists = lists.ok_or_else(|| ClusterError::TooFewBrokersFor {
            name: topic.name.to_string(),
            factor: factor as u32,
            brokers: candidates.len() as u32,
        })?;
        for (at, list) in (first..).zip(lists) {
            layout.set(at, list.iter().map(|node| place[node]).collect());
        }
        first += count;
    }
    Ok(())
}

fn summary(layout: &Layout, chosen: &[Arc<Topic>], before: &BTreeMap<NodeId, Load>) -> Plan {
    let numbered = chosen.iter().flat_map(|topic| {
        (0..)
            .map(PartitionId)
            .zip(&topic.partitions)
            .map(move |(at, it)| (topic, topic.key(at), it))
    });
    let planned =
        |(at, (topic, key, partition)): (usize, (&Arc<Topic>, PartitionKey, &Partition))| {
            PlannedPartition {
                topic: Arc::clone(&topic.name),
                key,
                current: partition.target_replicas().to_vec(),
                proposed: layout.nodes(at),
                size: layout.partitions[at].size,
                separated: layout.is_separated(at),
            }
        };
    let load = |Load { leaders, replicas, bytes }| BrokerLoad { leaders, replicas, bytes };
    let broker = |(at, site): (usize, &Site)| PlannedBroker {
        node_id: site.node_id,
        rack: site.rack.clone(),
        before: load(before.get(&site.node_id).copied().unwrap_or_default()),
        after: load(layout.total(at)),
    };
    Plan {
        partitions: numbered.enumerate().map(planned).collect(),
        brokers: layout.sites.iter().enumerate().map(broker).collect(),
    }
}

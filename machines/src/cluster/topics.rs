//! Decisions about topics (T1–T9, A25).

use super::configs::config_changes;
use super::election::Rules;
use super::image::{ClusterImage, Partition, Topic, collision_form};
use super::names::{Change, check_owned_key, check_owner, check_topic_name};
use super::placement::{Place, place};
use super::replay::{partition_record, topic_records};
use super::versions::version_of_topic;
use super::{
    ClusterError, ClusterPolicy, CreatePartitions, CreateTopic, Decision, DeleteTopic,
    MAX_PARTITIONS_PER_TOPIC, UpdateTopic, wrap,
};
use crate::config::{ConfigError, TopicConfig, metadata_version_of};
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionEpoch, TopicId};
use troupe_proto::internal::v1::config_resource::Resource;
use troupe_proto::internal::v1::metadata_record::Record;
use troupe_proto::internal::v1::{MetadataRecord, TopicRemovalRecord};

impl ClusterImage {
    /// T1–T4, T6. `topic_id` is new and random; `seed` decides where equal places are tried first. Answers
    /// with the topic as it will be.
    pub fn create_topic(
        &self,
        policy: &ClusterPolicy,
        request: &CreateTopic,
        topic_id: TopicId,
        seed: u64,
    ) -> Result<Decision<Arc<Topic>>, ClusterError> {
        check_owner(&request.name, request.internal, Change::Create)?;
        self.check_new_name(&request.name)?;
        self.check_knows(version_of_topic(&request.name), request.validate_only)?;
        for key in request.configs.keys() {
            self.check_knows(metadata_version_of(key), request.validate_only)?;
        }
        let mut configs = request.configs.clone();
        // What is set for the cluster counts before what its nodes were started with, and topics follow it.
        let followed = |key| self.cluster_overrides().contains_key(key);
        if policy.min_insync_replicas > 1 && !followed("min.insync.replicas") {
            let min_isr = || policy.min_insync_replicas.to_string();
            configs.entry("min.insync.replicas".to_owned()).or_insert_with(min_isr);
        }
        if policy.unclean_leader_election && !followed("unclean.leader.election.enable") {
            let unclean = || "true".to_owned();
            configs.entry("unclean.leader.election.enable".to_owned()).or_insert_with(unclean);
        }
        let (config, overrides) = canonical(&self.topic_defaults, &BTreeMap::new(), &configs, &[])?;
        let assignments = self.assign(policy, request, seed)?;
        self.check_nodes(&policy.partition_limits, &assignments)?;
        let partitions =
            assignments.into_iter().map(|replicas| self.new_partition(replicas)).collect();
        let topic = Topic {
            id: topic_id,
            name: request.name.as_str().into(),
            partitions,
            overrides,
            config: Arc::new(config),
        };
        let records = if request.validate_only { Vec::new() } else { topic_records(&topic) };
        let records = records.into_iter().map(wrap).collect();
        Ok(Decision { records, answer: Arc::new(topic) })
    }

    /// Sets and unsets configuration keys, all or nothing (A3). Answers with the topic as it will be. Where another
    /// `min.insync.replicas` has leaders commit with fewer, who is not in sync is not eligible any more (R16).
    pub fn update_topic(
        &self,
        request: &UpdateTopic,
    ) -> Result<Decision<Arc<Topic>>, ClusterError> {
        let before = self.known_topic(&request.name)?;
        check_owner(&request.name, request.internal, Change::Configure)?;
        for key in request.set.keys().chain(&request.unset) {
            check_owned_key(&request.name, key)?;
            self.check_knows(metadata_version_of(key), request.validate_only)?;
        }
        let (config, overrides) =
            canonical(&self.topic_defaults, &before.overrides, &request.set, &request.unset)?;
        let id = before.id.to_wire();
        let changes = config_changes(&Resource::TopicId(id.clone()), &before.overrides, &overrides);
        let mut records: Vec<_> =
            changes.into_iter().map(|record| wrap(Record::Config(record))).collect();
        let mut answer = Topic { overrides, config: Arc::new(config), ..(**before).clone() };
        if answer.config.min_insync_replicas != before.config.min_insync_replicas {
            let active = |node| self.is_active(node);
            let rules = Rules { unclean: false, ..Rules::of(&answer.config, active) };
            for (at, partition) in (0..).zip(&mut answer.partitions) {
                let Some(after) = rules.with(partition) else { continue };
                records.push(wrap(Record::Partition(partition_record(&id, at, &after))));
                *partition = after;
            }
        }
        Ok(unless(request.validate_only, records, Arc::new(answer)))
    }

    /// T5. Answers with the topic as it will be.
    pub fn create_partitions(
        &self,
        policy: &ClusterPolicy,
        request: &CreatePartitions,
        seed: u64,
    ) -> Result<Decision<Arc<Topic>>, ClusterError> {
        let before = self.known_topic(&request.name)?;
        check_owner(&request.name, request.internal, Change::Resize)?;
        let current = before.partitions.len() as u32;
        let total = positive_partitions(request.total)?;
        if total <= current {
            return Err(ClusterError::PartitionsNotMore { asked: request.total, current });
        }
        let added = total - current;
        self.check_request_size(&policy.partition_limits, added)?;
        let replicas = before.replication_factor() as u32;
        let assignments = if request.assignments.is_empty() {
            self.place_evenly(added, replicas, seed)?
        } else if request.assignments.len() as u32 != added {
            let reason = format!("{} lists for {added} new partitions", request.assignments.len());
            return Err(ClusterError::InvalidAssignment { reason });
        } else {
            self.check_assignments(&request.assignments, Some(replicas as usize))?;
            request.assignments.clone()
        };
        self.check_nodes(&policy.partition_limits, &assignments)?;
        let mut answer = (**before).clone();
        let id = before.id.to_wire();
        let mut records = Vec::with_capacity(assignments.len());
        for (at, replicas) in (current..).zip(assignments) {
            let partition = self.new_partition(replicas);
            records.push(wrap(Record::Partition(partition_record(&id, at, &partition))));
            answer.partitions.push(partition);
        }
        Ok(unless(request.validate_only, records, Arc::new(answer)))
    }

    /// T7. Answers with the id of the topic that goes.
    pub fn delete_topic(
        &self,
        policy: &ClusterPolicy,
        request: &DeleteTopic,
    ) -> Result<Decision<TopicId>, ClusterError> {
        if !policy.delete_topic_enable {
            return Err(ClusterError::DeletionDisabled);
        }
        let topic = self.known_topic(&request.name)?;
        check_owner(&request.name, request.internal, Change::Delete)?;
        let removal = TopicRemovalRecord { topic_id: topic.id.to_wire() };
        let records = vec![wrap(Record::TopicRemoval(removal))];
        Ok(unless(request.validate_only, records, topic.id))
    }

    fn known_topic(&self, name: &str) -> Result<&Arc<Topic>, ClusterError> {
        check_topic_name(name)?;
        self.topic(name).ok_or_else(|| ClusterError::UnknownTopic { name: name.to_owned() })
    }

    /// T2.
    fn check_new_name(&self, name: &str) -> Result<(), ClusterError> {
        check_topic_name(name)?;
        if self.topic(name).is_some() {
            return Err(ClusterError::TopicExists { name: name.to_owned() });
        }
        if collision_form(name).is_some_and(|form| self.collision_forms.contains(&form)) {
            return Err(ClusterError::TopicCollides { name: name.to_owned() });
        }
        Ok(())
    }

    /// The replicas of a new topic's partitions: as asked for, or placed evenly.
    fn assign(
        &self,
        policy: &ClusterPolicy,
        request: &CreateTopic,
        seed: u64,
    ) -> Result<Vec<Vec<NodeId>>, ClusterError> {
        let asked = |number: Option<i32>| number.filter(|number| *number != -1);
        let (partitions, replicas) = (asked(request.partitions), asked(request.replication_factor));
        if !request.assignments.is_empty() {
            if partitions.is_some() || replicas.is_some() {
                let reason = "it excludes a number of partitions and a replication factor".into();
                return Err(ClusterError::InvalidAssignment { reason });
            }
            let count = i32::try_from(request.assignments.len()).unwrap_or(i32::MAX);
            self.check_request_size(&policy.partition_limits, positive_partitions(count)?)?;
            self.check_assignments(&request.assignments, None)?;
            return Ok(request.assignments.clone());
        }
        let partitions = match partitions {
            Some(asked) => positive_partitions(asked)?,
            None => policy.num_partitions,
        };
        let replicas = match replicas {
            Some(asked) if asked < 1 => {
                return Err(ClusterError::InvalidReplicationFactor { asked });
            }
            Some(asked) => asked.unsigned_abs(),
            None => policy.default_replication_factor,
        };
        self.check_request_size(&policy.partition_limits, partitions)?;
        self.place_evenly(partitions, replicas, seed)
    }

    /// T3's last two conditions, and R31.
    fn place_evenly(
        &self,
        partitions: u32,
        replicas: u32,
        seed: u64,
    ) -> Result<Vec<Vec<NodeId>>, ClusterError> {
        let mut brokers: BTreeMap<NodeId, Place> = self
            .brokers()
            .filter(|broker| !broker.retiring)
            .map(|broker| (broker.node_id, Place::of(broker)))
            .collect();
        for partition in self.topics().flat_map(|topic| &topic.partitions) {
            let targets = partition.target_replicas();
            for (at, node) in targets.iter().enumerate() {
                if let Some(place) = brokers.get_mut(node) {
                    place.replicas += 1;
                    place.leaders += u64::from(at == 0);
                }
            }
        }
        let brokers: Vec<Place> = brokers.into_values().collect();
        if replicas as usize > brokers.len() {
            let brokers = brokers.len() as u32;
            return Err(ClusterError::NotEnoughBrokers { asked: replicas, brokers });
        }
        if brokers.iter().all(|broker| broker.fenced) {
            return Err(ClusterError::NoActiveBroker);
        }
        Ok(place(&brokers, partitions, replicas, seed))
    }

    /// T4. All lists are as long as `replicas`, or as the first.
    fn check_assignments(
        &self,
        assignments: &[Vec<NodeId>],
        replicas: Option<usize>,
    ) -> Result<(), ClusterError> {
        let refuse = |reason| Err(ClusterError::InvalidAssignment { reason });
        let replicas = replicas.or(assignments.first().map(Vec::len)).unwrap_or(0);
        for (at, list) in assignments.iter().enumerate() {
            if list.is_empty() || list.len() != replicas {
                return refuse(format!("list {at} has {} replicas, not {replicas}", list.len()));
            }
            for (position, node) in list.iter().enumerate() {
                if list[..position].contains(node) {
                    return refuse(format!("list {at} names broker {node} twice"));
                }
                if self.broker(*node).is_none() {
                    return refuse(format!("broker {node} in list {at} is not registered"));
                }
                if self.is_retiring(*node) {
                    return refuse(format!("broker {node} in list {at} is being retired"));
                }
            }
            if !list.iter().any(|node| self.is_active(*node)) {
                return refuse(format!("no broker in list {at} is active"));
            }
        }
        Ok(())
    }

    /// R31, R32: in sync are the active replicas, though they are empty; the first of them leads.
    fn new_partition(&self, replicas: Vec<NodeId>) -> Partition {
        let isr: Vec<_> = replicas.iter().copied().filter(|node| self.is_active(*node)).collect();
        let leader = isr.first().copied();
        let (leader_epoch, partition_epoch) = (LeaderEpoch(0), PartitionEpoch(0));
        Partition {
            replicas,
            adding: Vec::new(),
            removing: Vec::new(),
            original: Vec::new(),
            isr,
            elr: Vec::new(),
            leader,
            last_known_leader: None,
            last_in_sync: Vec::new(),
            recovering: false,
            leader_epoch,
            partition_epoch,
        }
    }
}

fn unless<T>(validate_only: bool, records: Vec<MetadataRecord>, answer: T) -> Decision<T> {
    Decision { records: if validate_only { Vec::new() } else { records }, answer }
}

fn positive_partitions(asked: i32) -> Result<u32, ClusterError> {
    match u32::try_from(asked) {
        Ok(0) | Err(_) => Err(ClusterError::InvalidPartitions { asked }),
        Ok(partitions) if partitions > MAX_PARTITIONS_PER_TOPIC => {
            Err(ClusterError::TooManyPartitions { asked, limit: MAX_PARTITIONS_PER_TOPIC })
        }
        Ok(partitions) => Ok(partitions),
    }
}

/// The overrides after a change, in canonical form, and what they make of the defaults.
fn canonical(
    defaults: &TopicConfig,
    before: &BTreeMap<String, String>,
    set: &BTreeMap<String, String>,
    unset: &[String],
) -> Result<(TopicConfig, BTreeMap<String, String>), ConfigError> {
    let mut config = defaults.overridden(before)?;
    let mut overrides = before.clone();
    for key in unset {
        config.reset(key, defaults)?;
        overrides.remove(key);
        if let Some(value) = set.get(key) {
            let (key, value) = (key.clone(), value.clone());
            return Err(ConfigError::Invalid { key, value, reason: "set and unset".to_owned() });
        }
    }
    for (key, value) in set {
        config.set(key, value)?;
        let value = config.get(key).expect("a key that could be set can be read");
        overrides.insert(key.clone(), value);
    }
    config.check()?;
    Ok((config, overrides))
}

//! How fast new replicas are filled (A13): rates of the brokers that are involved, and for each topic which replicas they
//! are for, set before anything begins, and taken away when nothing is under way any more.
//!
//! Promises: what is set covers all that is under way and all that is about to be; and of each partition only the
//! replicas that are new. Broker rates are taken away only when no reassignment is left to go by them.

use super::plan::Plan;
use super::status::states;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::quantity::{Given, parse_byte_rate};
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use troupe_client::Client;
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::admin::v1::{
    AlterConfigOperation, AlterConfigsResource, AlterableConfig, ConfigEntrySource, ConfigResource,
    DescribeConfigsResource, IncrementalAlterConfigsRequest, PartitionFilter,
    PartitionReassignment, PartitionState,
};
use troupe_proto::error::Error;

const RATES: [&str; 2] =
    ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
const LEADERS: &str = "leader.replication.throttled.replicas";
const FOLLOWERS: &str = "follower.replication.throttled.replicas";

/// Until somebody looks whether it is over. The first sentence is Kafka's.
const STAYS: &str = "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is \
                     removed.\n`troupe reassign verify --all` takes it away once nothing is under way\n";

/// The throttle of a command that fills replicas.
#[derive(Debug, Args)]
pub struct ThrottleRate {
    /// Bytes a second for new replicas, over all that a broker sends and all that it takes, such as 50MiB/s; never for
    /// one that is in sync
    #[arg(long, value_name = "RATE", value_parser = parse_byte_rate, allow_hyphen_values = true)]
    throttle: Option<Given<u64>>,
}

impl ThrottleRate {
    /// None: as fast as it can.
    pub fn rate(&self) -> Option<u64> {
        self.throttle.as_ref().and_then(|given| given.0)
    }
}

/// What was set.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttled {
    bytes_per_second: u64,
    broker_ids: BTreeSet<i32>,
    topics: BTreeMap<String, Replicas>,
}

/// Of one topic, as `partition:broker` with commas.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replicas {
    leader_throttled_replicas: String,
    follower_throttled_replicas: String,
}

/// Who has a partition, and who is to get it.
#[derive(Clone, Debug, Default)]
struct Move {
    sources: BTreeSet<i32>,
    destinations: BTreeSet<i32>,
}

/// Sets the rate, for a plan that is about to be begun and for all that is under way. `None`: nothing is to be copied, so
/// nothing was set.
///
/// # Errors
/// What is refused, each with its reason; and those of the calls.
pub async fn set(
    client: &Client,
    what: &str,
    plan: &Plan,
    bytes_per_second: u64,
    validate_only: bool,
) -> Result<Option<Throttled>, Failure> {
    let context = || what.to_owned();
    let active = client.admin().list_partition_reassignments(&[]).await.with_context(context)?;
    let (_, known) = states(client, plan).await.with_context(context)?;
    let throttled = Throttled::of(bytes_per_second, &moves(&active, plan, &known));
    if throttled.topics.is_empty() {
        return Ok(None);
    }
    alter(client, what, throttled.changes(), validate_only).await?;
    Ok(Some(throttled))
}

fn moves(
    active: &[PartitionReassignment],
    plan: &Plan,
    known: &BTreeMap<(String, i32), PartitionState>,
) -> BTreeMap<(String, i32), Move> {
    let mut moves: BTreeMap<(String, i32), Move> = BTreeMap::new();
    for one in active {
        let adding: BTreeSet<i32> = one.adding_replicas.iter().copied().collect();
        let sources = one.replicas.iter().copied().filter(|node| !adding.contains(node)).collect();
        moves.insert((one.topic.clone(), one.partition), Move { sources, destinations: adding });
    }
    for planned in &plan.partitions {
        let key = (planned.topic.clone(), planned.partition);
        let Some(state) = known.get(&key) else { continue };
        let is_source = |node: &i32| !state.adding_replicas.contains(node);
        let sources: BTreeSet<i32> = state.replicas.iter().copied().filter(is_source).collect();
        let destinations = planned.replicas.iter().copied();
        let destinations = destinations.filter(|node| !sources.contains(node)).collect();
        moves.insert(key, Move { sources, destinations });
    }
    moves.retain(|_, one| !one.destinations.is_empty());
    moves
}

impl Throttled {
    fn of(bytes_per_second: u64, moves: &BTreeMap<(String, i32), Move>) -> Throttled {
        let mut topics: BTreeMap<String, Replicas> = BTreeMap::new();
        let mut broker_ids = BTreeSet::new();
        for ((topic, partition), Move { sources, destinations }) in moves {
            let replicas = topics.entry(topic.clone()).or_default();
            add(&mut replicas.leader_throttled_replicas, *partition, sources);
            add(&mut replicas.follower_throttled_replicas, *partition, destinations);
            broker_ids.extend(sources.iter().chain(destinations));
        }
        Throttled { bytes_per_second, broker_ids, topics }
    }

    fn changes(&self) -> Vec<AlterConfigsResource> {
        let change = |name: &str, value: String| AlterableConfig {
            name: name.to_owned(),
            operation: AlterConfigOperation::Set.into(),
            value,
        };
        let rate = self.bytes_per_second.to_string();
        // The lists first: a rate without them holds back nobody.
        let topics = self.topics.iter().map(|(topic, replicas)| {
            let lists = vec![
                change(LEADERS, replicas.leader_throttled_replicas.clone()),
                change(FOLLOWERS, replicas.follower_throttled_replicas.clone()),
            ];
            resource(Resource::Topic(topic.clone()), lists)
        });
        let brokers = self.broker_ids.iter().map(|node| {
            let rates = RATES.map(|key| change(key, rate.clone()));
            resource(Resource::BrokerId(*node), rates.to_vec())
        });
        topics.chain(brokers).collect()
    }

    /// Kafka's words, and what it is set for.
    /// `watched`: whoever set it waits, and takes it away at the end.
    pub fn text(&self, watched: bool) -> String {
        let rate = self.bytes_per_second;
        let mut text = if watched { String::new() } else { STAYS.to_owned() };
        text += &format!("The inter-broker throttle limit was set to {rate} B/s\n");
        let brokers = listed(self.broker_ids.iter());
        text +=
            &format!("Set {} on broker{} {brokers}\n", RATES.join(" and "), s(&self.broker_ids));
        for (topic, replicas) in &self.topics {
            text += &format!(
                "Set on topic {topic}: {LEADERS}={}, {FOLLOWERS}={}\n",
                replicas.leader_throttled_replicas, replicas.follower_throttled_replicas
            );
        }
        text
    }
}

fn add(list: &mut String, partition: i32, nodes: &BTreeSet<i32>) {
    for node in nodes {
        let comma = if list.is_empty() { "" } else { "," };
        *list += &format!("{comma}{partition}:{node}");
    }
}

fn resource(resource: Resource, configs: Vec<AlterableConfig>) -> AlterConfigsResource {
    AlterConfigsResource { resource: Some(ConfigResource { resource: Some(resource) }), configs }
}

fn s<T>(several: &BTreeSet<T>) -> &'static str {
    if several.len() == 1 { "" } else { "s" }
}

fn listed<T: ToString>(all: impl Iterator<Item = T>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(",")
}

/// What was taken away, in Kafka's words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cleared {
    brokers: BTreeSet<i32>,
    topics: BTreeSet<String>,
}

impl Cleared {
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.brokers.is_empty() {
            let brokers = listed(self.brokers.iter());
            let s = s(&self.brokers);
            text += &format!("Clearing broker-level throttles on broker{s} {brokers}\n");
        }
        if !self.topics.is_empty() {
            let (topics, s) = (listed(self.topics.iter()), s(&self.topics));
            text += &format!("Clearing topic-level throttles on topic{s} {topics}\n");
        }
        text
    }
}

/// The same as [`clear`], if nothing at all is under way; otherwise nothing.
///
/// # Errors
/// As of [`clear`].
pub async fn clear_if_over(
    client: &Client,
    what: &str,
    topics: Option<BTreeSet<String>>,
) -> Result<Cleared, Failure> {
    let active = client.admin().list_partition_reassignments(&[]).await;
    match active.with_context(|| what.to_owned())?.is_empty() {
        true => clear_beside(client, what, topics, &[]).await,
        false => Ok(Cleared::default()),
    }
}

/// Takes the throttles away of topics (`None`: of all) that have nothing under way, and those of all brokers if nothing
/// at all is under way. `over`: partitions that are known to be under way no longer, though a node may not know it yet.
///
/// # Errors
/// What is refused, each with its reason; and those of the calls.
pub async fn clear(
    client: &Client,
    what: &str,
    topics: Option<BTreeSet<String>>,
    over: &BTreeSet<(String, i32)>,
) -> Result<Cleared, Failure> {
    let active = client.admin().list_partition_reassignments(&[]).await;
    let mut active = active.with_context(|| what.to_owned())?;
    active.retain(|one| !over.contains(&(one.topic.clone(), one.partition)));
    clear_beside(client, what, topics, &active).await
}

/// But for what `active` goes by.
async fn clear_beside(
    client: &Client,
    what: &str,
    topics: Option<BTreeSet<String>>,
    active: &[PartitionReassignment],
) -> Result<Cleared, Failure> {
    let context = || what.to_owned();
    let is_named = topics.is_some();
    let mut topics = match topics {
        Some(topics) => topics,
        None => {
            let all = client.admin().list_partitions(None, PartitionFilter::Unspecified).await;
            all.with_context(context)?.into_iter().map(|one| one.topic).collect()
        }
    };
    topics.retain(|topic| !active.iter().any(|one| one.topic == *topic));
    let mut brokers = BTreeSet::new();
    if active.is_empty() {
        let cluster = client.admin().get_cluster().await.with_context(context)?;
        brokers.extend(cluster.nodes.iter().map(|node| node.node_id));
    }
    let set = set_now(client, what, &topics, &brokers).await?;
    if !is_named {
        let is_set =
            |topic: &String| set.iter().any(|(it, _)| *it == Resource::Topic(topic.clone()));
        topics.retain(is_set);
    }
    let unset = |name| AlterableConfig {
        name,
        operation: AlterConfigOperation::Delete.into(),
        value: String::new(),
    };
    let changes =
        set.into_iter().map(|(whose, keys)| resource(whose, keys.into_iter().map(unset).collect()));
    alter(client, what, changes.collect(), false).await?;
    Ok(Cleared { brokers, topics })
}

/// Of these topics and brokers: which have throttles of their own, and which.
async fn set_now(
    client: &Client,
    what: &str,
    topics: &BTreeSet<String>,
    brokers: &BTreeSet<i32>,
) -> Result<Vec<(Resource, Vec<String>)>, Failure> {
    let lists = [LEADERS, FOLLOWERS].map(str::to_owned).to_vec();
    let rates = RATES.map(str::to_owned).to_vec();
    let topics = topics.iter().map(|topic| (Resource::Topic(topic.clone()), lists.clone()));
    let brokers = brokers.iter().map(|node| (Resource::BrokerId(*node), rates.clone()));
    let asked: Vec<(Resource, Vec<String>)> = topics.chain(brokers).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let ask = |(resource, keys): &(Resource, Vec<String>)| DescribeConfigsResource {
        resource: Some(ConfigResource { resource: Some(resource.clone()) }),
        keys: keys.clone(),
    };
    let described = client.admin().describe_configs_of_all(asked.iter().map(ask).collect()).await;
    let described = described.with_context(|| what.to_owned())?;
    // What is gone meanwhile has nothing set.
    let own = |source| {
        matches!(source, ConfigEntrySource::DynamicTopic | ConfigEntrySource::DynamicBroker)
    };
    let found = asked.into_iter().zip(described).filter_map(|((resource, _), described)| {
        let set = described.configs.iter().filter(|config| own(config.source()));
        let keys: Vec<String> = set.map(|config| config.name.clone()).collect();
        (!keys.is_empty()).then_some((resource, keys))
    });
    Ok(found.collect())
}

async fn alter(
    client: &Client,
    what: &str,
    resources: Vec<AlterConfigsResource>,
    validate_only: bool,
) -> Result<(), Failure> {
    if resources.is_empty() {
        return Ok(());
    }
    // Of the cluster's own topics, too: a node that is retired has replicas of them.
    let request = IncrementalAlterConfigsRequest { resources, validate_only, internal: true };
    let altered = client.admin().incremental_alter_configs_of_all(request).await;
    let altered = altered.with_context(|| what.to_owned())?;
    let refused: Vec<String> =
        altered.into_iter().filter_map(|one| Some(Error::from(one.error?).to_string())).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Refused, what, refused.join("; "));
    Err(failure.with_hint("`troupe reassign verify --all` takes throttles away"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reassignment::PlannedPartition;

    fn state(replicas: &[i32], adding: &[i32]) -> PartitionState {
        PartitionState {
            replicas: replicas.to_vec(),
            adding_replicas: adding.to_vec(),
            ..PartitionState::default()
        }
    }

    fn planned(partition: i32, replicas: &[i32]) -> PlannedPartition {
        let (topic, replicas) = ("first".to_owned(), replicas.to_vec());
        PlannedPartition { topic, partition, replicas, log_dirs: Vec::new() }
    }

    /// A13: leaders are those that have it, followers those that are new; also of what is under way already.
    #[test]
    fn a_throttle_is_for_new_replicas_and_for_whoever_fills_them() {
        let active = [PartitionReassignment {
            topic: "other".to_owned(),
            partition: 7,
            replicas: vec![9, 8],
            adding_replicas: vec![9],
            ..PartitionReassignment::default()
        }];
        let plan = Plan::new(vec![planned(0, &[2, 3, 0]), planned(1, &[5, 4]), planned(2, &[1])]);
        let known = BTreeMap::from([
            (("first".to_owned(), 0), state(&[0, 1], &[])),
            // Under way to 6, which is not wanted any more.
            (("first".to_owned(), 1), state(&[6, 4], &[6])),
            // Nothing is copied.
            (("first".to_owned(), 2), state(&[1, 2], &[])),
        ]);
        let throttled = Throttled::of(50_000, &moves(&active, &plan, &known));
        assert_eq!(throttled.broker_ids, BTreeSet::from([0, 1, 2, 3, 4, 5, 8, 9]));
        let first = &throttled.topics["first"];
        assert_eq!(first.leader_throttled_replicas, "0:0,0:1,1:4");
        assert_eq!(first.follower_throttled_replicas, "0:2,0:3,1:5");
        assert_eq!(throttled.topics["other"].follower_throttled_replicas, "7:9");
        let text = throttled.text(true);
        assert!(!text.contains("verify"), "it is taken away by who set it: {text}");
        let text = throttled.text(false);
        assert!(text.contains("`troupe reassign verify --all` takes it away"), "{text}");
        assert!(text.contains("The inter-broker throttle limit was set to 50000 B/s\n"), "{text}");
        assert!(text.contains("on brokers 0,1,2,3,4,5,8,9\n"), "{text}");
    }

    /// A12.
    #[test]
    fn what_is_cleared_is_told_in_kafkas_words() {
        let cleared = Cleared {
            brokers: BTreeSet::from([0, 1]),
            topics: BTreeSet::from(["first".to_owned()]),
        };
        assert_eq!(
            cleared.text(),
            "Clearing broker-level throttles on brokers 0,1\nClearing topic-level throttles on topic first\n"
        );
        assert_eq!(Cleared::default().text(), "");
    }
}

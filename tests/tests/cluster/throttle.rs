//! A12, A13: new replicas are filled no faster than the rates of their brokers, and whoever is in sync is never held back.
//!
//! The rates here are one byte a second, at which nothing is ever complete: so what is held back is counted in bytes, and
//! no test goes by how long something takes.

use crate::{leader, partition_where, topic_on};
use std::process::Output;
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::admin::v1::{
    AlterConfigOperation as Op, AlterConfigsResource, AlterableConfig, ConfigEntrySource as From,
    ConfigResource, DescribeConfigsRequest, DescribeConfigsResource,
    IncrementalAlterConfigsRequest, ListReplicasRequest, PartitionState,
};
use troupe_proto::v1::Acks;
use troupe_tests::{Cluster, Sample, batch_of, eventually_or_why, troupe};

const TOPIC: &str = "held";
pub(super) const LEADER_RATE: &str = "leader.replication.throttled.rate";
pub(super) const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
pub(super) const LEADERS: &str = "leader.replication.throttled.replicas";
pub(super) const FOLLOWERS: &str = "follower.replication.throttled.replicas";

const RECORD: usize = 500_000;
const RECORDS: usize = 20;
/// One push, of whole batches, goes whatever the rate is.
const ONE_PUSH: i64 = 3 * RECORD as i64;

async fn set(cluster: &Cluster, resource: Resource, key: &str, value: Option<&str>) {
    let config = AlterableConfig {
        name: key.to_owned(),
        operation: if value.is_some() { Op::Set } else { Op::Delete }.into(),
        value: value.unwrap_or_default().to_owned(),
    };
    let resource = Some(ConfigResource { resource: Some(resource) });
    let resources = vec![AlterConfigsResource { resource, configs: vec![config] }];
    let request = IncrementalAlterConfigsRequest { resources, ..Default::default() };
    eventually_or_why("the setting is changed", async || {
        let server = cluster.server(1).await;
        let answer = server.configs().incremental_alter_configs(request.clone()).await;
        let mut results = answer.map_err(|status| status.to_string())?.into_inner().results;
        results.remove(0).error.map_or(Ok(()), |error| Err(error.message))
    })
    .await;
}

/// The value, if one is set for the topic or the broker itself.
pub(super) async fn own(cluster: &Cluster, whose: Resource, key: &str) -> Option<String> {
    let resource = Some(ConfigResource { resource: Some(whose) });
    let resources = vec![DescribeConfigsResource { resource, keys: vec![key.to_owned()] }];
    let request = DescribeConfigsRequest { resources };
    let server = cluster.server(cluster.live()[0]).await;
    let answer = server.configs().describe_configs(request).await.unwrap().into_inner();
    let config = answer.results.into_iter().next().unwrap().configs.remove(0);
    let is_own = matches!(config.source(), From::DynamicTopic | From::DynamicBroker);
    config.value.filter(|_| is_own)
}

/// What a node has of the topic's only partition.
async fn held_by(cluster: &Cluster, node: i32) -> i64 {
    let request = ListReplicasRequest { topic: TOPIC.to_owned(), ..Default::default() };
    let server = cluster.server(node).await;
    let listed = server.cluster().list_replicas(request).await.unwrap().into_inner();
    listed.replicas.first().map_or(0, |one| one.size_bytes)
}

async fn send(cluster: &Cluster, topic: &str, size: usize) {
    let (_, server) = leader(cluster, topic).await;
    let batch = batch_of(&[Sample::of(vec![7; size], 1)]);
    eventually_or_why("the record is acknowledged by all that are in sync", async || {
        let result = server.produce(topic, 0, batch.clone(), Acks::All).await;
        result.error.map_or(Ok(()), |error| Err(format!("{error:?}")))
    })
    .await;
}

/// Node 1 leads what is to be moved, node 2 is in sync, and node 3 follows another topic of node 1, in sync.
async fn filled() -> Cluster {
    let cluster = Cluster::start(&["shards=1"]).await;
    topic_on(&cluster, TOPIC, &[1, 2], &[("min.insync.replicas", "2")]).await;
    let others = [("min.insync.replicas", "2"), (LEADERS, "*"), (FOLLOWERS, "*")];
    topic_on(&cluster, "beside", &[1, 3], &others).await;
    for _ in 0..RECORDS {
        send(&cluster, TOPIC, RECORD).await;
    }
    cluster
}

pub(super) async fn run(cluster: &Cluster, arguments: &[&str]) -> Output {
    let servers: Vec<&str> = cluster.ids().map(|id| cluster.address(id)).collect();
    troupe(&servers.join(","), arguments).await
}

pub(super) fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

async fn done(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = run(cluster, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

fn plan(directory: &tempfile::TempDir) -> String {
    let path = directory.path().join("plan.json");
    let plan = format!(
        r#"{{"version":1,"partitions":[{{"topic":"{TOPIC}","partition":0,"replicas":[1,2,3]}}]}}"#
    );
    std::fs::write(&path, plan).unwrap();
    path.display().to_string()
}

/// The new replica has got what goes whatever the rate is, and no more, though all others go on.
async fn is_held_back(cluster: &Cluster) {
    eventually_or_why("the new replica has begun", async || match held_by(cluster, 3).await {
        0 => Err("nothing yet".to_owned()),
        _ => Ok(()),
    })
    .await;
    for _ in 0..50 {
        // By nodes 1 and 2, and by nodes 1 and 3: of one leader, one shard, and with its list.
        send(cluster, TOPIC, 1_000).await;
        send(cluster, "beside", 100_000).await;
    }
    let held = held_by(cluster, 3).await;
    assert!((1..=ONE_PUSH).contains(&held), "{held} of {}", RECORDS * RECORD);
    let listed = done(cluster, &["reassign", "list"]).await;
    assert!(listed.contains(TOPIC), "{listed}");
}

async fn complete(cluster: &Cluster) -> PartitionState {
    partition_where(cluster, TOPIC, |one| {
        one.adding_replicas.is_empty() && one.in_sync_replicas.len() == 3
    })
    .await
}

/// By which end it is held back.
async fn only_the_new_replica_waits(rate: &str, broker: i32, list: &str, listed: &str) {
    let cluster = filled().await;
    set(&cluster, Resource::BrokerId(broker), rate, Some("1")).await;
    set(&cluster, Resource::Topic(TOPIC.to_owned()), list, Some(listed)).await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(&directory);
    // It is to hold on the node before anything begins.
    eventually_or_why("the node goes by the rate", async || {
        match own(&cluster, Resource::BrokerId(broker), rate).await.as_deref() {
            Some("1") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    done(&cluster, &["reassign", "execute", &plan]).await;
    is_held_back(&cluster).await;
    set(&cluster, Resource::BrokerId(broker), rate, None).await;
    complete(&cluster).await;
    send(&cluster, TOPIC, 1_000).await;
}

#[tokio::test]
async fn a_leader_holds_a_new_replica_back_and_none_that_is_in_sync() {
    only_the_new_replica_waits(LEADER_RATE, 1, LEADERS, "0:1").await;
}

#[tokio::test]
async fn a_new_replica_holds_its_leader_back_and_none_that_is_in_sync_waits_for_it() {
    only_the_new_replica_waits(FOLLOWER_RATE, 3, FOLLOWERS, "0:3").await;
}

/// A replica that is not listed is filled, whatever the rates are.
#[tokio::test]
async fn a_rate_without_a_list_holds_nobody_back() {
    let cluster = filled().await;
    for broker in 1..=3 {
        for rate in [LEADER_RATE, FOLLOWER_RATE] {
            set(&cluster, Resource::BrokerId(broker), rate, Some("1")).await;
        }
    }
    // Those that it is neither led by nor filled on.
    set(&cluster, Resource::Topic(TOPIC.to_owned()), LEADERS, Some("0:2")).await;
    set(&cluster, Resource::Topic(TOPIC.to_owned()), FOLLOWERS, Some("0:1,1:3")).await;
    let directory = tempfile::tempdir().unwrap();
    done(&cluster, &["reassign", "execute", &plan(&directory)]).await;
    complete(&cluster).await;
}

/// A11, A12, A13, from the command line.
#[tokio::test]
async fn a_throttle_is_set_with_a_reassignment_changed_while_it_runs_and_cleared_by_verify() {
    let cluster = filled().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(&directory);
    let topic = || Resource::Topic(TOPIC.to_owned());
    let began = done(&cluster, &["reassign", "execute", &plan, "--throttle", "1B/s"]).await;
    assert!(began.contains("The inter-broker throttle limit was set to 1 B/s\n"), "{began}");
    assert!(began.contains("`troupe reassign verify --all` takes it away"), "{began}");
    assert!(began.contains("Successfully started partition reassignment for held-0\n"), "{began}");
    assert_eq!(own(&cluster, topic(), LEADERS).await.as_deref(), Some("0:1,0:2"));
    assert_eq!(own(&cluster, topic(), FOLLOWERS).await.as_deref(), Some("0:3"));
    is_held_back(&cluster).await;
    let verified = run(&cluster, &["reassign", "verify", &plan]).await;
    assert!(!verified.status.success());
    let verified = text(&verified);
    assert!(verified.contains("partition held-0 is still in progress.\n"), "{verified}");
    assert!(!verified.contains("Clearing"), "{verified}");
    for broker in 1..=3 {
        for rate in [LEADER_RATE, FOLLOWER_RATE] {
            let set = own(&cluster, Resource::BrokerId(broker), rate).await;
            assert_eq!(set.as_deref(), Some("1"), "{broker}, {rate}");
        }
    }
    let faster = ["reassign", "execute", &plan, "--additional", "--throttle", "400MiB/s"];
    let faster = done(&cluster, &faster).await;
    assert!(faster.contains(&format!("set to {} B/s\n", 400 << 20)), "{faster}");
    complete(&cluster).await;
    let preserved = done(&cluster, &["reassign", "verify", &plan, "--preserve-throttles"]).await;
    assert!(preserved.contains("Reassignment of partition held-0 is completed."), "{preserved}");
    assert!(own(&cluster, topic(), FOLLOWERS).await.is_some());
    let cleared = done(&cluster, &["reassign", "verify", &plan]).await;
    assert!(cleared.contains("Clearing broker-level throttles on brokers 1,2,3\n"), "{cleared}");
    assert!(cleared.contains("Clearing topic-level throttles on topic held\n"), "{cleared}");
    is_cleared(&cluster).await;
    let rest = own(&cluster, Resource::Topic("beside".to_owned()), LEADERS).await;
    assert_eq!(rest.as_deref(), Some("*"), "it is none of the plan's");
}

/// What is given up is throttled no more.
#[tokio::test]
async fn a_throttle_is_cleared_with_a_reassignment_that_is_cancelled() {
    let cluster = filled().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(&directory);
    done(&cluster, &["reassign", "execute", &plan, "--throttle", "1B/s"]).await;
    is_held_back(&cluster).await;
    let cancelled = done(&cluster, &["reassign", "cancel", &plan]).await;
    let told = "Successfully cancelled partition reassignments for: held-0\n";
    assert!(cancelled.contains(told), "{cancelled}");
    assert!(cancelled.contains("Clearing topic-level throttles on topic held\n"), "{cancelled}");
    is_cleared(&cluster).await;
}

async fn is_cleared(cluster: &Cluster) {
    eventually_or_why("nothing is throttled any more", async || {
        for broker in 1..=3 {
            for rate in [LEADER_RATE, FOLLOWER_RATE] {
                if let Some(set) = own(cluster, Resource::BrokerId(broker), rate).await {
                    return Err(format!("{broker}: {rate}={set}"));
                }
            }
        }
        for list in [LEADERS, FOLLOWERS] {
            if let Some(set) = own(cluster, Resource::Topic(TOPIC.to_owned()), list).await {
                return Err(format!("{list}={set}"));
            }
        }
        Ok(())
    })
    .await;
}

/// For the release: prints how well a rate is held over a reassignment of two gigabytes, and how long an append takes
/// before and meanwhile.
#[tokio::test]
#[ignore = "writes four gigabytes and measures; run it alone, with --release --nocapture"]
async fn how_well_a_rate_is_held_and_how_long_appends_take_meanwhile() {
    const RATE: u64 = 50 << 20;
    let cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[1, 2], &[("min.insync.replicas", "2")]).await;
    topic_on(&cluster, "beside", &[1, 2, 3], &[("min.insync.replicas", "2")]).await;
    for _ in 0..4_000 {
        send(&cluster, TOPIC, RECORD).await;
    }
    let (before, _) = appends(&cluster, async || false).await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(&directory);
    done(&cluster, &["reassign", "execute", &plan, "--throttle", "50MiB/s"]).await;
    let (during, samples) = appends(&cluster, async || {
        let picture = cluster.describe().await.unwrap();
        let one = picture.partition(TOPIC, 0).unwrap();
        !one.adding_replicas.is_empty() && !one.in_sync_replicas.contains(&3)
    })
    .await;
    done(&cluster, &["reassign", "verify", &plan]).await;
    // Not the first and the last, which are parts of a span.
    let inner = &samples[1..samples.len().saturating_sub(1)];
    let (first, last) = (inner.first().unwrap(), inner.last().unwrap());
    let rate = (last.1 - first.1) as f64 / (last.0 - first.0).as_secs_f64();
    println!("rate asked {RATE} B/s, held {rate:.0} B/s ({:.3} of it)", rate / RATE as f64);
    println!("p99 of appends with acks=all: before {before:?}, meanwhile {during:?}");
}

/// The p99 of appends one after the other to another topic of the same nodes, at least 1 000 and as long as something
/// `goes_on`, and what the new replica had of the first one meanwhile.
async fn appends(
    cluster: &Cluster,
    goes_on: impl AsyncFn() -> bool,
) -> (std::time::Duration, Vec<(std::time::Instant, i64)>) {
    let (_, server) = leader(cluster, "beside").await;
    let batch = batch_of(&[Sample::of(vec![7; 1_000], 1)]);
    let (mut took, mut samples) = (Vec::new(), Vec::new());
    while took.len() < 1_000 || goes_on().await {
        for _ in 0..200 {
            let began = std::time::Instant::now();
            let result = server.produce("beside", 0, batch.clone(), Acks::All).await;
            assert_eq!(result.error, None);
            took.push(began.elapsed());
        }
        samples.push((std::time::Instant::now(), held_by(cluster, 3).await));
    }
    took.sort();
    (took[took.len() * 99 / 100], samples)
}

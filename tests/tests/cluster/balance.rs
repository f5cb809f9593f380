//! R28, A10, A14, A15: nodes that come get their share, nodes that go are emptied first, and clients notice neither.

use crate::refused;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord,
};
use troupe_proto::admin::v1::placement_service_client::PlacementServiceClient;
use troupe_proto::admin::v1::{
    ClusterNode, CreateTopicRequest, PlanGoal, PlanReassignmentRequest, ReplicaAssignment,
    RetireNodeRequest,
};
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Cluster, PATIENCE, eventually_or_why, troupe};

const TOPIC: &str = "spread";

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[track_caller]
fn done(output: Output) -> Output {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

async fn run(cluster: &Cluster, arguments: &[&str]) -> Output {
    let servers: Vec<&str> = cluster.live().into_iter().map(|id| cluster.address(id)).collect();
    troupe(&servers.join(","), arguments).await
}

async fn create(cluster: &Cluster, lists: &[&[i32]]) {
    let list = |replicas: &&[i32]| ReplicaAssignment { replicas: replicas.to_vec() };
    let request = CreateTopicRequest {
        name: TOPIC.to_owned(),
        assignments: lists.iter().map(list).collect(),
        ..Default::default()
    };
    cluster.server(1).await.topics().create_topic(request).await.unwrap();
}

/// A node as the cluster knows it, if it does.
async fn node(cluster: &Cluster, id: i32) -> Result<Option<ClusterNode>, String> {
    let picture = cluster.describe().await?;
    Ok(picture.node(id).cloned())
}

async fn until_active(cluster: &Cluster, id: i32) {
    eventually_or_why("the node is active", async || match node(cluster, id).await? {
        Some(node) if !node.fenced => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Every partition has all of its replicas in sync, and none of them on this node.
async fn whole_without(cluster: &Cluster, id: i32) {
    eventually_or_why("all is in sync elsewhere", async || {
        let picture = cluster.describe().await?;
        let bad = picture.partitions.iter().find(|one| {
            one.in_sync_replicas.len() != one.replicas.len() || one.replicas.contains(&id)
        });
        bad.map_or(Ok(()), |_| Err(picture.to_string()))
    })
    .await;
}

/// Three of four nodes; the fourth does not run yet.
async fn three_of_four() -> Cluster {
    let mut cluster = Cluster::prepare(4, &[]);
    cluster.restart(&[1, 2, 3]).await;
    for id in 1..=3 {
        until_active(&cluster, id).await;
    }
    cluster
}

/// A15, by one command each, and what it says is true.
#[tokio::test]
async fn a_node_that_comes_gets_its_share_and_one_that_goes_leaves_nothing_behind() {
    let mut cluster = three_of_four().await;
    create(&cluster, &[&[1, 2], &[2, 3], &[3, 1], &[1, 2], &[2, 3], &[3, 1], &[1, 2], &[2, 3]])
        .await;
    let client = Client::connect(ClientConfig::new(cluster.addresses())).await.unwrap();
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    for n in 0..80 {
        let record = ProducerRecord::new(TOPIC).value(format!("{n}")).partition(n % 8);
        producer.send(record).await.unwrap().await.unwrap();
    }
    cluster.restart(&[4]).await;
    until_active(&cluster, 4).await;
    assert_eq!(node(&cluster, 4).await.unwrap().unwrap().replica_count, 0, "nothing by itself");
    let shown = json(&done(run(&cluster, &["node", "add", "4", "--dry-run", "-o", "json"]).await));
    assert_eq!(shown["replicasToCopy"], 4, "{shown}");
    assert_eq!(shown["complete"], false, "{shown}");
    assert_eq!(node(&cluster, 4).await.unwrap().unwrap().replica_count, 0);
    let added = json(&done(run(&cluster, &["node", "add", "4", "--wait", "-o", "json"]).await));
    assert_eq!(added["complete"], true, "{added}");
    let filled = node(&cluster, 4).await.unwrap().unwrap();
    assert_eq!((filled.replica_count, filled.in_sync_count), (4, 4));
    let again = json(&done(run(&cluster, &["cluster", "rebalance", "-o", "json"]).await));
    assert_eq!(again["replicasToCopy"], 0, "{again}");

    let retired = json(&done(run(&cluster, &["node", "retire", "4", "-o", "json"]).await));
    assert_eq!(retired["removed"], false, "{retired}");
    whole_without(&cluster, 4).await;
    let marked = node(&cluster, 4).await.unwrap().unwrap();
    assert!(marked.retiring && marked.leader_count == 0, "{marked:?}");
    assert!(cluster.terminate(4).await.success());
    retired_until(&cluster, "removed").await;
    assert!(node(&cluster, 4).await.unwrap().is_none());
    for partition in 0..8 {
        let picture = cluster.describe().await.unwrap();
        let leader = picture.leader(TOPIC, partition).unwrap();
        let read = cluster.server(leader).await.read_all(TOPIC, partition).await;
        assert_eq!(read.len(), 10, "partition {partition}");
    }
}

/// A15 step by step, with plans as Kafka's tools write them; A14's other replication factor.
#[tokio::test]
async fn the_same_step_by_step_with_plans_in_files() {
    let mut cluster = Cluster::of(4, &[]).await;
    create(&cluster, &[&[4], &[4], &[1], &[2]]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (topics, plan) = (file("topics.json"), file("plan.json"));
    fs::write(&topics, format!(r#"{{"topics":[{{"topic":"{TOPIC}"}}],"version":1}}"#)).unwrap();
    let generate =
        ["reassign", "plan", "--topics-to-move-json-file", &topics, "--broker-list", "1,2,3,4"];
    let raise = [&generate[..], &["--replication-factor", "3", "-o", "json"]].concat();
    fs::write(&plan, done(run(&cluster, &raise).await).stdout).unwrap();
    done(run(&cluster, &["reassign", "execute", &plan, "--wait"]).await);
    done(run(&cluster, &["reassign", "verify", &plan]).await);
    let picture = cluster.describe().await.unwrap();
    assert!(picture.partitions.iter().all(|one| one.in_sync_replicas.len() == 3));
    for node in &picture.nodes {
        assert_eq!(node.replica_count, 3, "{node:?}");
    }

    let text = String::from_utf8(done(run(&cluster, &generate).await).stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Current partition replica assignment");
    assert_eq!((lines[2], lines[3]), ("", "Proposed partition reassignment configuration"));
    assert_eq!(lines[1], lines[4], "it is even");
    let kafka = [&generate[..], &["--algorithm", "kafka", "-o", "json"]].concat();
    let kafka = json(&done(run(&cluster, &kafka).await));
    assert_eq!(kafka["partitions"][0]["replicas"], serde_json::json!([1, 2, 3]), "R29");

    let off = ["reassign", "plan", "--all-topics", "--exclude-node", "4", "-o", "json"];
    fs::write(&plan, done(run(&cluster, &off).await).stdout).unwrap();
    done(run(&cluster, &["reassign", "execute", &plan, "--wait"]).await);
    done(run(&cluster, &["reassign", "verify", &plan]).await);
    whole_without(&cluster, 4).await;
    assert!(cluster.terminate(4).await.success());
    eventually_or_why("the node is forgotten", async || {
        let removed = run(&cluster, &["node", "remove", "4", "--yes"]).await;
        removed.status.success().then_some(()).ok_or(format!("{removed:?}"))
    })
    .await;
}

async fn leaderships(cluster: &Cluster) -> Result<Vec<i32>, String> {
    let picture = cluster.describe().await?;
    let led = |id| (0..8).filter(|at| picture.leader(TOPIC, *at) == Some(id)).count() as i32;
    Ok((1..=4).map(led).collect())
}

/// R17, R28.
#[tokio::test]
async fn over_racks_every_node_leads_as_much_and_does_again_after_it_was_away() {
    let mut cluster = Cluster::prepare(4, &[]);
    for id in 1..=4 {
        cluster.settings(id).push(format!("broker.rack=r{}", (id + 1) / 2));
    }
    cluster.restart(&[1, 2, 3, 4]).await;
    cluster.healed().await;
    let request = CreateTopicRequest {
        name: TOPIC.to_owned(),
        partitions: Some(8),
        replication_factor: Some(2),
        ..Default::default()
    };
    cluster.server(1).await.topics().create_topic(request).await.unwrap();
    assert_eq!(leaderships(&cluster).await.unwrap(), [2, 2, 2, 2]);
    let picture = cluster.describe().await.unwrap();
    for one in &picture.partitions {
        let racks: BTreeSet<i32> = one.replicas.iter().map(|id| (id + 1) / 2).collect();
        assert_eq!(racks.len(), 2, "{one:?}");
    }
    cluster.kill(3);
    eventually_or_why("others lead", async || {
        let led = leaderships(&cluster).await?;
        if led[2] == 0 && led.iter().sum::<i32>() == 8 { Ok(()) } else { Err(format!("{led:?}")) }
    })
    .await;
    cluster.restart(&[3]).await;
    cluster.healed().await;
    done(run(&cluster, &["partition", "elect", "--preferred"]).await);
    eventually_or_why("all lead as much", async || {
        let led = leaderships(&cluster).await?;
        if led == [2, 2, 2, 2] { Ok(()) } else { Err(format!("{led:?}")) }
    })
    .await;
}

/// Producers and members of a group, who are told of no error.
struct Load {
    /// No more is sent.
    sent_all: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    /// By partition and offset, what was acknowledged there.
    sent: Arc<Mutex<BTreeMap<(u32, u64), String>>>,
    /// How often each was given to a member of the group.
    read: Arc<Mutex<BTreeMap<String, u32>>>,
    count: Arc<AtomicU64>,
    producers: Vec<JoinHandle<()>>,
    members: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(cluster: &Cluster, partitions: u32) -> Load {
        let mut load = Load {
            sent_all: Arc::default(),
            over: Arc::default(),
            sent: Arc::default(),
            read: Arc::default(),
            count: Arc::default(),
            producers: Vec::new(),
            members: Vec::new(),
        };
        for member in 0..2 {
            let client = Client::connect(ClientConfig::new(cluster.addresses())).await.unwrap();
            load.produce(client, member, partitions).await;
            let client = Client::connect(ClientConfig::new(cluster.addresses())).await.unwrap();
            load.consume(client);
        }
        load
    }

    async fn produce(&mut self, client: Client, member: u32, partitions: u32) {
        let producer = client.producer(ProducerConfig::default()).await.unwrap();
        let (over, sent) = (Arc::clone(&self.sent_all), Arc::clone(&self.sent));
        let count = Arc::clone(&self.count);
        self.producers.push(tokio::spawn(async move {
            for n in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let value = format!("{member}/{n}");
                let partition = n % partitions;
                let record = ProducerRecord::new(TOPIC).value(value.clone()).partition(partition);
                let delivery = producer.send(record).await.unwrap();
                let offset = delivery.await.unwrap().offset.unwrap();
                let twice = sent.lock().unwrap().insert((partition, offset.0), value);
                assert_eq!(twice, None, "two records at one offset");
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }

    fn consume(&mut self, client: Client) {
        let (over, read) = (Arc::clone(&self.over), Arc::clone(&self.read));
        self.members.push(tokio::spawn(async move {
            let config = ConsumerConfig {
                auto_offset_reset: AutoOffsetReset::Earliest,
                ..ConsumerConfig::new("members")
            };
            let mut consumer = client.consumer(config).unwrap();
            consumer.subscribe([TOPIC]).unwrap();
            while !over.load(Ordering::Relaxed) {
                for record in consumer.poll(Duration::from_millis(100)).await.unwrap() {
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    *read.lock().unwrap().entry(value).or_default() += 1;
                }
            }
            consumer.close(PATIENCE).await.unwrap();
        }));
    }

    async fn goes_on(&self) {
        let before = self.count.load(Ordering::Relaxed);
        eventually_or_why("records are acknowledged", async || {
            let now = self.count.load(Ordering::Relaxed);
            if now > before + 20 { Ok(()) } else { Err(format!("{before}, {now}")) }
        })
        .await;
    }

    /// Each record that was acknowledged was read by a member of the group at least once, and stands where it was said to,
    /// once. How many were read more than once: what a member has read and not committed when its partitions go to another.
    async fn ends_whole(self, cluster: &Cluster, partitions: i32) -> usize {
        self.sent_all.store(true, Ordering::Relaxed);
        for task in self.producers {
            task.await.unwrap();
        }
        let sent: BTreeSet<String> = self.sent.lock().unwrap().values().cloned().collect();
        eventually_or_why("the group has read all", async || {
            let read = self.read.lock().unwrap();
            let missing: Vec<_> = sent.iter().filter(|one| !read.contains_key(*one)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are missing")) }
        })
        .await;
        self.over.store(true, Ordering::Relaxed);
        for task in self.members {
            task.await.unwrap();
        }
        let read = std::mem::take(&mut *self.read.lock().unwrap());
        let strange: Vec<_> = read.keys().filter(|one| !sent.contains(*one)).collect();
        assert!(strange.is_empty(), "nobody was told that these are there: {strange:?}");
        let mut stored = BTreeMap::new();
        for partition in 0..partitions {
            let picture = cluster.describe().await.unwrap();
            let leader = picture.leader(TOPIC, partition).unwrap();
            for (offset, sample) in cluster.server(leader).await.read_all(TOPIC, partition).await {
                let value = String::from_utf8(sample.value.unwrap()).unwrap();
                stored.insert((partition as u32, offset as u64), value);
            }
        }
        assert_eq!(stored, *self.sent.lock().unwrap(), "nothing lost, nothing doubled");
        read.values().filter(|times| **times > 1).count()
    }
}

/// Retires node 4 again, as often as it takes until that is told of it.
async fn retired_until(cluster: &Cluster, told: &str) {
    eventually_or_why(told, async || {
        let again = run(cluster, &["node", "retire", "4", "-o", "json"]).await;
        match again.status.success() && json(&again)[told] == true {
            true => Ok(()),
            false => Err(format!("{again:?}")),
        }
    })
    .await;
}

/// The node leads half of all; its place is taken while records are sent and read, and the controller dies meanwhile.
#[tokio::test]
async fn a_node_that_leads_half_is_retired_under_load_and_no_client_is_told_of_it() {
    let mut cluster = Cluster::of(4, &[]).await;
    let lists: [&[i32]; 8] = [
        &[4, 1, 2],
        &[4, 2, 3],
        &[4, 3, 1],
        &[4, 1, 3],
        &[1, 2, 3],
        &[2, 3, 1],
        &[3, 1, 2],
        &[1, 4, 3],
    ];
    create(&cluster, &lists).await;
    let controller = cluster.healed().await.controller;
    let load = Load::start(&cluster, 8).await;
    load.goes_on().await;
    done(run(&cluster, &["node", "retire", "4"]).await);
    cluster.kill(controller);
    load.goes_on().await;
    cluster.restart(&[controller]).await;
    // Again, as often as it takes: it goes on where it is.
    retired_until(&cluster, "empty").await;
    whole_without(&cluster, 4).await;
    load.goes_on().await;
    assert!(cluster.terminate(4).await.success());
    retired_until(&cluster, "removed").await;
    load.goes_on().await;
    let again = load.ends_whole(&cluster, 8).await;
    println!("{again} records were read again");
}

/// Each its own error, and nothing is changed.
#[tokio::test]
async fn what_cannot_be_planned_or_retired_is_refused() {
    let cluster = Cluster::shared().await;
    let server = cluster.server(1).await;
    let topic = server.new_topic(2, &[]).await.name;
    for id in cluster.ids() {
        let mut placement = PlacementServiceClient::new(cluster.channel(id));
        let plan = PlanReassignmentRequest { topics: vec![topic.clone()], ..Default::default() };
        let good = placement.plan_reassignment(plan.clone()).await.unwrap().into_inner();
        assert_eq!((good.partitions.len(), good.nodes.len()), (2, 3));
        for (change, code) in [
            (
                PlanReassignmentRequest { topics: vec!["nobody".into()], ..plan.clone() },
                UnknownTopic,
            ),
            (
                PlanReassignmentRequest { to_node_ids: vec![1, 9], ..plan.clone() },
                BrokerNotRegistered,
            ),
            (
                PlanReassignmentRequest { exclude_node_ids: vec![3], ..plan.clone() },
                InvalidReplicationFactor,
            ),
            (
                PlanReassignmentRequest { replication_factor: Some(0), ..plan.clone() },
                InvalidReplicationFactor,
            ),
            (
                PlanReassignmentRequest {
                    goal: PlanGoal::Fill.into(),
                    to_node_ids: vec![9],
                    ..plan.clone()
                },
                BrokerNotRegistered,
            ),
        ] {
            let error = refused(placement.plan_reassignment(change)).await;
            assert_eq!(error.code, code, "{error}");
        }
        let retire = |node_id| RetireNodeRequest { node_id, cancel: false };
        let error = refused(placement.retire_node(retire(9))).await;
        assert_eq!(error.code, BrokerNotRegistered, "{error}");
        let error = refused(placement.retire_node(retire(3))).await;
        assert_eq!(error.code, InvalidReplicationFactor, "{error}");
        assert!(error.message.contains("replication factor"), "{error}");
        let kept = RetireNodeRequest { node_id: 3, cancel: true };
        placement.retire_node(kept).await.unwrap();
    }
    let told = run(&cluster, &["node", "retire", "3"]).await;
    assert!(!told.status.success());
    let picture = cluster.describe().await.unwrap();
    assert!(picture.nodes.iter().all(|node| !node.retiring));
}

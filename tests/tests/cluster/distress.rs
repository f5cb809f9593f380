//! A cluster in distress says so: everywhere, as of when, and what for.

use crate::topic_on;
use serde_json::Value;
use std::process::Output;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use troupe_proto::admin::v1::{
    GetClusterRequest, GetHealthRequest, GetTopicRequest, HealthReasonKind, HealthVerdict,
    ListPartitionsRequest, ListReplicasRequest, ListTopicsRequest, ReplicaCondition,
};
use troupe_proto::chaos::v1alpha1::{Fault, InjectFaultRequest, ListActorsRequest};
use troupe_proto::log::v1::{DescribeClusterRequest, DescribeTopicsRequest, WatchMetadataRequest};
use troupe_proto::v1::{Acks, MetadataAsOf};
use troupe_tests::{
    Cluster, Sample, Server, batch_of, eventually, eventually_or_why, http_get, troupe,
    troupe_until,
};

const HEALTHY: i32 = 0;
const DEGRADED: i32 = 5;
const UNHEALTHY: i32 = 6;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

/// As of when each kind of answer about the cluster says that it is true.
async fn as_ofs(server: &Server, topic: &str) -> Vec<MetadataAsOf> {
    let (mut cluster, mut topics, mut metadata) =
        (server.cluster(), server.topics(), server.metadata());
    let named = GetTopicRequest { name: topic.to_owned() };
    let watched = metadata.watch_metadata(WatchMetadataRequest::default()).await.unwrap();
    let told = [
        cluster.get_cluster(GetClusterRequest {}).await.unwrap().into_inner().as_of,
        cluster.get_health(GetHealthRequest {}).await.unwrap().into_inner().as_of,
        cluster.list_partitions(ListPartitionsRequest::default()).await.unwrap().into_inner().as_of,
        topics.get_topic(named).await.unwrap().into_inner().as_of,
        topics.list_topics(ListTopicsRequest::default()).await.unwrap().into_inner().as_of,
        metadata.describe_cluster(DescribeClusterRequest {}).await.unwrap().into_inner().as_of,
        metadata
            .describe_topics(DescribeTopicsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .as_of,
        watched.into_inner().message().await.unwrap().unwrap().as_of,
    ];
    told.map(Option::unwrap).to_vec()
}

async fn is_ready(cluster: &Cluster, id: i32) -> bool {
    let mut health = HealthClient::new(cluster.channel(id));
    let request = HealthCheckRequest { service: "ready".to_owned() };
    health.check(request).await.unwrap().into_inner().status() == ServingStatus::Serving
}

/// What `troupe cluster health` says through a node: its exit code and the reasons.
async fn health(cluster: &Cluster, id: i32) -> (i32, Vec<String>) {
    let output = troupe(cluster.address(id), &["cluster", "health", "-o", "json"]).await;
    let told = json(&output);
    let kind = |reason: &Value| reason["kind"].as_str().unwrap().to_owned();
    let kinds = told["reasons"].as_array().unwrap().iter().map(kind).collect();
    (output.status.code().unwrap(), kinds)
}

async fn becomes(cluster: &Cluster, id: i32, code: i32, reason: Option<&str>) {
    eventually_or_why("the verdict becomes what it should", async || {
        let (is, reasons) = health(cluster, id).await;
        let named = reason.is_none_or(|reason| reasons.iter().any(|one| one == reason));
        if is == code && named { Ok(()) } else { Err(format!("{is}: {reasons:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_has_lost_its_quorum_says_so_everywhere_and_as_of_when() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, "alone", &[1], &[("min.insync.replicas", "1")]).await;
    cluster.healed().await;
    let server = cluster.server(1).await;
    eventually_or_why("node 1 knows that a controller is active", async || {
        let told = as_ofs(&server, "alone").await;
        let well =
            |one: &MetadataAsOf| one.controller_active && one.time_ms > 0 && one.node_id == 1;
        if told.iter().all(well) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert!(is_ready(&cluster, 1).await);
    assert_eq!(http_get(cluster.http(1), "/ready").await.0, 200);
    becomes(&cluster, 1, HEALTHY, None).await;

    cluster.kill(2);
    cluster.kill(3);
    eventually("node 1 hears no controller any more", async || {
        let told = as_ofs(&server, "alone").await;
        told.iter().all(|one| !one.controller_active).then_some(())
    })
    .await;
    let (before, after) = (as_ofs(&server, "alone").await, as_ofs(&server, "alone").await);
    for (one, later) in before.iter().zip(&after) {
        assert!(one.time_ms > 0 && later.time_ms == one.time_ms, "of then: {one:?}, {later:?}");
        assert_eq!(later.metadata_offset, one.metadata_offset);
        assert!(one.controller_silence_ms >= 2_000, "{one:?}");
    }
    let told = server.cluster().get_cluster(GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!(told.controller_id, -1, "nobody that is heard");
    let described = server.metadata().describe_cluster(DescribeClusterRequest {}).await;
    let described = described.unwrap().into_inner();
    assert_eq!(described.controller_id, -1);
    assert!(described.nodes.iter().all(|node| !node.controller));

    eventually("node 1 is not ready", async || (!is_ready(&cluster, 1).await).then_some(())).await;
    let (status, why) = http_get(cluster.http(1), "/ready").await;
    assert_eq!(status, 503);
    assert!(why.contains("no active controller"), "{why}");
    assert_eq!(http_get(cluster.http(1), "/live").await.0, 200);
    let metrics = http_get(cluster.http(1), "/metrics").await.1;
    assert!(metrics.contains("troupe_controller_silence_seconds"), "{metrics}");

    for command in [
        &["node", "list"][..],
        &["cluster", "info"],
        &["partition", "list"],
        &["topic", "list"],
        &["topic", "describe", "alone"],
        &["node", "describe", "1"],
    ] {
        let plain = troupe(cluster.address(1), command).await;
        assert!(plain.status.success(), "{command:?}: {}", text(&plain.stderr));
        assert!(text(&plain.stderr).contains("no controller is active"), "{command:?}");
        let told = json(&troupe(cluster.address(1), &[command, &["-o", "json"]].concat()).await);
        assert_eq!(told["asOf"]["controllerActive"], false, "{command:?}: {told}");
        assert!(told["asOf"]["time"].is_string(), "{command:?}: {told}");
    }
    let (code, reasons) = health(&cluster, 1).await;
    assert_eq!(code, UNHEALTHY);
    assert!(reasons.contains(&"NO_ACTIVE_CONTROLLER".to_owned()), "{reasons:?}");

    cluster.restart(&[2, 3]).await;
    cluster.healed().await;
    becomes(&cluster, 1, HEALTHY, None).await;
    eventually("node 1 is ready again", async || is_ready(&cluster, 1).await.then_some(())).await;
}

#[tokio::test]
async fn a_command_that_waits_says_what_for() {
    let mut cluster = Cluster::start(&[]).await;
    for (name, node) in [("far", 2), ("near", 1)] {
        topic_on(&cluster, name, &[node], &[("min.insync.replicas", "1")]).await;
    }
    cluster.healed().await;
    cluster.kill(2);
    cluster.kill(3);
    let server = cluster.server(1).await;
    eventually("node 1 hears no controller any more", async || {
        let told = as_ofs(&server, "far").await;
        told.iter().all(|one| !one.controller_active).then_some(())
    })
    .await;
    let through = cluster.address(1);
    let wanted = "has heard no active controller";
    for (command, input) in [
        (&["topic", "create", "more"][..], ""),
        (&["topic", "delete", "far", "--yes"], ""),
        (&["topic", "alter", "far", "--set", "retention.ms=1d"], ""),
        (&["node", "drain", "1"], ""),
        (&["produce", "far"], "lost?\n"),
        (&["consume", "far", "-g", "readers"], ""),
        // Where nothing comes that might, somebody may be missing who writes.
        (&["consume", "near"], ""),
    ] {
        let said = troupe_until(through, command, input, wanted).await;
        let said = said.unwrap_or_else(|said| panic!("{command:?} ended without a word: {said}"));
        assert!(said.contains("note: waiting for"), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn health_tells_a_node_that_is_gone_from_a_partition_that_is() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, "whole", &[1, 2, 3], &[]).await;
    cluster.healed().await;
    becomes(&cluster, 1, HEALTHY, None).await;
    cluster.kill(3);
    // Its word is awaited, until the controller gives it up.
    becomes(&cluster, 1, DEGRADED, Some("FENCED_NODES")).await;
    becomes(&cluster, 1, DEGRADED, Some("UNDER_REPLICATED")).await;
    let plain = troupe(cluster.address(1), &["cluster", "health"]).await;
    assert_eq!(plain.status.code(), Some(DEGRADED));
    assert!(text(&plain.stdout).starts_with("degraded\n"), "{}", text(&plain.stdout));
    assert!(text(&plain.stdout).contains("whole:0"), "{}", text(&plain.stdout));
    assert_eq!(text(&plain.stderr), "", "the verdict is an answer, not an error");
    cluster.restart(&[3]).await;
    topic_on(&cluster, "gone", &[3], &[("min.insync.replicas", "1")]).await;
    cluster.healed().await;
    cluster.kill(3);
    becomes(&cluster, 2, UNHEALTHY, Some("OFFLINE_PARTITIONS")).await;
    cluster.restart(&[3]).await;
    cluster.healed().await;
    becomes(&cluster, 3, HEALTHY, None).await;
}

/// It is no broker, so that no list of brokers shows that it is gone; and two of three decide without it.
#[tokio::test]
async fn a_controller_that_is_no_broker_is_missed() {
    let mut cluster = Cluster::prepare(3, &[]);
    cluster.settings(3).push("process.roles=controller".to_owned());
    if let Err(exit) = cluster.start_all().await {
        panic!("the cluster does not start: {}\n{}", exit.status, exit.stderr);
    }
    becomes(&cluster, 1, HEALTHY, None).await;
    cluster.pause(3).await;
    becomes(&cluster, 1, DEGRADED, Some("SILENT_CONTROLLERS")).await;
    cluster.resume(3);
    becomes(&cluster, 2, HEALTHY, None).await;
    cluster.kill(3);
    becomes(&cluster, 2, DEGRADED, Some("SILENT_CONTROLLERS")).await;
}

/// What one replica alone had, and what is filled again: both are seen, the one until it is over.
#[tokio::test]
async fn a_damaged_replica_is_seen_by_everybody_who_asks() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, "alone", &[2], &[("min.insync.replicas", "1")]).await;
    topic_on(&cluster, "shared", &[2, 1], &[]).await;
    cluster.healed().await;
    let server = cluster.server(2).await;
    for topic in ["alone", "shared"] {
        server.produce(topic, 0, batch_of(&[Sample::of("acknowledged", 1)]), Acks::All).await;
    }
    drop(server);
    assert!(cluster.terminate(2).await.success());
    for topic in ["alone-0", "shared-0"] {
        std::fs::remove_dir_all(cluster.data(2).join(topic)).unwrap();
    }
    cluster.restart(&[2]).await;
    cluster.healed().await;
    let through = cluster.address(1);
    eventually_or_why("what was lost is told, and what was filled again is not", async || {
        let told = json(&troupe(through, &["cluster", "health", "-o", "json"]).await);
        let reasons = told["reasons"].as_array().unwrap();
        let damaged: Vec<_> =
            reasons.iter().filter(|reason| reason["kind"] == "DAMAGED_REPLICAS").collect();
        match damaged[..] {
            [one] if one["examples"] == serde_json::json!(["alone:0"]) && reasons.len() == 1 => {
                assert_eq!(one["nodeIds"], serde_json::json!([2]));
                Ok(())
            }
            _ => Err(told.to_string()),
        }
    })
    .await;
    assert_eq!(health(&cluster, 1).await.0, DEGRADED);
    let listed = json(&troupe(through, &["partition", "list", "-o", "json"]).await);
    let distress: Vec<_> = listed["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["topic"].as_str().unwrap(), one["distress"].as_array().unwrap().clone()))
        .filter(|(_, distress)| !distress.is_empty())
        .collect();
    assert_eq!(
        distress,
        [("alone", vec![serde_json::json!({"nodeId": 2, "condition": "damaged"})])]
    );
    let tree = text(&troupe(through, &["actor", "tree"]).await.stdout);
    let line = tree.lines().find(|line| line.contains("/partition/alone/0")).unwrap();
    assert!(line.contains("damaged\t") && line.contains("lacks records"), "{line}");
}

/// The address of a partition's actor on a node.
async fn actor(server: &Server, topic: &str, partition: i32) -> String {
    let end = format!("/partition/{topic}/{partition}");
    eventually("the actor is listed", async || {
        let request = ListActorsRequest { page_size: 10_000, ..Default::default() };
        let actors = server.chaos().list_actors(request).await.unwrap().into_inner().actors;
        actors.into_iter().map(|actor| actor.address).find(|address| address.ends_with(&end))
    })
    .await
}

/// The follower answers nobody, but its node is heard: the append waits for it, and the leader says so.
#[tokio::test]
async fn an_append_that_waits_for_a_follower_is_seen() {
    let cluster = Cluster::start(&["replica.lag.time.max.ms=60000"]).await;
    topic_on(&cluster, "slow", &[1, 2], &[]).await;
    cluster.healed().await;
    let (leader, follower) = (cluster.server(1).await, cluster.server(2).await);
    let address = actor(&follower, "slow", 0).await;
    let fault = InjectFaultRequest {
        address,
        fault: Fault::Pause.into(),
        duration_ms: 60_000,
        ..Default::default()
    };
    let suffering = {
        let mut chaos = follower.chaos();
        tokio::spawn(async move { chaos.inject_fault(fault).await })
    };
    let appending = {
        let leader = leader.clone();
        tokio::spawn(async move {
            leader
                .produce("slow", 0, batch_of(&[Sample::of(vec![b'x'; 5_000], 1)]), Acks::All)
                .await
        })
    };
    eventually_or_why("the leader's replica is seen to wait", async || {
        let request = ListReplicasRequest { topic: "slow".to_owned(), ..Default::default() };
        let replicas = leader.cluster().list_replicas(request).await.unwrap().into_inner().replicas;
        let replica = &replicas[0];
        let waits = replica.condition() == ReplicaCondition::Waiting
            && replica.oldest_append_wait_ms >= 1_000
            && replica.queued_bytes >= 5_000
            && replica.no_answer_reason.is_empty();
        if waits { Ok(()) } else { Err(format!("{replica:?}")) }
    })
    .await;
    let told = leader.cluster().get_health(GetHealthRequest {}).await.unwrap().into_inner();
    assert_eq!(told.verdict(), HealthVerdict::Degraded, "{told:?}");
    assert_eq!(told.reasons[0].kind(), HealthReasonKind::WaitingAppends, "{told:?}");
    assert_eq!(told.reasons[0].examples, ["slow:0"]);
    let through = cluster.address(3);
    let listed = json(&troupe(through, &["partition", "list", "slow", "-o", "json"]).await);
    let distress = listed["partitions"][0]["distress"].as_array().unwrap();
    let found: Vec<_> = distress
        .iter()
        .map(|one| (one["nodeId"].as_i64().unwrap(), one["condition"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [(1, "waiting"), (2, "paused")]);
    let tree = text(&troupe(through, &["actor", "tree"]).await.stdout);
    let line = |node: &str| {
        let mut lines = tree.lines();
        lines.find(|line| line.starts_with(node) && line.contains("/partition/slow/0")).unwrap()
    };
    assert!(line("node/1/").contains("waiting\t") && line("node/1/").contains("oldest append"));
    assert!(line("node/2/").contains("paused (") && line("node/2/").contains("fault pause"));
    let metrics = http_get(cluster.http(1), "/metrics").await.1;
    let value = |name: &str| -> f64 {
        let found = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")));
        found.unwrap_or_else(|| panic!("{name}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("troupe_oldest_append_wait_seconds") >= 1.0);
    assert!(value("troupe_queued_bytes") >= 5_000.0);
    let metrics = http_get(cluster.http(2), "/metrics").await.1;
    assert!(metrics.contains("troupe_stalled_replicas{node=\"2\"} 1\n"), "{metrics}");
    assert!(metrics.contains("troupe_faults_injected_total{node=\"2\",fault=\"pause\"} 1\n"));
    suffering.abort();
    appending.abort();
}

/// One partition that does not answer hides no other, and is named.
#[tokio::test]
async fn describing_a_topic_waits_for_no_partition_for_long_and_shows_which_is_silent() {
    let cluster = Cluster::start(&[]).await;
    let server = cluster.server(1).await;
    server.create_topic("two", 2, &[]).await;
    let picture = cluster.healed().await;
    let leader = picture.leader("two", 0).unwrap();
    let owner = cluster.server(leader).await;
    for partition in 0..2 {
        let led = cluster.server(picture.leader("two", partition).unwrap()).await;
        led.produce("two", partition, batch_of(&[Sample::of("x", 1)]), Acks::All).await;
    }
    let fault = InjectFaultRequest {
        address: actor(&owner, "two", 0).await,
        fault: Fault::Pause.into(),
        duration_ms: 60_000,
        ..Default::default()
    };
    let suffering = {
        let mut chaos = owner.chaos();
        tokio::spawn(async move { chaos.inject_fault(fault).await })
    };
    let through = cluster.address(cluster.ids().find(|&id| id != leader).unwrap()).to_owned();
    eventually_or_why("the paused partition is shown as such", async || {
        let told = json(&troupe(&through, &["topic", "describe", "two", "-o", "json"]).await);
        let partitions = told["partitions"].as_array().unwrap();
        let [paused, other] = [&partitions[0], &partitions[1]];
        let condition = paused["condition"].as_str().unwrap();
        let seen = condition.starts_with("paused")
            && condition.contains("no answer")
            && paused.get("highWatermark").is_none()
            && other["highWatermark"] == 1
            && other["condition"] == "running";
        if seen { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    suffering.abort();
}

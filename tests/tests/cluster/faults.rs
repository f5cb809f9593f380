//! What nodes suffer by `troupe chaos`, as processes: each fault does what it says, nothing that was acknowledged is
//! lost by it, and all is whole when it is over. (Invariants I1, I5, I6, I8 and I17 of the reliability notes.)

use crate::topic_on;
use serde_json::Value;
use std::time::{Duration, Instant};
use troupe_proto::admin::v1::PartitionState;
use troupe_proto::v1::Acks;
use troupe_tests::{Cluster, Sample, batch_of, eventually, eventually_or_why, http_get, troupe};

const TOPIC: &str = "orders";
/// Longer than any of these tests.
const LONG: &str = "10m";

struct Ill {
    cluster: Cluster,
    acknowledged: Vec<Sample>,
}

impl Ill {
    /// A topic that node 1 leads.
    async fn start() -> Ill {
        // The samples are of 1970.
        let cluster = Cluster::start(&["log.retention.ms=-1"]).await;
        topic_on(&cluster, TOPIC, &[1, 2, 3], &[("min.insync.replicas", "2")]).await;
        cluster.healed().await;
        Ill { cluster, acknowledged: Vec::new() }
    }

    /// `troupe chaos …`, asked of a node; what it says.
    async fn chaos(&self, through: i32, words: &[&str]) -> Value {
        let arguments = [&["chaos"], words, &["-o", "json"]].concat();
        let output = troupe(self.cluster.address(through), &arguments).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{words:?}: {told}"))
    }

    async fn faults(&self, through: i32) -> Vec<Value> {
        self.chaos(through, &["list"]).await["faults"].as_array().unwrap().clone()
    }

    /// Publishes through a node with acks of all; how long that took.
    async fn publish(&mut self, through: i32, what: &str) -> Result<Duration, String> {
        let (server, sample) = (self.cluster.server(through).await, Sample::of(what, 1));
        let begun = Instant::now();
        let result = server.produce(TOPIC, 0, batch_of(std::slice::from_ref(&sample)), Acks::All);
        match result.await.error {
            None => {
                self.acknowledged.push(sample);
                Ok(begun.elapsed())
            }
            Some(error) => Err(format!("{error:?}")),
        }
    }

    /// The same through whoever leads, as soon as that is possible.
    async fn publish_soon(&mut self, led: i32, what: &str) -> Duration {
        let (begun, mut through) = (Instant::now(), led);
        loop {
            match self.publish(through, what).await {
                Ok(took) => return took,
                Err(why) => assert!(begun.elapsed() < troupe_tests::PATIENCE, "{why}"),
            }
            // Leadership may have moved on meanwhile.
            let picture = self.cluster.describe_as(led).await.ok();
            through = picture.and_then(|picture| picture.leader(TOPIC, 0)).unwrap_or(led);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The partition as another node sees it, as soon as it is as wanted.
    async fn partition(&self, through: i32, wanted: impl Fn(&PartitionState) -> bool) -> i32 {
        let found = eventually_or_why("the partition comes to be as it should", async || {
            let picture = self.cluster.describe_as(through).await?;
            let found = picture.partition(TOPIC, 0).cloned();
            found.filter(|one| wanted(one)).ok_or_else(|| format!("{:?}", picture.partitions))
        });
        found.await.leader_id.unwrap_or(-1)
    }

    /// All that was acknowledged is there, in its order, on each node that leads in its turn.
    async fn whole(&self) {
        self.cluster.healed().await;
        let stored = self.cluster.server(2).await.read_all(TOPIC, 0).await;
        let mut stored = stored.iter().map(|(_, sample)| sample);
        for sample in &self.acknowledged {
            assert!(stored.any(|one| one == sample), "acknowledged and lost: {sample:?}");
        }
    }
}

#[tokio::test]
async fn who_is_cut_off_leads_no_more_and_acknowledges_nothing_and_all_is_whole_when_it_is_over() {
    let mut ill = Ill::start().await;
    ill.publish_soon(1, "before").await;
    let cut = ill.chaos(2, &["cut", "1", "--for", LONG]).await;
    assert_eq!(cut["nodeIds"], serde_json::json!([1, 2, 3]));
    // From its first moment on the old leader has nobody who would take a record over.
    let alone = ill.publish(1, "alone").await;
    assert!(alone.is_err(), "acknowledged by a leader that is cut off: {alone:?}");
    let leader = ill.partition(2, |one| one.leader_id.is_some_and(|leader| leader != 1)).await;
    ill.publish_soon(leader, "meanwhile").await;
    assert!(ill.publish(1, "still alone").await.is_err());
    // A client reaches it all the same, and is told what it suffers.
    let listed = ill.faults(1).await;
    assert!(listed.iter().all(|fault| fault["faultId"] == cut["faultId"]), "{listed:?}");
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().any(|fault| fault["hitCount"].as_u64().unwrap() > 0), "{listed:?}");

    let stopped = ill.chaos(3, &["stop", cut["faultId"].as_str().unwrap()]).await;
    assert_eq!(stopped["stopped"].as_array().unwrap().len(), 3, "{stopped}");
    ill.whole().await;
    let leader = ill.partition(2, |one| one.leader_id.is_some()).await;
    ill.publish_soon(leader, "after").await;
    ill.whole().await;
}

/// A deaf leader and a mute one.
#[tokio::test]
async fn a_leader_that_is_not_heard_or_does_not_hear_loses_nothing() {
    let mut ill = Ill::start().await;
    for others in [["1", "2,3"], ["2,3", "1"]] {
        eventually("node 1 leads", async || {
            let elected = ["partition", "elect", "--preferred", TOPIC];
            troupe(ill.cluster.address(2), &elected).await;
            let picture = ill.cluster.describe_as(2).await.ok()?;
            (picture.leader(TOPIC, 0) == Some(1)).then_some(())
        })
        .await;
        ill.publish_soon(1, "before").await;
        // In the second round the others are mute, one by one, so that node 1 is deaf.
        for node in others[0].split(',') {
            ill.chaos(2, &["cut", node, others[1], "--one-way", "--for", LONG]).await;
        }
        let leader = ill.partition(2, |one| one.leader_id.is_some_and(|leader| leader != 1)).await;
        ill.publish_soon(leader, "meanwhile").await;
        assert!(ill.publish(1, "alone").await.is_err());
        ill.chaos(2, &["stop"]).await;
        ill.whole().await;
    }
}

#[tokio::test]
async fn what_is_slow_shows_in_each_acknowledgement_and_a_slow_disk_too() {
    let mut ill = Ill::start().await;
    ill.publish_soon(1, "before").await;
    ill.chaos(1, &["slow", "1", "2,3", "50ms", "--for", LONG]).await;
    let leader = ill.partition(1, |one| one.in_sync_replicas.len() == 3).await;
    for _ in 0..3 {
        // There and back.
        let took = ill.publish_soon(leader, "late").await;
        assert!(took >= Duration::from_millis(100), "{took:?}");
    }
    ill.chaos(1, &["stop"]).await;
    ill.cluster.healed().await;
    for node in ["1", "2", "3"] {
        ill.chaos(1, &["slow-disk", node, "150ms", "--for", LONG]).await;
    }
    let leader = ill.partition(1, |one| one.leader_id.is_some()).await;
    let took = ill.publish_soon(leader, "slowly flushed").await;
    assert!(took >= Duration::from_millis(150), "{took:?}");
    let listed = ill.faults(1).await;
    assert!(listed.iter().any(|fault| fault["hitCount"].as_u64().unwrap() > 0), "{listed:?}");
    ill.chaos(1, &["stop"]).await;
    ill.whole().await;
}

#[tokio::test]
async fn a_node_that_stands_still_is_replaced_can_be_asked_what_ails_it_and_goes_on() {
    let mut ill = Ill::start().await;
    ill.publish_soon(1, "before").await;
    let paused = ill.chaos(2, &["pause", "1", "--for", LONG]).await;
    let leader = ill.partition(2, |one| one.leader_id.is_some_and(|leader| leader != 1)).await;
    ill.publish_soon(leader, "meanwhile").await;
    // It says so itself, though none of its threads runs.
    let listed = eventually("the paused node is listed", async || {
        let listed = ill.faults(2).await;
        listed.into_iter().find(|fault| fault["faultId"] == paused["faultId"])
    });
    let listed = listed.await;
    assert_eq!((listed["fault"].as_str(), listed["nodeId"].as_i64()), (Some("pause"), Some(1)));
    assert!(listed["hitCount"].as_u64().unwrap() > 2, "threads that stand still: {listed}");
    let (status, metrics) = http_get(ill.cluster.http(1), "/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("troupe_faults_active{node=\"1\",fault=\"pause\"} 1"), "{metrics}");
    let tree = troupe(ill.cluster.address(2), &["actor", "tree", "node/1", "-o", "json"]).await;
    let tree: Value = serde_json::from_slice(&tree.stdout).unwrap_or_default();
    if let Some(node) = tree["actors"].as_array().and_then(|actors| actors.first()) {
        assert_eq!(node["state"], "paused", "{node}");
        assert!(node["faultLeftMs"].as_i64().unwrap() > 0, "{node}");
    }

    ill.chaos(2, &["stop"]).await;
    ill.whole().await;
    // And it ends by itself.
    ill.chaos(2, &["pause", "3", "--for", "2s"]).await;
    ill.cluster.healed().await;
    eventually("the pause is over", async || ill.faults(2).await.is_empty().then_some(())).await;
    ill.whole().await;
}

#[tokio::test]
async fn a_full_disk_takes_no_records_and_takes_them_again_without_a_restart() {
    let mut ill = Ill::start().await;
    ill.publish_soon(1, "before").await;
    for node in ["1", "2", "3"] {
        ill.chaos(1, &["full-disk", node, "--for", LONG]).await;
    }
    eventually("a record is refused for want of space", async || {
        ill.publish(1, "too much").await.is_err().then_some(())
    })
    .await;
    let read = ill.cluster.server(1).await.read_all(TOPIC, 0).await;
    assert!(!read.is_empty(), "what is there is read all the same");
    ill.chaos(1, &["stop"]).await;
    let leader = ill.partition(1, |one| one.leader_id.is_some()).await;
    ill.publish_soon(leader, "after").await;
    ill.whole().await;
    assert!(ill.cluster.ids().all(|id| ill.cluster.is_running(id)));
}

#[tokio::test]
async fn a_disk_whose_flushes_fail_ends_its_node_and_nothing_that_was_acknowledged_is_lost() {
    let mut ill = Ill::start().await;
    ill.publish_soon(1, "before").await;
    ill.chaos(2, &["fsync-error", "1", "--for", LONG]).await;
    // What it took and could not make durable is not acknowledged by it.
    let failed = eventually("node 1 makes nothing durable any more", async || {
        ill.publish(1, "to a bad disk").await.err()
    });
    failed.await;
    let ended = ill.cluster.ended(1).await;
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("directory of its metadata has failed"), "{}", ended.stderr);
    let leader = ill.partition(2, |one| one.leader_id.is_some_and(|leader| leader != 1)).await;
    ill.publish_soon(leader, "meanwhile").await;
    // The fault has ended with its process.
    ill.cluster.restart(&[1]).await;
    ill.whole().await;
    assert!(ill.faults(2).await.is_empty());
}

#[tokio::test]
async fn a_clock_that_is_wrong_dates_records_and_loses_nothing() {
    let mut ill = Ill::start().await;
    let dates = [("min.insync.replicas", "2"), ("message.timestamp.type", "LogAppendTime")];
    topic_on(&ill.cluster, "dated", &[1, 2, 3], &dates).await;
    ill.cluster.healed().await;
    let server = ill.cluster.server(1).await;
    let mut newest = Vec::new();
    for offset in [None, Some("+1h"), None] {
        if let Some(offset) = offset {
            ill.chaos(2, &["clock", "1", offset, "--for", LONG]).await;
        }
        let batch = batch_of(&[Sample::of("now", 1)]);
        let result = server.produce("dated", 0, batch, Acks::All).await;
        assert_eq!(result.error, None);
        let (_, sample) = server.read_all("dated", 0).await.pop().unwrap();
        newest.push(sample.timestamp_ms);
        ill.chaos(2, &["stop"]).await;
    }
    let hour = 3_600_000;
    assert!((hour..2 * hour).contains(&(newest[1] - newest[0])), "{newest:?}");
    assert!((0..hour / 2).contains(&(newest[2] - newest[0])), "{newest:?}");
    ill.publish_soon(1, "after").await;
    ill.whole().await;
}

#[tokio::test]
async fn what_cannot_be_suffered_is_refused_and_says_what_to_do() {
    let ill = Ill::start().await;
    for (words, code, told) in [
        (&["cut", "1", "9"][..], 3, "there is no node 9"),
        (&["cut", "1", "1"], 4, "connection to itself"),
        (&["slow", "2", "2", "1s"], 4, "connection to itself"),
        (&["cut", "one", "2"], 2, "node list"),
        (&["slow", "1", "2", "2m"], 2, "from 1ms to 60s"),
        (&["slow-disk", "1", "10ms", "--dir", "/elsewhere"], 2, "no directory of this node"),
        (&["clock", "1", "0"], 2, "would be right"),
        (&["pause", "1", "--for", "2h"], 2, "3600000"),
        (&["kill", "1"], 2, "`kill 2`"),
        (&["stop", "nothing"], 3, "`troupe chaos list`"),
    ] {
        let arguments = [&["chaos"], words].concat();
        let output = troupe(ill.cluster.address(1), &arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(told), "{words:?}: {said}");
        assert!(
            matches!(output.status.code(), Some(exit) if exit == code || exit != 0),
            "{words:?}"
        );
    }
    // Of a fault that could not begin everywhere nothing is left.
    assert!(ill.faults(1).await.is_empty());
}

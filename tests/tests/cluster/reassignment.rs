//! R34, R35, A14: other replicas for partitions that are written and read all the time; nothing is lost, and what is
//! said of it is true at each step.

mod killed;
mod readers;

use crate::{leader, partition_where, reason, topic_on};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;
use troupe_client::{Client, ClientConfig, ProducerConfig, ProducerRecord};
use troupe_proto::admin::v1::reassignment_service_client::ReassignmentServiceClient;
use troupe_proto::admin::v1::{
    AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest, PartitionReassignment,
    PartitionState, ReassignPartition, ReassignmentResult,
};
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{
    CommitOffsetsRequest, FetchOffsetsRequest, OffsetAndMetadata, PartitionCommit,
};
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Cluster, Sample, batch_of, eventually_or_why, partition_of, troupe};

const TOPIC: &str = "moved";

async fn alter(cluster: &Cluster, through: i32, target: Option<&[i32]>) -> ReassignmentResult {
    let one = ReassignPartition {
        topic: TOPIC.to_owned(),
        partition: 0,
        replicas: target.unwrap_or_default().to_vec(),
        cancel: target.is_none(),
    };
    let request =
        AlterPartitionReassignmentsRequest { partitions: vec![one], ..Default::default() };
    // Perhaps no controller is active yet.
    eventually_or_why("the request is answered", async || {
        let mut stub = ReassignmentServiceClient::new(cluster.channel(through));
        let answer = stub.alter_partition_reassignments(request.clone()).await;
        let results = answer.map_err(|status| status.to_string())?.into_inner().results;
        Ok(results.into_iter().next().unwrap())
    })
    .await
}

/// Begun by any node, which then knows of it.
async fn begin(cluster: &Cluster, through: i32, target: &[i32]) {
    let begun = alter(cluster, through, Some(target)).await;
    assert_eq!(begun.error, None);
}

async fn listed(cluster: &Cluster, through: i32) -> Vec<PartitionReassignment> {
    let mut stub = ReassignmentServiceClient::new(cluster.channel(through));
    let request = ListPartitionReassignmentsRequest::default();
    stub.list_partition_reassignments(request).await.unwrap().into_inner().reassignments
}

async fn complete(cluster: &Cluster, target: &[i32]) -> PartitionState {
    partition_where(cluster, TOPIC, |one| {
        let is_over = one.adding_replicas.is_empty() && one.removing_replicas.is_empty();
        is_over && one.replicas == target && one.in_sync_replicas.len() == target.len()
    })
    .await
}

/// The replica's files, those that are about to be deleted not counted.
fn holds(cluster: &Cluster, node: i32) -> bool {
    fn below(path: &std::path::Path, name: &str) -> bool {
        let Ok(entries) = fs::read_dir(path) else { return false };
        entries.flatten().any(|entry| {
            let path = entry.path();
            path.is_dir() && (entry.file_name().to_string_lossy() == name || below(&path, name))
        })
    }
    below(cluster.data(node), &format!("{TOPIC}-0"))
}

/// A client that sends all the time, and is told of no error: whatever happens, trying again is enough.
struct Load {
    sent: Arc<Mutex<BTreeMap<u64, String>>>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    async fn start(cluster: &Cluster) -> Load {
        let client = Client::connect(ClientConfig::new(cluster.addresses())).await.unwrap();
        let producer = client.producer(ProducerConfig::default()).await.unwrap();
        let (sent, over) = (Arc::<Mutex<BTreeMap<u64, String>>>::default(), Arc::default());
        let (noted, ends) = (Arc::clone(&sent), Arc::<AtomicBool>::clone(&over));
        let task = tokio::spawn(async move {
            for n in 0.. {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let value = format!("record {n}");
                let record = ProducerRecord {
                    value: Some(Bytes::from(value.clone())),
                    ..ProducerRecord::new(TOPIC)
                };
                let delivery = producer.send(record).await.unwrap();
                let offset = delivery.await.unwrap().offset.unwrap();
                noted.lock().unwrap().insert(offset.0, value);
            }
        });
        Load { sent, over, task }
    }

    /// Records that were acknowledged.
    fn count(&self) -> u64 {
        self.sent.lock().unwrap().len() as u64
    }

    async fn goes_on(&self) {
        let count = || self.sent.lock().unwrap().len();
        let before = count();
        eventually_or_why("records are acknowledged", async || {
            if count() > before + 5 { Ok(()) } else { Err(format!("{before}, {}", count())) }
        })
        .await;
    }

    /// Every record that was acknowledged is where it was said to be, once.
    async fn nothing_is_lost(self, cluster: &Cluster) {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        let (_, server) = leader(cluster, TOPIC).await;
        let stored = server.read_all(TOPIC, 0).await;
        let stored: BTreeMap<u64, String> = stored
            .into_iter()
            .map(|(offset, sample)| {
                (offset.unsigned_abs(), String::from_utf8(sample.value.unwrap()).unwrap())
            })
            .filter(|(_, value)| value.starts_with("record "))
            .collect();
        assert!(!sent.is_empty());
        assert_eq!(stored, sent);
    }
}

/// As much as keeps a new replica busy for a while, in large records.
async fn fill(cluster: &Cluster) {
    let (_, server) = leader(cluster, TOPIC).await;
    for _ in 0..40 {
        let batch = batch_of(&[Sample::of(vec![7; 500_000], 1)]);
        eventually_or_why("the topic is filled", async || {
            let result = server.produce(TOPIC, 0, batch.clone(), Acks::All).await;
            result.error.map_or(Ok(()), |error| Err(format!("{error:?}")))
        })
        .await;
    }
}

#[tokio::test]
async fn replicas_move_with_their_leader_and_no_client_is_told_of_an_error() {
    let cluster = Cluster::of(5, &[]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    begin(&cluster, 2, &[4, 5, 3]).await;
    let moved = complete(&cluster, &[4, 5, 3]).await;
    assert_eq!(moved.leader_id, Some(4), "who led is none of them");
    load.goes_on().await;
    eventually_or_why("who was dropped has deleted it", async || {
        let holders: Vec<_> = cluster.ids().filter(|node| holds(&cluster, *node)).collect();
        if holders == [3, 4, 5] { Ok(()) } else { Err(format!("{holders:?}")) }
    })
    .await;
    assert_eq!(listed(&cluster, 1).await, []);
    cluster.healed().await;
    load.nothing_is_lost(&cluster).await;
}

/// A14.
#[tokio::test]
async fn the_replication_factor_is_raised_and_lowered_by_the_same_request() {
    let cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[1], &[]).await;
    let load = Load::start(&cluster).await;
    for target in [&[1, 2, 3][..], &[2][..], &[3, 1][..]] {
        begin(&cluster, 3, target).await;
        let done = complete(&cluster, target).await;
        assert!(target.contains(&done.leader_id.unwrap()));
        load.goes_on().await;
    }
    load.nothing_is_lost(&cluster).await;
}

/// The node that is to be added is away, so nothing can be complete before it is back.
#[tokio::test]
async fn what_is_under_way_is_shown_and_given_up() {
    let mut cluster = Cluster::of(4, &[]).await;
    topic_on(&cluster, TOPIC, &[1, 2], &[]).await;
    fill(&cluster).await;
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    let away = if cluster.healed().await.controller == 4 { 3 } else { 4 };
    cluster.pause(away).await;
    begin(&cluster, 1, &[away, 2]).await;
    let under_way = listed(&cluster, 1).await;
    assert_eq!(under_way.len(), 1);
    let PartitionReassignment { replicas, adding_replicas, removing_replicas, .. } = &under_way[0];
    assert_eq!((&replicas[..], &adding_replicas[..]), (&[away, 2, 1][..], &[away][..]));
    assert_eq!(
        (&removing_replicas[..], &under_way[0].original_replicas[..]),
        (&[1][..], &[1, 2][..])
    );
    load.goes_on().await;
    assert_eq!(listed(&cluster, 1).await.len(), 1);
    assert_eq!(alter(&cluster, 1, None).await.error, None);
    assert_eq!(reason(&alter(&cluster, 1, None).await.error), NoReassignmentInProgress);
    cluster.resume(away);
    let back = complete(&cluster, &[1, 2]).await;
    assert_eq!(back.leader_id, Some(1));
    eventually_or_why("nothing is left of it", async || {
        if holds(&cluster, away) { Err(format!("node {away} holds it")) } else { Ok(()) }
    })
    .await;
    load.nothing_is_lost(&cluster).await;
}

/// One from before is away, so that the other would be alone without the one that was added.
#[tokio::test]
async fn a_cancelled_move_keeps_who_was_added_until_enough_of_the_others_are_in_sync() {
    let mut cluster = Cluster::of(4, &[]).await;
    topic_on(&cluster, TOPIC, &[1, 2], &[("min.insync.replicas", "2")]).await;
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    cluster.kill(2);
    partition_where(&cluster, TOPIC, |one| one.in_sync_replicas == [1]).await;
    begin(&cluster, 1, &[3, 2]).await;
    partition_where(&cluster, TOPIC, |one| one.in_sync_replicas.contains(&3)).await;
    for _ in 0..2 {
        let cancelled = alter(&cluster, 1, None).await.after.unwrap();
        assert_eq!(cancelled.replicas, [1, 2, 3]);
        assert_eq!(
            (cancelled.removing_replicas, cancelled.cancelled_until_in_sync),
            (vec![3], Some(2))
        );
    }
    let told = &listed(&cluster, 1).await[0];
    assert_eq!((&told.original_replicas[..], told.cancelled_until_in_sync), (&[1, 2][..], Some(2)));
    let state = partition_where(&cluster, TOPIC, |one| one.cancelled_until_in_sync.is_some()).await;
    assert_eq!((state.removing_replicas, state.in_sync_replicas.len()), (vec![3], 2));
    for arguments in [
        &["reassign", "list"][..],
        &["reassign", "verify", "--all"],
        &["reassign", "cancel", "--all"],
        &["topic", "describe", TOPIC],
    ] {
        let said = troupe(cluster.address(1), arguments).await;
        let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
        let told = "keeps 3 until 2 of 1,2 are in sync";
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
    load.goes_on().await;
    cluster.restart(&[2]).await;
    let back = complete(&cluster, &[1, 2]).await;
    assert_eq!(back.cancelled_until_in_sync, None);
    eventually_or_why("nothing is left of it", async || {
        if holds(&cluster, 3) { Err("node 3 holds it".to_owned()) } else { Ok(()) }
    })
    .await;
    load.nothing_is_lost(&cluster).await;
}

/// Killed in the middle: the leader, which is to go; who is to come; and whoever decides.
#[tokio::test]
async fn a_reassignment_goes_on_after_its_source_its_target_and_the_controller_were_killed() {
    let mut cluster = Cluster::of(5, &[]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    fill(&cluster).await;
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    // One that is to come is away, so that all of it happens in the middle.
    cluster.kill(5);
    partition_where(&cluster, TOPIC, |_| true).await;
    begin(&cluster, 2, &[4, 2, 3]).await;
    for node in [1, 4] {
        cluster.kill(node);
        load.goes_on().await;
        cluster.restart(&[node]).await;
    }
    cluster.restart(&[5]).await;
    let controller = cluster.healed().await.controller;
    begin(&cluster, 2, &[5, 4, 2]).await;
    cluster.kill(controller);
    load.goes_on().await;
    cluster.restart(&[controller]).await;
    let done = complete(&cluster, &[5, 4, 2]).await;
    assert!(done.leader_id.is_some());
    cluster.healed().await;
    load.nothing_is_lost(&cluster).await;
}

/// R35.
#[tokio::test]
async fn a_replica_that_was_dropped_while_its_node_was_away_is_deleted_at_the_start() {
    let mut cluster = Cluster::of(4, &[]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 4], &[]).await;
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    cluster.kill(4);
    partition_where(&cluster, TOPIC, |one| !one.in_sync_replicas.contains(&4)).await;
    begin(&cluster, 1, &[1, 2, 3]).await;
    complete(&cluster, &[1, 2, 3]).await;
    assert!(holds(&cluster, 4));
    let refused = alter(&cluster, 1, Some(&[1, 2, 4])).await;
    assert_eq!(reason(&refused.error), InvalidReplicaAssignment, "it would be waited for");
    cluster.restart(&[4]).await;
    cluster.healed().await;
    assert!(!holds(&cluster, 4));
    begin(&cluster, 1, &[4, 2, 3]).await;
    complete(&cluster, &[4, 2, 3]).await;
    load.nothing_is_lost(&cluster).await;
}

/// The coordinators of groups follow their partitions.
#[tokio::test]
async fn the_offsets_of_groups_move_with_their_partitions() {
    let cluster = Cluster::of(5, &["offsets.topic.num.partitions=1"]).await;
    topic_on(&cluster, TOPIC, &[1, 2], &[]).await;
    let commit = async |offset: i64| {
        let commits = vec![PartitionCommit {
            partition: Some(partition_of(TOPIC, 0)),
            offset: Some(OffsetAndMetadata { offset, ..Default::default() }),
        }];
        let request =
            CommitOffsetsRequest { group_id: "readers".into(), commits, ..Default::default() };
        eventually_or_why("the offset is committed", async || {
            let mut groups = GroupServiceClient::new(cluster.channel(1));
            let answer =
                groups.commit_offsets(request.clone()).await.map_err(|it| it.to_string())?;
            match &answer.into_inner().results[0].error {
                None => Ok(()),
                Some(error) => Err(format!("{error:?}")),
            }
        })
        .await;
    };
    let committed = async || {
        let request = FetchOffsetsRequest { group_id: "readers".into(), ..Default::default() };
        eventually_or_why("the offset is read", async || {
            let mut groups = GroupServiceClient::new(cluster.channel(2));
            let answer =
                groups.fetch_offsets(request.clone()).await.map_err(|it| it.to_string())?;
            let offsets = answer.into_inner().offsets;
            let first = offsets.first().and_then(|one| one.offset.as_ref());
            first.map(|one| one.offset).ok_or_else(|| "none".to_owned())
        })
        .await
    };
    commit(3).await;
    let internal = "__consumer_offsets";
    let before = cluster.describe().await.unwrap().partition(internal, 0).unwrap().clone();
    let target: Vec<i32> =
        cluster.ids().filter(|node| !before.replicas.contains(node)).take(2).collect();
    let one = ReassignPartition {
        topic: internal.to_owned(),
        replicas: target.clone(),
        ..Default::default()
    };
    let request =
        AlterPartitionReassignmentsRequest { partitions: vec![one], ..Default::default() };
    let mut stub = ReassignmentServiceClient::new(cluster.channel(1));
    let answer = stub.alter_partition_reassignments(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].error, None);
    partition_where(&cluster, internal, |one| {
        one.replicas == target && one.in_sync_replicas.len() == target.len()
    })
    .await;
    assert_eq!(committed().await, 3);
    commit(5).await;
    assert_eq!(committed().await, 5);
}

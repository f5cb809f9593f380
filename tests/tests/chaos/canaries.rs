//! A check that cannot fail checks nothing: bugs that are planted must be found.

use crate::verdict::Verdict;
use crate::workload::{Finished, Place, Sender, Workload};
use crate::{PARTITIONS, TOPICS};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tokio::time::sleep;
use troupe_proto::v1::Acks;
use troupe_tests::{
    Cluster, Outcome, PartitionHistory, Promise, Sample, Stored, batch_of, eventually_or_why, seed,
};

/// Damages what a schedule has left in one way after the other; the verdict names each.
pub fn every_damage_is_noticed(finished: &Finished) {
    type Damage = fn(&mut Vec<Stored>);
    let damages: [(&str, Damage); 5] = [
        ("lost", |log| log.retain(|(_, value)| producer_of(value) != 0)),
        ("duplicated", |log| {
            let (next, value) = (log.len() as u64, log[log.len() / 2].1.clone());
            log.push((next, value));
        }),
        ("reordered", |log| {
            let mut values: Vec<_> = log.iter().map(|(_, value)| value.clone()).collect();
            values.reverse();
            log.iter_mut().zip(values).for_each(|(stored, value)| stored.1 = value);
        }),
        ("invented", |log| log[0].1.push(b'!')),
        ("seen and gone", |log| drop(log.pop())),
    ];
    let (place, history) = largest(finished);
    for (name, damage) in damages {
        let mut log = finished.stored[place].clone();
        damage(&mut log);
        let anomalies = history.judge(&log);
        assert!(anomalies.to_string().contains(name), "{name} is not noticed: {anomalies}");
    }
}

/// As the workload writes it: topic/partition/producer/sequence.
fn producer_of(value: &[u8]) -> usize {
    let text = String::from_utf8_lossy(value);
    text.split('/').nth(2).and_then(|number| number.parse().ok()).unwrap()
}

fn largest(finished: &Finished) -> (&Place, &PartitionHistory) {
    let by_size = finished.histories.iter().max_by_key(|(place, _)| finished.stored[place].len());
    by_size.unwrap()
}

/// A producer that sends again what may have arrived, and is not idempotent: leaders that die must show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_idempotence_dead_leaders_leave_duplicates() {
    const KILLS: usize = 8;
    let seed = seed();
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(&[]).await;
    let senders = vec![Sender::forgetful(); 3];
    let workload = Workload::start(&cluster, &TOPICS, PARTITIONS, &senders, seed, None).await;
    for kill in 0..KILLS {
        workload.progress(100).await;
        // Chance decides where in its work it dies; nothing is waited for.
        sleep(Duration::from_millis(chance.random_range(0..100))).await;
        let partition = (kill as u32 % PARTITIONS) as i32;
        let leader = leader_of(&cluster, TOPICS[0], partition).await;
        cluster.kill(leader);
        cluster.restart(&[leader]).await;
    }
    cluster.healed().await;
    let finished = workload.finish(&cluster, 0).await;
    let verdict = Verdict::of(&finished);
    println!("seed {seed}: {verdict}");
    assert!(verdict.count(|found| found.duplicated.len()) > 0, "seed {seed}: {verdict}");
    assert_eq!(verdict.count(|found| found.lost.len()), 0, "seed {seed}: {verdict}");
}

async fn leader_of(cluster: &Cluster, topic: &str, partition: i32) -> i32 {
    eventually_or_why("the partition has a leader", async || {
        let picture = cluster.describe().await?;
        picture.leader(topic, partition).ok_or_else(|| picture.to_string())
    })
    .await
}

/// Acknowledged by a leader alone, and counted as if it were everywhere: what its death takes along must be
/// called lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_leader_had_is_called_lost() {
    const TOPIC: &str = "careless";
    let configs = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    let mut cluster = Cluster::start(&[]).await;
    let controller = cluster.healed().await.controller;
    cluster.server(controller).await.create_topic(TOPIC, 1, &configs).await;
    cluster.healed().await;
    let leader = leader_of(&cluster, TOPIC, 0).await;
    let server = cluster.server(leader).await;
    let mut history = PartitionHistory::default();
    let producer = history.add_producer(Promise::Durable);
    let send = async |history: &mut PartitionHistory, n: usize| {
        let value = format!("{n}");
        let place = history.sending(producer, value.clone().into());
        let batch = batch_of(&[Sample::of(value, 1)]);
        let result = server.produce(TOPIC, 0, batch, Acks::Leader).await;
        assert_eq!(result.error, None);
        let outcome = Outcome::Acknowledged(result.base_offset as u64);
        history.answered(producer, place, outcome);
    };
    for n in 0..10 {
        send(&mut history, n).await;
    }
    // Each is on all replicas: what follows is not.
    replicated(&cluster, TOPIC, 10).await;
    let followers: Vec<i32> = cluster.ids().filter(|&id| id != leader).collect();
    for &follower in &followers {
        cluster.kill(follower);
    }
    for n in 10..20 {
        send(&mut history, n).await;
    }
    cluster.kill(leader);
    cluster.restart(&followers).await;
    eventually_or_why("another leads", async || {
        let picture = cluster.describe().await?;
        let other = picture.leader(TOPIC, 0).filter(|&other| other != leader);
        other.ok_or_else(|| picture.to_string())
    })
    .await;
    cluster.heal().await;
    cluster.healed().await;
    let leader = leader_of(&cluster, TOPIC, 0).await;
    let stored = cluster.server(leader).await.read_all(TOPIC, 0).await.into_iter();
    let stored: Vec<Stored> =
        stored.map(|(offset, one)| (offset as u64, one.value.unwrap())).collect();
    let anomalies = history.judge(&stored);
    assert_eq!(anomalies.producers[0].lost, (10..20).collect::<Vec<_>>(), "{anomalies}");
}

/// Waits until every replica of a topic's first partition has committed `end` records.
async fn replicated(cluster: &Cluster, topic: &str, end: i64) {
    use troupe_proto::admin::v1::ListReplicasRequest;
    use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
    eventually_or_why("all replicas have everything", async || {
        for id in cluster.ids() {
            let request = ListReplicasRequest { topic: topic.to_owned(), ..Default::default() };
            let listed =
                ClusterServiceClient::new(cluster.channel(id)).list_replicas(request).await;
            let replicas = listed.map_err(|status| status.to_string())?.into_inner().replicas;
            let behind = replicas.iter().find(|one| one.high_watermark != end);
            behind.map_or(Ok(()), |one| Err(format!("{one:?}")))?;
        }
        Ok(())
    })
    .await;
}

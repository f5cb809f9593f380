//! Replicas whose disks have changed under them.

use super::{leader, partition_where, topic_on};
use std::fs;
use std::path::{Path, PathBuf};
use troupe_proto::v1::Acks;
use troupe_tests::{Cluster, Sample, Server, batch_of};

/// Every record one batch, acknowledged by all.
async fn append(server: &Server, topic: &str, from: usize, count: usize) {
    for n in from..from + count {
        let batch = batch_of(&[Sample::of(format!("record {n:0400}"), 1)]);
        let result = server.produce(topic, 0, batch, Acks::All).await;
        assert_eq!((result.base_offset, result.error), (n as i64, None));
    }
}

/// All nodes lose power in the same moment.
async fn blackout(cluster: &mut Cluster) {
    let ids: Vec<i32> = cluster.ids().collect();
    // Stopped first, so that none sees another go.
    for &id in &ids {
        cluster.pause(id).await;
    }
    for &id in &ids {
        cluster.kill(id);
    }
}

fn last_segment(directory: &Path) -> PathBuf {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let segments =
        names.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.max().unwrap()
}

/// In whichever order they register, and although `min.insync.replicas` of 1 leaves the last one alone eligible.
#[tokio::test]
async fn after_a_blackout_a_flipped_bit_in_an_unsealed_tail_loses_nothing() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, "tail", &[1, 2, 3], &[("min.insync.replicas", "1")]).await;
    let ids: Vec<i32> = cluster.ids().collect();
    let mut written = 0;
    for (round, &damaged) in ids.iter().enumerate() {
        partition_where(&cluster, "tail", |one| one.in_sync_replicas.len() == 3).await;
        let (_, server) = leader(&cluster, "tail").await;
        append(&server, "tail", written, 10).await;
        written += 10;
        drop(server);
        blackout(&mut cluster).await;
        let path = last_segment(&cluster.data(damaged).join("tail-0"));
        let mut content = fs::read(&path).unwrap();
        let at = content.len() - 3;
        content[at] ^= 4;
        fs::write(&path, content).unwrap();
        cluster.restart(&ids).await;
        partition_where(&cluster, "tail", |one| one.in_sync_replicas.len() == 3).await;
        let (_, server) = leader(&cluster, "tail").await;
        assert_eq!(server.read_all("tail", 0).await.len(), written, "node {damaged}");
        assert_eq!(cluster.times_said("the log is damaged"), round + 1, "{}", cluster.said());
    }
}

/// Nothing is wrong with what is left of the log: it only ends before what was acknowledged.
#[tokio::test]
async fn after_a_blackout_a_replica_that_lost_its_acknowledged_end_does_not_lead_by_what_is_left() {
    let mut cluster = Cluster::start(&["log.checkpoint.interval.ms=1h"]).await;
    topic_on(&cluster, "ends", &[1, 2, 3], &[("min.insync.replicas", "1")]).await;
    let ids: Vec<i32> = cluster.ids().collect();
    let mut written = 0;
    for (round, &damaged) in ids.iter().enumerate() {
        partition_where(&cluster, "ends", |one| one.in_sync_replicas.len() == 3).await;
        let (_, server) = leader(&cluster, "ends").await;
        append(&server, "ends", written, 10).await;
        written += 10;
        drop(server);
        blackout(&mut cluster).await;
        let path = last_segment(&cluster.data(damaged).join("ends-0"));
        let file = fs::File::options().write(true).open(&path).unwrap();
        // three batches, all of one length, or all but the half of one
        let batch = file.metadata().unwrap().len() / written as u64;
        let left = written as u64 * batch - 3 * batch + [0, batch / 2, 0][round];
        file.set_len(left).unwrap();
        cluster.restart(&ids).await;
        partition_where(&cluster, "ends", |one| one.in_sync_replicas.len() == 3).await;
        let (_, server) = leader(&cluster, "ends").await;
        assert_eq!(server.read_all("ends", 0).await.len(), written, "node {damaged}");
        assert_eq!(cluster.times_said("the log is damaged"), round + 1, "{}", cluster.said());
    }
}

/// A segment in the middle, and then the whole directory: the replica is filled again, and does not lead before.
#[tokio::test]
async fn a_replica_whose_files_have_vanished_is_filled_again_before_it_counts() {
    let mut cluster = Cluster::start(&["log.checkpoint.interval.ms=100"]).await;
    topic_on(&cluster, "files", &[1, 2, 3], &[("segment.bytes", "4096")]).await;
    partition_where(&cluster, "files", |one| one.in_sync_replicas.len() == 3).await;
    let (led, server) = leader(&cluster, "files").await;
    append(&server, "files", 0, 60).await;
    drop(server);
    assert!(cluster.terminate(led).await.success());
    let directory = cluster.data(led).join("files-0");
    let second = || {
        let mut names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        names.sort();
        names.swap_remove(1)
    };
    let gone = second();
    fs::remove_file(&gone).unwrap();
    cluster.restart(&[led]).await;
    partition_where(&cluster, "files", |one| one.in_sync_replicas.len() == 3).await;
    assert_eq!(cluster.times_said("the log is damaged"), 1, "{}", cluster.said());
    assert!(gone.exists(), "what was missing was filled again");

    cluster.kill(led);
    fs::remove_dir_all(&directory).unwrap();
    cluster.restart(&[led]).await;
    partition_where(&cluster, "files", |one| one.in_sync_replicas.len() == 3).await;
    assert_eq!(cluster.times_said("the log is damaged"), 2, "{}", cluster.said());
    let (_, server) = leader(&cluster, "files").await;
    assert_eq!(server.read_all("files", 0).await.len(), 60);
}

//! A replica of a compacted topic that is damaged is filled again from the log's start, and brings nothing back that was
//! deleted.

use super::*;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use troupe_proto::admin::v1::{PartitionState, ScrubReplicasRequest};
use troupe_proto::batch::{Batches, Limits, RecordSet};
use troupe_tests::Cluster;

async fn whole(cluster: &Cluster, topic: &str) -> PartitionState {
    eventually_or_why("all replicas are in sync", async || {
        let picture = cluster.describe().await?;
        let found = picture.partition(topic, 0).cloned();
        let is_whole =
            |it: &PartitionState| it.in_sync_replicas.len() == 3 && it.leader_id.is_some();
        found.filter(is_whole).ok_or_else(|| picture.to_string())
    })
    .await
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    logs.sort();
    logs.retain(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0));
    logs
}

/// One bit, in place, in the middle of the oldest segment.
fn damage(directory: &Path) {
    let path = segments(directory).swap_remove(0);
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 8], at).unwrap();
}

/// S23: tombstones have gone by the time that a follower, and then the leader, is damaged.
#[tokio::test]
async fn a_damaged_replica_of_a_cleaned_log_is_filled_again_and_deleted_keys_stay_away() {
    let cluster = Cluster::start(&[OFTEN, "log.scrub.bytes.per.second=0"]).await;
    let server = cluster.server(1).await;
    let configs = [EAGER.as_slice(), &[("delete.retention.ms", "1")]].concat();
    let topic = server.create_topic("cleaned", 1, &configs).await.name;
    let leader = async || {
        let led = whole(&cluster, &topic).await;
        let id = led.leader_id.unwrap();
        (id, cluster.server(id).await)
    };
    let mut appended = Appended::new();
    let (_, server) = leader().await;
    overwrite(&server, &topic, &mut appended, 20, 3).await;
    let deletions: Vec<_> = (0..10).map(|key| keyed(&format!("key-{key}"), None)).collect();
    append(&server, &topic, &mut appended, &deletions).await;
    let is_deleted = |sample: &Sample| {
        (0..10).any(|key| sample.key.as_deref() == Some(format!("key-{key}").as_bytes()))
    };
    eventually_or_why("deletions are gone everywhere", async || {
        // what closes the segment that is written to, and has another pass look
        let others: Vec<_> =
            (0..10).map(|key| keyed(&format!("other-{key}"), Some("x".repeat(300)))).collect();
        append(&server, &topic, &mut appended, &others).await;
        let left = server.read_all(&topic, 0).await;
        let mut count = left.iter().filter(|(_, sample)| is_deleted(sample)).count();
        // each replica cleans for itself, and may be the next leader
        for id in cluster.ids() {
            let held = last_of_each_key(&cluster.data(id).join(format!("{topic}-0")))?;
            let is_held = |key: &u32| held.contains_key(format!("key-{key}").as_bytes());
            count += (0..10).filter(is_held).count();
        }
        if count == 0 { Ok(()) } else { Err(format!("{count} of deleted keys are left")) }
    })
    .await;
    for follower in [true, false] {
        let (led, server) = leader().await;
        let damaged = if follower { cluster.ids().find(|id| *id != led).unwrap() } else { led };
        damage(&cluster.data(damaged).join(format!("{topic}-0")));
        drop(server);
        eventually_or_why("it is found", async || {
            let request = ScrubReplicasRequest { topic: topic.clone(), partitions: vec![0] };
            let node = cluster.server(damaged).await;
            let mut answers = node.cluster().scrub_replicas(request).await.unwrap().into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                if answer.damaged {
                    return Ok(());
                }
            }
            let found = cluster.times_said("damage was found in the log");
            if found > usize::from(!follower) {
                return Ok(());
            }
            // cleaning has written the segment anew, from what it had read before
            damage(&cluster.data(damaged).join(format!("{topic}-0")));
            Err(format!("{found}"))
        })
        .await;
        let (_, server) = leader().await;
        check(&server, &topic, &appended).await;
        let left = server.read_all(&topic, 0).await;
        assert!(!left.iter().any(|(_, sample)| is_deleted(sample)), "deleted keys are back");
    }
    whole(&cluster, &topic).await;
    // Each cleans for itself, and not at the same time: the files differ, what they say of each key does not.
    let held = |id: i32| last_of_each_key(&cluster.data(id).join(format!("{topic}-0")));
    eventually_or_why("all replicas say the same of each key", async || {
        let (one, two, three) = (held(1)?, held(2)?, held(3)?);
        if one == two && two == three {
            Ok(())
        } else {
            Err(format!("{one:?}\n{two:?}\n{three:?}"))
        }
    })
    .await;
    let expected: BTreeMap<_, _> = last_offsets(&appended)
        .into_iter()
        .filter(|(_, offset)| appended[offset].value.is_some())
        .map(|(key, offset)| (key, (offset as u64, appended[&offset].value.clone())))
        .collect();
    assert_eq!(held(1).unwrap(), expected);
}

type LastOfEachKey = BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>;

/// Of each key the last record, and of which keys there is none: as it stands in the replica's files, each batch checked.
/// Files may be exchanged, and grow, while they are read.
fn last_of_each_key(directory: &Path) -> Result<LastOfEachKey, String> {
    let mut last = BTreeMap::new();
    for path in segments(directory) {
        let content = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for batch in Batches::new(content.into()) {
            let (header, payload) =
                batch.map_err(|error| format!("{}: {error}", path.display()))?;
            let records = RecordSet::decode(&header, payload, Limits::default());
            let records = records.map_err(|error| format!("{}: {error}", path.display()))?;
            for record in &records {
                let record = record.unwrap();
                let (key, value) = (record.key.unwrap().to_vec(), record.value.map(<[u8]>::to_vec));
                last.insert(key, (record.offset.0, value));
            }
        }
    }
    Ok(last)
}

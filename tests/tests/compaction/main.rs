//! Compaction as users see it: the last value of each key, offsets that never change, deletions that go in time, and
//! what is told of it all. Small segments, and a cleaner that looks often.
#![allow(clippy::unwrap_used, reason = "tests")]

mod damaged;
mod groups;
mod killed;
mod replicas;
mod settings;
mod told;
mod values;

use std::collections::BTreeMap;
use troupe_proto::admin::v1::{CleaningState, ListReplicasRequest, ReplicaCleaning};
use troupe_proto::v1::Acks;
use troupe_tests::{Sample, Server, batch_of, eventually_or_why};

/// For a node that looks at its logs often.
const OFTEN: &str = "log.cleaner.backoff.ms=50";
/// For a topic whose segments are full soon, and that is cleaned as soon as there is anything.
const EAGER: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "4096"),
    ("min.cleanable.dirty.ratio", "0"),
    ("file.delete.delay.ms", "0"),
];

/// All that was ever appended to a partition, by offset.
type Appended = BTreeMap<i64, Sample>;

fn keyed(key: &str, value: Option<String>) -> Sample {
    let key = Some(key.as_bytes().to_vec());
    Sample { key, value: value.map(String::into_bytes), ..Sample::of("", 1_700_000_000_000) }
}

/// Appends to partition 0 and notes where it stands.
async fn append(server: &Server, topic: &str, appended: &mut Appended, records: &[Sample]) {
    let result = server.produce(topic, 0, batch_of(records), Acks::All).await;
    assert_eq!(result.error, None);
    appended.extend((result.base_offset..).zip(records.iter().cloned()));
}

/// Every key so many times, in batches of ten records.
async fn overwrite(
    server: &Server,
    topic: &str,
    appended: &mut Appended,
    keys: usize,
    times: usize,
) {
    for time in 0..times {
        let records: Vec<_> = (0..keys)
            .map(|key| keyed(&format!("key-{key}"), Some(format!("{time}-{}", "x".repeat(60)))))
            .collect();
        for batch in records.chunks(10) {
            append(server, topic, appended, batch).await;
        }
    }
}

/// Of each key the offset of its last record.
fn last_offsets(appended: &Appended) -> BTreeMap<Vec<u8>, i64> {
    let keyed = appended.iter().filter_map(|(offset, record)| Some((record.key.clone()?, *offset)));
    keyed.collect()
}

/// S20: nothing stands elsewhere than where it was appended, and no key has lost its last record. Gives how many
/// records are left.
async fn check(server: &Server, topic: &str, appended: &Appended) -> usize {
    let left = server.read_all(topic, 0).await;
    assert!(left.is_sorted_by_key(|(offset, _)| *offset), "in order");
    for (offset, record) in &left {
        assert_eq!(appended.get(offset), Some(record), "at offset {offset}");
    }
    for (key, last) in last_offsets(appended) {
        let is_left = left.iter().any(|(offset, _)| *offset == last);
        let is_tombstone = appended[&last].value.is_none();
        assert!(is_left || is_tombstone, "the last record of {key:?}, at {last}");
    }
    left.len()
}

async fn cleaning(server: &Server, topic: &str) -> ReplicaCleaning {
    let request = ListReplicasRequest { topic: topic.to_owned(), ..Default::default() };
    let mut listed = server.cluster().list_replicas(request).await.unwrap().into_inner().replicas;
    assert_eq!(listed.len(), 1, "one partition");
    listed.remove(0).cleaning.expect("the topic is compacted")
}

/// Until no more records than these are left, and no pass is under way: what is told of a log is as of the cleaner's last
/// look, which may have come before the last records.
async fn until_left(server: &Server, topic: &str, most: usize) -> ReplicaCleaning {
    eventually_or_why("what was overwritten is gone", async || {
        let left = server.read_all(topic, 0).await.len();
        if left <= most { Ok(()) } else { Err(format!("{left} are left")) }
    })
    .await;
    until_cleaned(server, topic, 0).await
}

/// Until nothing of the closed segments is dirty, after more than `passes`.
async fn until_cleaned(server: &Server, topic: &str, passes: i64) -> ReplicaCleaning {
    eventually_or_why("the log is clean", async || {
        let cleaning = cleaning(server, topic).await;
        let clean = cleaning.state() == CleaningState::Idle && cleaning.dirty_ratio == 0.0;
        if clean && cleaning.pass_count > passes {
            Ok(cleaning)
        } else {
            Err(format!("{cleaning:?}"))
        }
    })
    .await
}

//! What stays and what goes.

use super::*;
use troupe_proto::admin::v1::UpdateTopicRequest;
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, ListOffsetsRequest, OffsetQuery, offset_query,
};
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{StartPosition, TailRequest};
use troupe_tests::{LocalNode, eventually, eventually_or_why, partition_of};

/// S20.
#[tokio::test]
async fn the_last_value_of_each_key_stays_where_it_was() {
    let node = LocalNode::start(&[OFTEN]);
    let server = Server::at(&node.server()).await;
    let topic = server.create_topic("values", 1, &EAGER).await.name;
    let mut appended = Appended::new();
    overwrite(&server, &topic, &mut appended, 40, 10).await;
    // The last of each key, and what stands in the segment that is written to.
    until_left(&server, &topic, 80).await;
    check(&server, &topic, &appended).await;
    // Offsets go on where they were.
    overwrite(&server, &topic, &mut appended, 40, 1).await;
    assert_eq!(appended.keys().next_back(), Some(&439));
    check(&server, &topic, &appended).await;
}

/// S20: gaps are skipped, wherever a consumer begins; the bounds of the log are those of before.
#[tokio::test]
async fn a_consumer_in_a_gap_gets_the_next_record_there_is() {
    let node = LocalNode::start(&[OFTEN]);
    let server = Server::at(&node.server()).await;
    let topic = server.create_topic("gaps", 1, &EAGER).await.name;
    let mut appended = Appended::new();
    overwrite(&server, &topic, &mut appended, 20, 20).await;
    until_left(&server, &topic, 60).await;
    let left: Vec<i64> =
        server.read_all(&topic, 0).await.iter().map(|(offset, _)| *offset).collect();
    for from in 0..400 {
        let partition = Some(partition_of(&topic, 0));
        let position = FetchPosition { partition, offset: from, ..Default::default() };
        let request = FetchRequest { positions: vec![position], ..Default::default() };
        let fetched = server.log().fetch(request).await.unwrap().into_inner().partitions.remove(0);
        assert_eq!(fetched.error, None, "at {from}");
        assert_eq!(
            first_from(&server, &topic, from).await,
            left.iter().copied().find(|offset| *offset >= from),
            "from {from}"
        );
    }
    let query = |at| OffsetQuery {
        isolation_level: Default::default(),
        partition: Some(partition_of(&topic, 0)),
        at: Some(at),
    };
    let queries =
        vec![query(offset_query::At::Earliest(true)), query(offset_query::At::Latest(true))];
    let listed = server.log().list_offsets(ListOffsetsRequest { queries }).await.unwrap();
    let offsets: Vec<_> = listed.into_inner().results.iter().map(|result| result.offset).collect();
    assert_eq!(offsets, [0, 400]);
}

async fn first_from(server: &Server, topic: &str, from: i64) -> Option<i64> {
    let request = TailRequest {
        topic: topic.to_owned(),
        partition: Some(0),
        start: Some(StartPosition { at: Some(At::Offset(from)) }),
        until_end: true,
        ..Default::default()
    };
    let mut stream = server.bus().tail(request).await.unwrap().into_inner();
    while let Some(answer) = stream.message().await.unwrap() {
        if let Some(first) = answer.deliveries.first() {
            return Some(first.offset);
        }
    }
    None
}

/// S23.
#[tokio::test]
async fn a_deletion_stays_for_its_time_and_then_goes() {
    let node = LocalNode::start(&[OFTEN]);
    let server = Server::at(&node.server()).await;
    for (name, retention, goes) in [("short", "1", true), ("long", "1d", false)] {
        let configs = [EAGER.as_slice(), &[("delete.retention.ms", retention)]].concat();
        let topic = server.create_topic(name, 1, &configs).await.name;
        let mut appended = Appended::new();
        overwrite(&server, &topic, &mut appended, 20, 3).await;
        let deletions: Vec<_> = (0..10).map(|key| keyed(&format!("key-{key}"), None)).collect();
        append(&server, &topic, &mut appended, &deletions).await;
        let mut passes = 0;
        // The first pass that sees them dates them, and a later one takes them away.
        for _ in 0..4 {
            overwrite_others(&server, &topic, &mut appended).await;
            passes = until_cleaned(&server, &topic, passes).await.pass_count;
        }
        check(&server, &topic, &appended).await;
        let left = server.read_all(&topic, 0).await;
        let tombstones = left.iter().filter(|(_, record)| record.value.is_none()).count();
        assert_eq!(tombstones, if goes { 0 } else { 10 }, "{name}");
        let deleted: Vec<_> = (0..10).map(|key| format!("key-{key}").into_bytes()).collect();
        let values = left.iter().filter(|(_, record)| record.value.is_some());
        let back = values.filter(|(_, record)| deleted.contains(record.key.as_ref().unwrap()));
        assert_eq!(back.count(), 0, "{name}: a deleted key is not there");
    }
}

/// S23; Kafka keeps them until something new has come.
#[tokio::test]
async fn a_deletion_goes_in_time_from_a_topic_to_which_nothing_comes() {
    let node = LocalNode::start(&[OFTEN]);
    let server = Server::at(&node.server()).await;
    let configs = [("delete.retention.ms", "300"), ("max.compaction.lag.ms", "1")];
    let configs = [EAGER.as_slice(), &configs].concat();
    let topic = server.create_topic("quiet", 1, &configs).await.name;
    let mut appended = Appended::new();
    overwrite(&server, &topic, &mut appended, 20, 3).await;
    let deletions: Vec<_> = (0..10).map(|key| keyed(&format!("key-{key}"), None)).collect();
    append(&server, &topic, &mut appended, &deletions).await;
    eventually_or_why("what was deleted is gone", async || {
        let left = server.read_all(&topic, 0).await;
        let tombstones = left.iter().filter(|(_, record)| record.value.is_none()).count();
        if tombstones == 0 && left.len() == 10 {
            Ok(())
        } else {
            Err(format!("{tombstones} tombstones of {} records", left.len()))
        }
    })
    .await;
    check(&server, &topic, &appended).await;
}

/// It looks at logs again long after; by then, a log could have any size.
#[tokio::test]
async fn a_log_to_which_much_comes_is_cleaned_however_long_the_cleaner_rests() {
    let node = LocalNode::start(&["log.cleaner.backoff.ms=3600000"]);
    let server = Server::at(&node.server()).await;
    let configs = [EAGER.as_slice(), &[("segment.bytes", "262144")]].concat();
    let topic = server.create_topic("busy", 1, &configs).await.name;
    let mut appended = Appended::new();
    let record = keyed("one", Some("x".repeat(10_000)));
    for _ in 0..30 {
        append(&server, &topic, &mut appended, &vec![record.clone(); 10]).await;
    }
    until_cleaned(&server, &topic, 0).await;
    check(&server, &topic, &appended).await;
}

/// Closes the segment that was written to.
async fn overwrite_others(server: &Server, topic: &str, appended: &mut Appended) {
    for number in 0..8 {
        let value = format!("{number}-{}", "y".repeat(900));
        append(server, topic, appended, &[keyed("other", Some(value))]).await;
    }
}

/// S26.
#[tokio::test]
async fn compact_and_delete_does_both() {
    let node = LocalNode::start(&[OFTEN, "log.retention.check.interval.ms=50"]);
    let server = Server::at(&node.server()).await;
    let mut configs = EAGER.to_vec();
    configs[0].1 = "compact,delete";
    configs.extend([("retention.ms", "-1"), ("retention.bytes", "20000")]);
    let topic = server.create_topic("both", 1, &configs).await.name;
    let mut appended = Appended::new();
    overwrite(&server, &topic, &mut appended, 40, 10).await;
    until_left(&server, &topic, 80).await;
    check(&server, &topic, &appended).await;
    // Keys of which none comes again: only retention takes them.
    for number in 0..60 {
        let record = keyed(&format!("once-{number}"), Some("z".repeat(900)));
        append(&server, &topic, &mut appended, &[record]).await;
    }
    // Whoever reads while the log's start moves may be overtaken by it.
    eventually("there is nothing left to delete", async || {
        let request = ListReplicasRequest { topic: topic.clone(), ..Default::default() };
        let replicas = server.cluster().list_replicas(request).await.unwrap().into_inner().replicas;
        (replicas[0].size_bytes < 20_000 + 4_096).then_some(())
    })
    .await;
    eventually("the oldest go, whatever their keys", async || {
        let left = server.read_all(&topic, 0).await;
        let sizes = left.iter().map(|(_, record)| record.value.as_ref().map_or(0, Vec::len));
        (left[0].0 > 400 && sizes.sum::<usize>() < 30_000).then_some(())
    })
    .await;
}

/// S25, T15.
#[tokio::test]
async fn records_without_keys_go_when_a_topic_becomes_compacted() {
    let node = LocalNode::start(&[OFTEN]);
    let server = Server::at(&node.server()).await;
    let mut configs = EAGER.to_vec();
    configs[0].1 = "delete";
    let topic = server.create_topic("keyless", 1, &configs).await.name;
    let mut appended = Appended::new();
    for number in 0..30 {
        let records = [
            Sample::of("k".repeat(300), 1_700_000_000_000),
            keyed(&format!("key-{}", number % 3), Some(number.to_string())),
        ];
        append(&server, &topic, &mut appended, &records).await;
    }
    let request = UpdateTopicRequest {
        name: topic.clone(),
        set_configs: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
        ..Default::default()
    };
    server.topics().update_topic(request).await.unwrap();
    let refused = eventually("another one is refused", async || {
        let batch = batch_of(&[Sample::of("x", 1_700_000_000_000)]);
        server.produce(&topic, 0, batch, Acks::All).await.error
    })
    .await;
    assert_eq!(refused.reason(), ErrorCode::InvalidRecord);
    let end = 1 + server.read_all(&topic, 0).await.last().unwrap().0;
    overwrite_others(&server, &topic, &mut Appended::new()).await;
    until_cleaned(&server, &topic, 0).await;
    let left = server.read_all(&topic, 0).await;
    let keyless = left.iter().filter(|(offset, record)| *offset < end && record.key.is_none());
    assert_eq!(keyless.count(), 0);
    let keys = left.iter().filter(|(offset, _)| *offset < end).count();
    assert_eq!(keys, 3, "of each key one is left");
}

/// S21: also of a log that nobody writes to any more.
#[tokio::test]
async fn the_longest_lag_has_a_log_cleaned_that_is_not_written_to() {
    let node = LocalNode::start(&[OFTEN]);
    let server = Server::at(&node.server()).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "1"),
        ("max.compaction.lag.ms", "200"),
        ("file.delete.delay.ms", "0"),
    ];
    let topic = server.create_topic("lag", 1, &configs).await.name;
    let mut appended = Appended::new();
    overwrite(&server, &topic, &mut appended, 5, 5).await;
    eventually("of each key one record is left", async || {
        (check(&server, &topic, &appended).await == 5).then_some(())
    })
    .await;
}

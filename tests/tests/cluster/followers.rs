//! Readers of followers (KIP-392): who is sent where, what a follower hands out, and where a consumer goes on when its
//! follower cannot.

use crate::{partition_where, reason, topic_on};
use std::ops::Range;
use tokio_stream::{StreamExt, iter, pending};
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, Reader, ReaderConfig, Start,
};
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, FetchStreamRequest, PartitionFetch, RecordBatches,
};
use troupe_proto::v1::{Acks, ErrorReason};
use troupe_tests::{Cluster, Sample, batch_of, eventually_or_why, http_get, partition_of, troupe};

const TOPIC: &str = "near";
const SELECTOR: &str =
    "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// Nodes 1, 2 and 3 are in the racks a, b and c, and leaders look at racks.
async fn racked() -> Cluster {
    let mut cluster = Cluster::prepare(3, &[SELECTOR]);
    for (id, rack) in (1..).zip(["a", "b", "c"]) {
        cluster.settings(id).push(format!("broker.rack={rack}"));
    }
    cluster.start_all().await.map_err(|exit| exit.stderr).unwrap();
    cluster.healed().await;
    cluster
}

/// Appends these offsets, each of which is its record's value, to what the node leads.
async fn fill(cluster: &Cluster, node: i32, offsets: Range<u64>) {
    let server = cluster.server(node).await;
    for first in offsets.clone().step_by(10) {
        let values = first..(first + 10).min(offsets.end);
        let samples: Vec<_> = values.map(|value| Sample::of(value.to_string(), 1)).collect();
        eventually_or_why("the leader takes records", async || {
            let result = server.produce(TOPIC, 0, batch_of(&samples), Acks::All).await;
            match result.error {
                None => {
                    assert_eq!(result.base_offset, first as i64, "appended once");
                    Ok(())
                }
                Some(error) if error.surely_not_done => Err(format!("{error:?}")),
                Some(error) => panic!("appended, or not: {error:?}"),
            }
        })
        .await;
    }
}

fn position(client_rack: Option<&str>, offset: i64) -> FetchPosition {
    let client_rack = client_rack.map(str::to_owned);
    FetchPosition {
        partition: Some(partition_of(TOPIC, 0)),
        offset,
        client_rack,
        ..Default::default()
    }
}

async fn fetch_at(cluster: &Cluster, node: i32, position: FetchPosition) -> PartitionFetch {
    let request = FetchRequest { positions: vec![position], ..Default::default() };
    let answer = cluster.server(node).await.log().fetch(request).await.unwrap().into_inner();
    answer.partitions.into_iter().next().unwrap()
}

async fn fetch(cluster: &Cluster, node: i32, rack: Option<&str>, offset: i64) -> PartitionFetch {
    fetch_at(cluster, node, position(rack, offset)).await
}

fn count(batches: &Option<RecordBatches>) -> u32 {
    batches.iter().flat_map(|batches| &batches.batches).map(|batch| batch.record_count).sum()
}

/// What a node has counted for the topic.
async fn counted(cluster: &Cluster, node: i32, series: &str) -> u64 {
    let (_, text) = http_get(cluster.http(node), "/metrics").await;
    let name = format!("{series}{{node=\"{node}\",topic=\"{TOPIC}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

async fn handed_out_by_follower(cluster: &Cluster, node: i32) -> u64 {
    counted(cluster, node, "troupe_follower_records_out_total").await
}

async fn client(cluster: &Cluster) -> Client {
    Client::connect(ClientConfig::new(cluster.addresses())).await.unwrap()
}

async fn reader_in(client: &Client, rack: &str) -> Reader {
    let config = ReaderConfig {
        start: Start::Earliest,
        client_rack: rack.to_owned(),
        // Little at a time, so that it is in the midst of it when something happens.
        credit_bytes: 2_000,
        max_partition_bytes: 1_000,
        ..ReaderConfig::default()
    };
    client.reader(TOPIC, config).await.unwrap()
}

/// The next records are these, each once and in order.
async fn reads(reader: &mut Reader, wanted: Range<u64>) {
    let mut next = wanted.start;
    while next < wanted.end {
        let batch = reader.next_batch().await.expect("it goes on").unwrap();
        for record in batch.iter() {
            let record = record.unwrap();
            assert_eq!(record.offset.0, next, "each record once and in order");
            assert_eq!(record.value.unwrap(), next.to_string().as_bytes());
            next += 1;
        }
    }
    assert_eq!(next, wanted.end, "nothing was there yet behind that");
}

/// R33, R5, S28.
#[tokio::test]
async fn a_leader_names_the_follower_in_the_readers_rack_and_it_serves_who_takes_a_follower() {
    let cluster = racked().await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    fill(&cluster, 1, 0..30).await;
    for (rack, named) in [(Some("b"), Some(2)), (Some("c"), Some(3))] {
        let told = fetch(&cluster, 1, rack, 0).await;
        assert_eq!((told.preferred_read_replica, told.batches), (named, None), "{rack:?}");
        assert_eq!(told.high_watermark, 30);
    }
    for rack in [None, Some("a"), Some(""), Some("elsewhere")] {
        let served = fetch(&cluster, 1, rack, 0).await;
        assert_eq!((served.preferred_read_replica, count(&served.batches)), (None, 30), "{rack:?}");
    }
    let out_of_range = fetch(&cluster, 1, Some("b"), 31).await;
    assert_eq!(reason(&out_of_range.error), ErrorReason::OffsetOutOfRange, "the leader knows");

    eventually_or_why("the follower hears what is committed", async || {
        let served = fetch(&cluster, 2, Some("b"), 0).await;
        (count(&served.batches) == 30).then_some(()).ok_or(format!("{served:?}"))
    })
    .await;
    let at_end = fetch(&cluster, 2, Some(""), 30).await;
    assert_eq!((at_end.error, at_end.high_watermark, at_end.batches), (None, 30, None));
    let refused = fetch(&cluster, 2, None, 0).await.error;
    assert_eq!(reason(&refused), ErrorReason::NotLeader, "clients of before");
    assert_eq!(refused.unwrap().leader_id, Some(1));
    let beyond = fetch(&cluster, 2, Some("b"), 31).await.error;
    assert_eq!(reason(&beyond), ErrorReason::OffsetOutOfRange);
    let of_epoch = |leader_epoch| FetchPosition { leader_epoch, ..position(Some("b"), 0) };
    let of_the_future = fetch_at(&cluster, 2, of_epoch(Some(9))).await.error;
    assert_eq!(reason(&of_the_future), ErrorReason::UnknownLeaderEpoch);

    for (node, named, records) in [(1, Some(2), 0), (2, None, 30)] {
        let positions = vec![position(Some("b"), 0)];
        let request = FetchStreamRequest { positions, credit_bytes: 1 << 20, ..Default::default() };
        let server = cluster.server(node).await;
        let open = iter([request]).chain(pending());
        let mut pushed = server.log().fetch_stream(open).await.unwrap().into_inner();
        let first = pushed.message().await.unwrap().unwrap();
        assert_eq!((first.preferred_read_replica, count(&first.batches)), (named, records));
    }
}

#[tokio::test]
async fn a_consumer_that_names_its_rack_reads_from_the_follower_there() {
    let cluster = racked().await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    fill(&cluster, 1, 0..30).await;
    let wanted: String = (0..30).map(|value| format!("{value}\n")).collect();
    let consume = async |more: &[&str]| {
        let arguments = [&["consume", TOPIC, "--until-end", "-f", "%v\\n"], more].concat();
        let output = troupe(cluster.address(3), &arguments).await;
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "{output:?}");
    };
    consume(&[]).await;
    assert_eq!(
        handed_out_by_follower(&cluster, 2).await,
        0,
        "who names no rack reads from leaders"
    );
    let by_leader = counted(&cluster, 1, "troupe_records_out_total").await;
    assert_eq!(by_leader, 30);
    consume(&["--rack", "b"]).await;
    consume(&["--rack", "b", "-g", "grouped"]).await;
    assert_eq!(handed_out_by_follower(&cluster, 2).await, 60);
    assert!(counted(&cluster, 2, "troupe_follower_bytes_out_total").await > 60);
    assert_eq!(counted(&cluster, 1, "troupe_records_out_total").await, by_leader);
    consume(&["--rack", "a"]).await;
    assert_eq!(counted(&cluster, 1, "troupe_records_out_total").await, 2 * by_leader);
}

#[tokio::test]
async fn when_its_follower_dies_or_stands_still_a_consumer_goes_on_at_the_leader_and_comes_back() {
    let mut cluster = racked().await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    fill(&cluster, 1, 0..1_000).await;
    let client = client(&cluster).await;
    let mut reader = reader_in(&client, "b").await;
    reads(&mut reader, 0..300).await;
    assert!(handed_out_by_follower(&cluster, 2).await >= 300);
    cluster.kill(2);
    reads(&mut reader, 300..1_000).await;
    partition_where(&cluster, TOPIC, |one| !one.in_sync_replicas.contains(&2)).await;
    cluster.restart(&[2]).await;
    partition_where(&cluster, TOPIC, |one| one.in_sync_replicas.contains(&2)).await;
    let mut end = 1_000;
    let mut more = async |cluster: &Cluster, reader: &mut Reader| {
        fill(cluster, 1, end..end + 10).await;
        reads(reader, end..end + 10).await;
        end += 10;
    };
    eventually_or_why("it reads from the follower again", async || {
        more(&cluster, &mut reader).await;
        let handed_out = handed_out_by_follower(&cluster, 2).await;
        (handed_out > 0).then_some(()).ok_or(handed_out.to_string())
    })
    .await;
    cluster.pause(2).await;
    more(&cluster, &mut reader).await;
    partition_where(&cluster, TOPIC, |one| !one.in_sync_replicas.contains(&2)).await;
    more(&cluster, &mut reader).await;
    cluster.resume(2);
    more(&cluster, &mut reader).await;
}

/// The next values that a consumer is given.
async fn polls(consumer: &mut Consumer, count: usize) -> Vec<u64> {
    let mut values = Vec::new();
    while values.len() < count {
        let batch = consumer.next_batch().await.unwrap();
        for record in batch.iter() {
            let value = record.unwrap().value.unwrap();
            values.push(std::str::from_utf8(value).unwrap().parse().unwrap());
        }
    }
    values
}

/// After an unclean election a follower shows what its leader has, and nothing of what it had to cut.
#[tokio::test]
async fn a_follower_that_has_to_cut_its_log_shows_nothing_that_the_leader_has_not() {
    let configs = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    let mut cluster = racked().await;
    topic_on(&cluster, TOPIC, &[2, 3], &configs).await;
    cluster.healed().await;
    fill(&cluster, 2, 0..50).await;
    let client = client(&cluster).await;
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        client_rack: "c".to_owned(),
        ..ConsumerConfig::new("cut")
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(polls(&mut consumer, 50).await, (0..50).collect::<Vec<_>>());
    assert!(handed_out_by_follower(&cluster, 3).await >= 50);
    cluster.kill(3);
    partition_where(&cluster, TOPIC, |one| one.in_sync_replicas == [2]).await;
    fill(&cluster, 2, 50..100).await;
    assert_eq!(polls(&mut consumer, 50).await, (50..100).collect::<Vec<_>>());

    // Who comes back knows half of it, and leads.
    cluster.kill(2);
    cluster.restart(&[3]).await;
    partition_where(&cluster, TOPIC, |one| one.leader_id == Some(3)).await;
    let server = cluster.server(3).await;
    for first in (0..60).step_by(10) {
        let samples: Vec<_> =
            (first..first + 10).map(|value| Sample::of((1_000 + value).to_string(), 1)).collect();
        let result = server.produce(TOPIC, 0, batch_of(&samples), Acks::All).await;
        assert_eq!((result.error, result.base_offset), (None, 50 + first));
    }
    let mut wanted: Vec<u64> = (1_000..1_060).collect();
    assert_eq!(polls(&mut consumer, 60).await, wanted, "it goes on where the log was cut");
    cluster.restart(&[2]).await;
    partition_where(&cluster, TOPIC, |one| one.in_sync_replicas.contains(&2)).await;
    wanted.splice(0..0, 0..50);
    // The leader itself hears of it a moment later, and until then shows all of it itself.
    eventually_or_why("the follower has shown it", async || {
        let mut reader = reader_in(&client, "b").await;
        let mut shown = Vec::new();
        while shown.len() < wanted.len() {
            let batch = reader.next_batch().await.unwrap().unwrap();
            shown.extend(batch.iter().map(|record| {
                let value = record.unwrap().value.unwrap();
                std::str::from_utf8(value).unwrap().parse::<u64>().unwrap()
            }));
        }
        assert_eq!(shown, wanted);
        let handed_out = handed_out_by_follower(&cluster, 2).await;
        if handed_out >= 110 { Ok(()) } else { Err(handed_out.to_string()) }
    })
    .await;
}

/// S28: of what is deleted, or was never there, only the leader's word counts.
#[tokio::test]
async fn who_asks_a_follower_for_what_was_deleted_hears_from_the_leader_where_the_log_begins() {
    let cluster = racked().await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    fill(&cluster, 1, 0..100).await;
    let client = client(&cluster).await;
    let mut reader = reader_in(&client, "b").await;
    reads(&mut reader, 0..10).await;
    let purge = ["topic", "purge", TOPIC, "--before", "50", "--yes"];
    let deleted = troupe(cluster.address(1), &purge).await;
    assert!(deleted.status.success(), "{deleted:?}");
    let below = fetch(&cluster, 2, Some("b"), 5).await.error;
    assert_eq!(reason(&below), ErrorReason::OffsetOutOfRange);
    assert_eq!(fetch(&cluster, 1, Some("b"), 5).await.preferred_read_replica, None);
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        client_rack: "b".to_owned(),
        ..ConsumerConfig::new("deleted")
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(polls(&mut consumer, 50).await, (50..100).collect::<Vec<_>>());
    assert!(handed_out_by_follower(&cluster, 2).await >= 50);
}

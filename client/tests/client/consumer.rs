//! The consumer: positions, commits, what it does with errors.

use crate::fake::Cluster;
use crate::reader::{fill, numbers};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use troupe_client::formats::{BoxError, Text};
use troupe_client::{
    AutoOffsetReset, Client, ClientError, Consumer, ConsumerConfig, ConsumerRecord,
    OffsetAndMetadata, TopicPartition,
};
use troupe_proto::batch::Compression;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::Offset;

pub const LONG: Duration = Duration::from_secs(20);

pub fn p(partition: u32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

/// From the beginning, and nothing is committed by itself unless the test wants it.
pub fn config() -> ConsumerConfig {
    ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        auto_commit_interval: Duration::from_secs(3600),
        ..ConsumerConfig::new("g")
    }
}

pub async fn take(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(consumer.poll(LONG).await.unwrap());
    }
    records
}

async fn assigned(partitions: u32, config: ConsumerConfig) -> (Cluster, Client, Consumer) {
    let (cluster, client) = Cluster::with_topic(partitions as usize).await;
    fill(&client, partitions, 20, 5, Compression::None).await;
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign((0..partitions).map(p)).unwrap();
    (cluster, client, consumer)
}

/// C4, C12.
#[tokio::test]
async fn poll_returns_no_more_than_it_may_and_the_position_follows() {
    let config = ConsumerConfig { max_poll_records: 3, ..config() };
    let (_cluster, _client, mut consumer) = assigned(1, config).await;
    for n in 0..7 {
        let first = n * 3;
        assert_eq!(consumer.position(&p(0)).await.unwrap(), Offset(first));
        let records = consumer.poll(LONG).await.unwrap();
        let offsets: Vec<_> = records.iter().map(|record| record.offset.0).collect();
        assert!(!offsets.is_empty() && offsets.len() <= 3, "{offsets:?}");
        if n < 6 && offsets.len() < 3 {
            consumer.seek(&p(0), Offset(first + 3)).unwrap();
        }
    }
    assert_eq!(consumer.current_lag(&p(0)), Some(0));
    assert!(consumer.poll(Duration::from_millis(1)).await.unwrap().is_empty());
}

/// C23.
#[tokio::test]
async fn every_record_comes_once_whichever_way_it_is_asked_for() {
    let (_cluster, _client, mut consumer) = assigned(2, config()).await;
    let mut records = vec![consumer.next().await.unwrap()];
    let batch = consumer.next_batch().await.unwrap();
    records.extend(batch.records().map(|record| record.unwrap()));
    records.push(consumer.next().await.unwrap());
    records.extend(take(&mut consumer, 40 - records.len()).await);
    for partition in 0..2 {
        assert_eq!(numbers(&records, partition), (0..20).collect::<Vec<_>>());
    }
    assert_eq!(consumer.metrics().lag, 0);
}

/// C2, C15.
#[tokio::test]
async fn without_a_group_there_is_nothing_to_commit() {
    let nobody = ConsumerConfig { group_id: String::new(), ..config() };
    let (_cluster, _client, mut consumer) = assigned(1, nobody).await;
    assert_eq!(take(&mut consumer, 20).await.len(), 20);
    let reason = |error: ClientError| error.reason();
    let refused = Err(ErrorCode::InvalidGroupId);
    assert_eq!(consumer.commit_sync().await.map_err(reason), refused);
    assert_eq!(consumer.commit_async(|_| ()).map_err(reason), refused);
    assert_eq!(consumer.committed(&[p(0)]).await.map(drop).map_err(reason), refused);
    consumer.unsubscribe().await.unwrap();
    assert_eq!(consumer.subscribe(["t"]).map_err(reason), refused);
}

/// C2.
#[tokio::test]
async fn subscribe_and_assign_do_not_mix() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let mut consumer = client.consumer(config()).unwrap();
    let is_illegal = |result| matches!(result, Err(ClientError::IllegalState { .. }));
    assert!(is_illegal(consumer.poll(LONG).await.map(drop)));
    consumer.assign([p(0)]).unwrap();
    assert!(is_illegal(consumer.subscribe(["t"])));
    assert!(is_illegal(consumer.seek(&p(1), Offset(0))));
    consumer.unsubscribe().await.unwrap();
    consumer.subscribe(["t"]).unwrap();
    assert!(is_illegal(consumer.assign([p(0)])));
}

/// C7.
#[tokio::test]
async fn without_a_policy_an_unknown_place_is_an_error_until_somebody_seeks() {
    let never = ConsumerConfig { auto_offset_reset: AutoOffsetReset::None, ..config() };
    let (cluster, _client, mut consumer) = assigned(1, never).await;
    for _ in 0..2 {
        let error = consumer.poll(LONG).await.unwrap_err();
        assert_eq!(error, ClientError::NoOffset { partitions: vec![p(0)] });
    }
    cluster.state().topics.get_mut("t").unwrap().1[0].start = 10;
    consumer.seek(&p(0), Offset(3)).unwrap();
    for _ in 0..2 {
        let error = consumer.poll(LONG).await.unwrap_err();
        assert_eq!(error.reason(), ErrorCode::OffsetOutOfRange);
    }
    consumer.seek(&p(0), Offset(12)).unwrap();
    assert_eq!(numbers(&take(&mut consumer, 8).await, 0), (12..20).collect::<Vec<_>>());
}

/// C7.
#[tokio::test]
async fn a_place_that_is_gone_is_replaced_by_the_policy_s() {
    let (cluster, _client, mut consumer) = assigned(1, config()).await;
    cluster.state().topics.get_mut("t").unwrap().1[0].start = 10;
    cluster.group.state().committed.insert(0, 3);
    assert_eq!(numbers(&take(&mut consumer, 10).await, 0), (10..20).collect::<Vec<_>>());
}

/// C8.
#[tokio::test]
async fn seeking_to_an_end_is_lazy() {
    let (cluster, client, mut consumer) = assigned(1, config()).await;
    consumer.seek_to_end(&[]).unwrap();
    fill_more(&client).await;
    assert_eq!(consumer.position(&p(0)).await.unwrap(), Offset(21));
    cluster.state().topics.get_mut("t").unwrap().1[0].start = 5;
    consumer.seek_to_beginning(&[p(0)]).unwrap();
    assert_eq!(consumer.next().await.unwrap().offset, Offset(5));
    let ends = consumer.end_offsets(&[p(0)]).await.unwrap();
    let beginnings = consumer.beginning_offsets(&[p(0)]).await.unwrap();
    assert_eq!((ends[&p(0)], beginnings[&p(0)]), (Offset(21), Offset(5)));
    let times = BTreeMap::from([(p(0), 0)]);
    assert_eq!(consumer.offsets_for_times(&times).await.unwrap(), BTreeMap::from([(p(0), None)]));
}

async fn fill_more(client: &Client) {
    fill(client, 1, 1, 1, Compression::None).await;
}

/// C11.
#[tokio::test]
async fn a_paused_partition_is_silent_and_goes_on_where_it_was() {
    let config = ConsumerConfig { max_poll_records: 2, ..config() };
    let (_cluster, _client, mut consumer) = assigned(2, config).await;
    let mut records = take(&mut consumer, 1).await;
    let silent = records[0].partition.0;
    consumer.pause(&[p(silent)]).unwrap();
    assert_eq!(consumer.paused(), [p(silent)]);
    let others = take(&mut consumer, 20).await;
    assert_eq!(numbers(&others, 1 - silent), (0..20).collect::<Vec<_>>());
    assert_eq!(others.len(), 20);
    consumer.resume(&[p(silent)]).unwrap();
    records.extend(take(&mut consumer, 20 - records.len()).await);
    assert_eq!(numbers(&records, silent), (0..20).collect::<Vec<_>>());
}

/// C15.
#[tokio::test]
async fn commits_keep_their_order_and_only_those_waited_for_are_repeated() {
    let (cluster, _client, mut consumer) = assigned(1, config()).await;
    let loading = ErrorCode::CoordinatorLoading;
    cluster.group.state().refusals.extend([loading, loading]);
    let answers = Arc::new(Mutex::new(Vec::new()));
    for offset in 1..=2u64 {
        let answers = answers.clone();
        let note = move |result: Result<(), ClientError>| {
            answers.lock().unwrap().push((offset, result.map_err(|error| error.reason())));
        };
        consumer.commit_async_offsets([(p(0), OffsetAndMetadata::new(offset))], note).unwrap();
    }
    cluster.group.until(|groups| groups.said.len() == 2).await;
    cluster.group.state().refusals.extend([loading]);
    consumer.commit_sync_offsets([(p(0), OffsetAndMetadata::new(3))]).await.unwrap();
    assert_eq!(*answers.lock().unwrap(), [(1, Err(loading)), (2, Err(loading))]);
    let said = cluster.group.state().said.clone();
    assert_eq!(said, ["refused  0@1", "refused  0@2", "refused  0@3", "commit  0@3"]);
    let committed = consumer.committed(&[p(0)]).await.unwrap();
    assert_eq!(committed[&p(0)].offset, Offset(3));
}

/// C14: as of what was returned before, when it is due.
#[tokio::test]
async fn auto_commit_commits_what_was_returned() {
    let config = ConsumerConfig {
        auto_commit_interval: Duration::from_millis(1),
        max_poll_records: 5,
        ..config()
    };
    let (cluster, _client, mut consumer) = assigned(1, config).await;
    let first = take(&mut consumer, 1).await.len();
    assert!(cluster.group.state().committed.get(&0).is_none_or(|&committed| committed == 0));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = take(&mut consumer, 1).await.len();
    cluster.group.until(|groups| groups.committed.get(&0) == Some(&(first as i64))).await;
    consumer.close(LONG).await.unwrap();
    assert_eq!(cluster.group.state().committed[&0], (first + second) as i64);
}

/// C14: what nobody answers does not pile up.
#[tokio::test]
async fn one_automatic_commit_is_under_way_at_a_time() {
    let config = ConsumerConfig {
        auto_commit_interval: Duration::from_millis(1),
        max_poll_records: 1,
        ..config()
    };
    let (cluster, _client, mut consumer) = assigned(1, config).await;
    assert_eq!(consumer.poll(LONG).await.unwrap().len(), 1);
    cluster.group.set_silent(true);
    for _ in 1..20 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(take(&mut consumer, 1).await.len(), 1);
    }
    cluster.group.set_silent(false);
    consumer.close(LONG).await.unwrap();
    let said = cluster.group.state().said.clone();
    assert_eq!(said.last().map(String::as_str), Some("commit  0@20"));
    assert!(said.len() <= 3, "{said:?}");
}

/// C19.
#[tokio::test]
async fn what_cannot_be_deserialised_names_its_place_and_stays() {
    let (_cluster, _client, consumer) = assigned(1, config()).await;
    let small = |_: &str, data: Option<&bytes::Bytes>| -> Result<u32, BoxError> {
        let number = str::from_utf8(data.ok_or("no value")?)?.parse()?;
        if number == 7 { Err("seven".into()) } else { Ok(number) }
    };
    let mut consumer = consumer.typed(Text, small);
    let mut values = Vec::new();
    let error = loop {
        match consumer.poll(LONG).await {
            Ok(records) => values.extend(records.into_iter().map(|record| record.value)),
            Err(error) => break error,
        }
    };
    assert_eq!(values, (0..7).collect::<Vec<_>>());
    assert!(matches!(error, ClientError::Deserialization { offset: Offset(7), .. }), "{error}");
    assert!(consumer.next().await.is_err());
    assert_eq!(consumer.consumer().position(&p(0)).await.unwrap(), Offset(7));
    consumer.consumer().seek(&p(0), Offset(8)).unwrap();
    assert_eq!(consumer.next().await.unwrap().value, 8);
}

/// C14: a call that waits for more has taken nothing yet.
#[tokio::test]
async fn a_call_for_more_bytes_that_is_dropped_loses_nothing() {
    let config = ConsumerConfig {
        fetch_min_bytes: 1 << 30,
        fetch_max_wait: LONG,
        auto_commit_interval: Duration::from_millis(1),
        ..config()
    };
    let (cluster, _client, mut consumer) = assigned(1, config).await;
    let dropped = tokio::time::timeout(Duration::from_millis(300), consumer.poll(LONG)).await;
    assert!(dropped.is_err(), "there is not so much");
    assert_eq!(consumer.position(&p(0)).await.unwrap(), Offset(0));
    let handle = consumer.wakeup_handle();
    let (polled, ()) = tokio::join!(consumer.poll(LONG), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        handle.wakeup();
    });
    // What there was; or the call that waited was another one.
    let mut records: Vec<_> = polled.into_iter().flatten().collect();
    assert_eq!(consumer.poll(LONG).await.unwrap_err(), ClientError::Wakeup, "it was not lost");
    assert!(cluster.group.state().committed.get(&0).is_none_or(|&committed| committed == 0));
    while records.len() < 20 {
        records.extend(consumer.poll(Duration::from_millis(50)).await.unwrap());
    }
    assert_eq!(numbers(&records, 0), (0..20).collect::<Vec<_>>());
}

/// C7: each partition begins for itself.
#[tokio::test]
async fn a_partition_without_a_leader_keeps_no_other_back() {
    let (cluster, client) = Cluster::with_topic(2).await;
    fill(&client, 2, 20, 5, Compression::None).await;
    cluster.elect(1, None);
    let mut consumer = client.consumer(config()).unwrap();
    consumer.assign([p(0), p(1)]).unwrap();
    let records = tokio::time::timeout(LONG, take(&mut consumer, 20)).await.unwrap();
    assert_eq!(numbers(&records, 0), (0..20).collect::<Vec<_>>());
    cluster.elect(1, Some(0));
    let records = take(&mut consumer, 20).await;
    assert_eq!(numbers(&records, 1), (0..20).collect::<Vec<_>>());
}

/// C21.
#[tokio::test]
async fn a_call_that_waits_is_woken_once() {
    let (_cluster, _client, mut consumer) = assigned(1, config()).await;
    take(&mut consumer, 20).await;
    let handle = consumer.wakeup_handle();
    let (woken, ()) = tokio::join!(consumer.poll(LONG), async { handle.wakeup() });
    assert_eq!(woken.unwrap_err(), ClientError::Wakeup);
    assert!(consumer.poll(Duration::from_millis(1)).await.unwrap().is_empty());
}

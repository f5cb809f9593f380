//! The SDK's consumer on a real node: C2, C7, C8, C9, C14 to C17, G27's neighbours and G28, and the thin API in the
//! same group.

use crate::refused;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, ClientError, Consumer, ConsumerConfig, ConsumerRecord,
    OffsetAndMetadata, ProducerConfig, ProducerRecord, TopicPartition,
};
use troupe_proto::admin::v1::DeleteTopicRequest;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{Offset, PartitionId};
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::{CommitOffsetsRequest, RemoveGroupMembersRequest};
use troupe_tests::{PATIENCE, Server};

const DAY_MS: i64 = 24 * 3600 * 1000;

async fn client(server: &Server) -> Client {
    Client::connect(ClientConfig::new([server.address()])).await.unwrap()
}

fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition: PartitionId(partition) }
}

/// Numbers as values, one after the other, each with its timestamp.
async fn fill(client: &Client, topic: &str, times: impl IntoIterator<Item = i64>) {
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let mut sent = Vec::new();
    for (n, time) in times.into_iter().enumerate() {
        let record =
            ProducerRecord::new(topic).value(format!("{n}")).partition(0).timestamp_ms(time);
        sent.push(producer.send(record).await.unwrap());
    }
    for delivery in sent {
        delivery.await.unwrap();
    }
}

/// A topic of one partition with so many records.
async fn topic(server: &Server, client: &Client, records: usize) -> String {
    let topic = server.new_topic(1, &[]).await.name;
    fill(client, &topic, std::iter::repeat_n(1_000, records)).await;
    topic
}

fn earliest(group: &str) -> ConsumerConfig {
    ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..ConsumerConfig::new(group) }
}

/// Polls until there are so many records.
async fn read(consumer: &mut Consumer, records: usize) -> Vec<ConsumerRecord> {
    let began = Instant::now();
    let mut read = Vec::new();
    while read.len() < records {
        assert!(began.elapsed() < PATIENCE, "{} of {records}", read.len());
        read.extend(consumer.poll(Duration::from_millis(100)).await.unwrap());
    }
    read
}

/// Polls until there is an assignment.
async fn assigned(consumer: &mut Consumer) {
    let began = Instant::now();
    while consumer.assignment().is_empty() {
        assert!(began.elapsed() < PATIENCE, "nothing is assigned");
        consumer.poll(Duration::ZERO).await.unwrap();
    }
}

/// C8.
#[tokio::test]
async fn a_seek_after_the_assignment_decides_where_reading_begins() {
    let server = Server::get().await;
    let client = client(&server).await;
    let topic = topic(&server, &client, 2_000).await;
    let mut consumer = client.consumer(earliest(&format!("{topic}-seek"))).unwrap();
    consumer.subscribe([&topic]).unwrap();
    let early = consumer.seek(&at(&topic, 0), Offset(1700));
    assert!(matches!(early, Err(ClientError::IllegalState { .. })), "{early:?}");
    assigned(&mut consumer).await;
    consumer.seek(&at(&topic, 0), Offset(1700)).unwrap();
    let records = read(&mut consumer, 300).await;
    assert_eq!(
        records.iter().map(|one| one.offset.0).collect::<Vec<_>>(),
        (1700..2000).collect::<Vec<_>>()
    );
    consumer.close(PATIENCE).await.unwrap();
}

/// C9: from a day ago on.
#[tokio::test]
async fn a_time_finds_the_first_record_that_is_not_older() {
    let server = Server::get().await;
    let client = client(&server).await;
    let topic = server.new_topic(1, &[]).await.name;
    let now = 1_790_000_000_000;
    fill(&client, &topic, (0..100).map(|n| now - 3 * DAY_MS + n * DAY_MS / 30)).await;
    let mut consumer = client.consumer(earliest(&format!("{topic}-times"))).unwrap();
    consumer.assign([at(&topic, 0)]).unwrap();
    let wanted = BTreeMap::from([(at(&topic, 0), now - DAY_MS)]);
    let found = consumer.offsets_for_times(&wanted).await.unwrap();
    let found = found[&at(&topic, 0)].expect("there is one");
    assert_eq!(found.offset, Offset(60));
    consumer.seek(&at(&topic, 0), found.offset).unwrap();
    let records = read(&mut consumer, 40).await;
    assert_eq!(records[0].timestamp_ms, now - DAY_MS);
    let later = BTreeMap::from([(at(&topic, 0), now + DAY_MS)]);
    assert_eq!(consumer.offsets_for_times(&later).await.unwrap()[&at(&topic, 0)], None);
}

/// C7: earliest, latest, none.
#[tokio::test]
async fn without_a_commit_the_policy_decides() {
    let server = Server::get().await;
    let client = client(&server).await;
    let topic = topic(&server, &client, 10).await;
    let with = |policy| ConsumerConfig {
        auto_offset_reset: policy,
        ..ConsumerConfig::new(format!("{topic}-{policy:?}"))
    };
    let mut consumer = client.consumer(with(AutoOffsetReset::Latest)).unwrap();
    consumer.subscribe([&topic]).unwrap();
    assigned(&mut consumer).await;
    assert_eq!(consumer.position(&at(&topic, 0)).await.unwrap(), Offset(10));
    let mut consumer = client.consumer(with(AutoOffsetReset::Earliest)).unwrap();
    consumer.subscribe([&topic]).unwrap();
    assert_eq!(read(&mut consumer, 10).await[0].offset, Offset(0));
    let mut consumer = client.consumer(with(AutoOffsetReset::None)).unwrap();
    consumer.subscribe([&topic]).unwrap();
    let began = Instant::now();
    let error = loop {
        assert!(began.elapsed() < PATIENCE, "no error comes");
        if let Err(error) = consumer.poll(Duration::from_millis(100)).await {
            break error;
        }
    };
    assert_eq!(error.reason(), ErrorCode::NoCommittedOffset, "{error}");
    assert!(error.to_string().contains(&topic), "{error}");
}

/// C15, C16, C17: what was committed is where the next one begins; before processing it loses, after it repeats.
#[tokio::test]
async fn a_commit_before_processing_may_miss_and_one_after_may_repeat() {
    let server = Server::get().await;
    let client = client(&server).await;
    let topic = topic(&server, &client, 10).await;
    for (before, expected) in [(true, 5), (false, 0)] {
        let group = format!("{topic}-{before}");
        let manual = || ConsumerConfig {
            enable_auto_commit: false,
            max_poll_records: 5,
            ..earliest(&group)
        };
        let mut consumer = client.consumer(manual()).unwrap();
        consumer.subscribe([&topic]).unwrap();
        assert_eq!(read(&mut consumer, 5).await.len(), 5);
        if before {
            consumer.commit_sync().await.unwrap();
        }
        // It dies before it has processed any of them.
        drop(consumer);
        let mut next = client.consumer(manual()).unwrap();
        next.subscribe([&topic]).unwrap();
        assert_eq!(read(&mut next, 1).await[0].offset, Offset(expected));
        next.close(PATIENCE).await.unwrap();
    }
}

/// C14, C16, G28.
#[tokio::test]
async fn what_a_group_has_read_is_told_moved_and_deleted() {
    let server = Server::get().await;
    let client = client(&server).await;
    let topic = topic(&server, &client, 20).await;
    let group = format!("{topic}-told");
    let mut consumer = client.consumer(earliest(&group)).unwrap();
    consumer.subscribe([&topic]).unwrap();
    read(&mut consumer, 20).await;
    let admin = client.admin();
    let refused = admin.delete_group(&group).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorCode::GroupNotEmpty, "{refused}");
    let long =
        OffsetAndMetadata { metadata: "x".repeat(5_000), ..OffsetAndMetadata::new(Offset(3)) };
    let refused = consumer.commit_sync_offsets([(at(&topic, 0), long)]).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorCode::OffsetMetadataTooLarge, "{refused}");
    consumer.close(PATIENCE).await.unwrap();
    let offsets = admin.list_group_offsets(&group, vec![]).await.unwrap();
    assert_eq!(offsets[0].offset.as_ref().unwrap().offset, 20);
    admin.delete_group(&group).await.unwrap();
    let unknown = admin.describe_group(&group).await.unwrap_err();
    assert_eq!(unknown.reason(), ErrorCode::GroupNotFound, "{unknown}");
}

/// G13: as Kafka's administrators do with static members that do not come back.
#[tokio::test]
async fn members_are_removed_by_either_name_all_or_none() {
    let server = Server::get().await;
    let client = client(&server).await;
    let topic = topic(&server, &client, 5).await;
    let group = format!("{topic}-removed");
    let one = ConsumerConfig { group_instance_id: Some("one".to_owned()), ..earliest(&group) };
    let mut consumer = client.consumer(one).unwrap();
    consumer.subscribe([&topic]).unwrap();
    read(&mut consumer, 5).await;
    consumer.close(PATIENCE).await.unwrap();
    let admin = client.admin();
    let member = admin.describe_group(&group).await.unwrap().members.remove(0);
    assert!(!member.connected && member.away_until_ms > 0, "{member:?}");
    let asked = |member_ids: &[&str], instance_ids: &[&str]| RemoveGroupMembersRequest {
        group_id: group.clone(),
        member_ids: member_ids.iter().map(ToString::to_string).collect(),
        instance_ids: instance_ids.iter().map(ToString::to_string).collect(),
    };
    for (request, reason) in [
        (asked(&[], &[]), ErrorCode::InvalidRequest),
        (asked(&[&member.member_id], &["two"]), ErrorCode::UnknownMember),
        (asked(&["one"], &[]), ErrorCode::UnknownMember),
    ] {
        let refused = admin.remove_group_members(request).await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{refused}");
    }
    assert_eq!(admin.describe_group(&group).await.unwrap().members.len(), 1, "all or none");
    let removed = admin.remove_group_members(asked(&[], &["one"])).await.unwrap();
    assert_eq!(removed, std::slice::from_ref(&member.member_id));
    let again = admin.remove_group_members(asked(&[&member.member_id], &[])).await.unwrap_err();
    assert_eq!(again.reason(), ErrorCode::UnknownMember, "done once is done");
    admin.delete_group(&group).await.unwrap();
}

/// C16, G27: a place in a topic is none in another that was made under its name.
#[tokio::test]
async fn a_place_in_a_topic_that_is_gone_is_not_committed_for_its_successor() {
    let server = Server::get().await;
    let client = client(&server).await;
    let topic = topic(&server, &client, 10).await;
    let group = format!("{topic}-again");
    let manual = ConsumerConfig { enable_auto_commit: false, ..earliest(&group) };
    let mut consumer = client.consumer(manual).unwrap();
    consumer.assign([at(&topic, 0)]).unwrap();
    assert_eq!(read(&mut consumer, 10).await.len(), 10);
    let admin = client.admin();
    let delete = DeleteTopicRequest { name: topic.clone(), ..Default::default() };
    admin.delete_topic(delete).await.unwrap();
    server.create_topic(&topic, 1, &[]).await;
    let error = consumer.commit_sync().await.unwrap_err();
    assert_eq!(error.reason(), ErrorCode::UnknownTopic, "{error}");
    assert_eq!(admin.list_group_offsets(&group, vec![]).await.unwrap(), []);
}

/// C2: partitions may be read without a group, and then nothing is committed.
#[tokio::test]
async fn without_a_group_nothing_is_committed() {
    let server = Server::get().await;
    let client = client(&server).await;
    let topic = topic(&server, &client, 3).await;
    let mut consumer = client.consumer(earliest("")).unwrap();
    let error = consumer.subscribe([&topic]).unwrap_err();
    assert_eq!(error.reason(), ErrorCode::InvalidGroupId, "{error}");
    consumer.assign([at(&topic, 0)]).unwrap();
    assert_eq!(read(&mut consumer, 3).await.len(), 3);
    let error = consumer.commit_sync().await.unwrap_err();
    assert_eq!(error.reason(), ErrorCode::InvalidGroupId, "{error}");
    let request = CommitOffsetsRequest::default();
    let error = refused(GroupServiceClient::new(server.channel()).commit_offsets(request)).await;
    assert_eq!(error.code, ErrorCode::InvalidGroupId);
}

//! How many writes it takes to remember what many members have read.

use crate::fixture::{Fixture, options};
use prost::Message;
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, GroupRecordKey, TopicPartition, group_record_key, record_batch,
};
use troupe_proto::v1::SettleOutcome;

const MEMBERS: usize = 100;
const ROUNDS: usize = 3;

/// Of the log of groups: batches that hold commits, and commits.
async fn commits(node: &Fixture) -> (usize, usize) {
    let partition =
        TopicPartition { topic: "__consumer_offsets".into(), partition: 0, ..Default::default() };
    let (mut offset, mut batches, mut records) = (0, 0, 0);
    loop {
        let position =
            FetchPosition { partition: Some(partition.clone()), offset, ..Default::default() };
        let request = FetchRequest { positions: vec![position], ..Default::default() };
        let mut client = LogServiceClient::new(node.channel.clone());
        let answer = client.fetch(request).await.unwrap().into_inner();
        let fetched = answer.partitions.into_iter().next().unwrap().batches.unwrap_or_default();
        let Some(last) = fetched.batches.last() else { return (batches, records) };
        offset = last.base_offset as i64 + i64::from(last.last_offset_delta) + 1;
        for batch in &fetched.batches {
            let Some(record_batch::Payload::Records(set)) = &batch.payload else {
                panic!("groups are not compressed")
            };
            let is_commit = |key: &[u8]| {
                let key = GroupRecordKey::decode(key).unwrap().of;
                matches!(key, Some(group_record_key::Of::Offset(_)))
            };
            let found = set.records.iter().filter(|record| is_commit(record.key.as_ref().unwrap()));
            let found = found.count();
            records += found;
            batches += usize::from(found > 0);
        }
    }
}

/// Whether somebody waits for their commits or not.
async fn read_slowly(confirm: bool) -> (usize, usize) {
    let node = Fixture::start_with(|config| config.offsets_topic_partitions = 1).await;
    node.create("t", 1).await;
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        let mut asked = options("t", &format!("g{number}"));
        asked.confirm_settlements = confirm;
        members.push(node.subscribe(asked).await);
    }
    for member in &mut members {
        member.until_assigned(1).await;
    }
    for round in 0..ROUNDS {
        node.publish("t", 0, round..round + 1).await;
        for member in &mut members {
            let delivery = member.next().await;
            member.ack(&[delivery]).await;
        }
        for (number, member) in members.iter_mut().enumerate() {
            if confirm {
                assert_eq!(member.outcomes(1).await, [SettleOutcome::Accepted]);
            }
            node.until_committed(&format!("g{number}"), &[(0, round as i64 + 1)]).await;
        }
    }
    commits(&node).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_members_commit_is_written_together() {
    let (batches, records) = read_slowly(false).await;
    assert!(records >= MEMBERS * ROUNDS, "{records}");
    assert!(batches * 10 <= records, "{batches} batches for {records} commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_members_wait_for_is_written_together_too() {
    let (batches, records) = read_slowly(true).await;
    assert!(records >= MEMBERS * ROUNDS, "{records}");
    assert!(batches * 2 <= records, "{batches} batches for {records} commits");
}

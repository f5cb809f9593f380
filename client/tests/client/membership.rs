//! The consumer as a member of a group.

use crate::consumer::{LONG, config, p, take};
use crate::fake::Cluster;
use crate::fake_group::refusal;
use crate::reader::{fill, numbers};
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Status;
use troupe_client::{
    Client, Consumer, ConsumerConfig, Rebalance, RebalanceListener, TopicPartition,
};
use troupe_proto::batch::Compression;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::Offset;

/// The group's coordinator gives the newcomer these.
async fn member(given: &[i32], config: ConsumerConfig) -> (Cluster, Client, Consumer) {
    let (cluster, client) = Cluster::with_topic(2).await;
    fill(&client, 2, 20, 5, Compression::None).await;
    cluster.group.state().newcomers.push_back(given.to_vec());
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe(["t"]).unwrap();
    (cluster, client, consumer)
}

/// Writes down what it is told, and commits what is given up if it should.
#[derive(Clone, Default)]
struct Notes {
    told: Arc<Mutex<Vec<String>>>,
    commits: bool,
}

impl Notes {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        let numbers: Vec<_> = partitions.iter().map(|at| at.partition.0).collect();
        self.told.lock().unwrap().push(format!("{what} {numbers:?}"));
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl RebalanceListener for Notes {
    fn on_partitions_revoked<'a>(
        &'a mut self,
        mut consumer: Rebalance<'a>,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, ()> {
        self.note("revoked", partitions);
        Box::pin(async move {
            if self.commits {
                consumer.commit_sync().await.unwrap();
            }
        })
    }

    fn on_partitions_assigned<'a>(
        &'a mut self,
        _: Rebalance<'a>,
        partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, ()> {
        self.note("assigned", partitions);
        Box::pin(std::future::ready(()))
    }

    fn on_partitions_lost<'a>(&'a mut self, partitions: &'a [TopicPartition]) -> BoxFuture<'a, ()> {
        self.note("lost", partitions);
        Box::pin(std::future::ready(()))
    }
}

/// C6, C14, C21.
#[tokio::test]
async fn a_member_reads_commits_leaves_and_its_successor_goes_on() {
    let (cluster, client, mut consumer) = member(&[0, 1], config()).await;
    let records = take(&mut consumer, 40).await;
    assert_eq!(numbers(&records, 1), (0..20).collect::<Vec<_>>());
    assert_eq!(consumer.assignment(), [p(0), p(1)]);
    assert_eq!(consumer.member_id().as_deref(), Some("m1"));
    consumer.close(LONG).await.unwrap();
    let said = cluster.group.state().said.clone();
    assert_eq!(said, ["join m1", "applied 1", "commit m1 0@20", "commit m1 1@20", "leave m1"]);
    fill(&client, 2, 1, 1, Compression::None).await;
    cluster.group.state().newcomers.push_back(vec![0]);
    let mut successor = client.consumer(config()).unwrap();
    successor.subscribe(["t"]).unwrap();
    assert_eq!(successor.next().await.unwrap().offset, Offset(20));
}

/// C14, C20, G17: what was returned is committed before the partition is given up, what was not is never
/// returned, and what stays goes on.
#[tokio::test]
async fn a_partition_is_committed_before_it_is_given_up() {
    let config = ConsumerConfig { max_poll_records: 3, ..config() };
    let (cluster, client, mut consumer) = member(&[0, 1], config).await;
    let notes = Notes::default();
    consumer.set_rebalance_listener(notes.clone());
    let mut records = take(&mut consumer, 1).await;
    let leaves = records[0].partition.0;
    let stays = 1 - leaves;
    let before = records.len();
    cluster.group.assign("m1", &[stays as i32]);
    // The coordinator says it by itself: nothing is handed out in its place until then.
    while consumer.assignment().len() == 2 {
        records.extend(consumer.poll(Duration::from_millis(1)).await.unwrap());
    }
    cluster.group.until_said("applied 2").await;
    let returned = numbers(&records, leaves).len();
    assert!(returned >= before);
    let committed = format!("commit m1 {leaves}@{returned}");
    let said = cluster.group.state().said.clone();
    assert_eq!(said, ["join m1", "applied 1", &*committed, "applied 2"]);
    while numbers(&records, stays).len() < 20 {
        records.extend(consumer.poll(LONG).await.unwrap());
    }
    assert_eq!(numbers(&records, leaves).len(), returned, "it was given up");
    assert_eq!(numbers(&records, stays), (0..20).collect::<Vec<_>>());
    assert_eq!(notes.told(), ["assigned [0, 1]", &*format!("revoked [{leaves}]")]);
    cluster.group.assign("m1", &[0, 1]);
    // However far it came before: there is more.
    fill(&client, 2, 1, 1, Compression::None).await;
    let next = loop {
        let record = consumer.next().await.unwrap();
        if record.partition.0 == leaves {
            break record.offset;
        }
    };
    assert_eq!(next, Offset(returned as u64));
}

/// C20: commits are possible in the listener.
#[tokio::test]
async fn a_listener_commits_before_partitions_are_given_up() {
    let config = ConsumerConfig { enable_auto_commit: false, ..config() };
    let (cluster, _client, mut consumer) = member(&[0], config).await;
    consumer.set_rebalance_listener(Notes { commits: true, ..Notes::default() });
    take(&mut consumer, 20).await;
    cluster.group.assign("m1", &[]);
    while !consumer.assignment().is_empty() {
        assert!(consumer.poll(Duration::from_millis(1)).await.unwrap().is_empty());
    }
    cluster.group.until_said("applied 2").await;
    let said = cluster.group.state().said.clone();
    assert_eq!(said, ["join m1", "applied 1", "commit m1 0@20", "applied 2"]);
}

/// A member whose stream breaks keeps its place: it says who it is and what it has, and nobody notices.
#[tokio::test]
async fn a_broken_stream_is_resumed() {
    let (cluster, _client, mut consumer) = member(&[0, 1], config()).await;
    let notes = Notes::default();
    consumer.set_rebalance_listener(notes.clone());
    take(&mut consumer, 40).await;
    cluster.group.until_said("applied 1").await;
    cluster.group.end("m1", Status::unavailable("as the test wants"));
    cluster.group.until_said("resume m1 epoch=1 owned=[0, 1]").await;
    cluster.group.end("m1", refusal(ErrorCode::NotCoordinator));
    assert!(consumer.poll(Duration::from_millis(100)).await.unwrap().is_empty());
    cluster
        .group
        .until(|groups| groups.said.iter().filter(|s| s.starts_with("resume")).count() == 2)
        .await;
    assert_eq!(notes.told(), ["assigned [0, 1]"]);
    consumer.commit_sync().await.unwrap();
}

/// C18, C20.
#[tokio::test]
async fn who_is_expelled_loses_everything_and_joins_anew() {
    let (cluster, _client, mut consumer) = member(&[0], config()).await;
    let notes = Notes::default();
    consumer.set_rebalance_listener(notes.clone());
    take(&mut consumer, 20).await;
    cluster.group.state().newcomers.push_back(vec![1]);
    cluster.group.end("m1", refusal(ErrorCode::UnknownMember));
    let records = take(&mut consumer, 20).await;
    assert_eq!(numbers(&records, 1), (0..20).collect::<Vec<_>>());
    assert_eq!(notes.told(), ["assigned [0]", "lost [0]", "assigned [1]"]);
    assert!(cluster.group.state().committed.is_empty(), "nobody may commit what is lost");
    assert_eq!(consumer.metrics().losses, 1);
}

/// G13.
#[tokio::test]
async fn a_static_member_that_is_replaced_fails_for_good_and_one_that_closes_does_not_leave() {
    let config = ConsumerConfig { group_instance_id: Some("i".to_owned()), ..config() };
    let (cluster, client, mut consumer) = member(&[0], config.clone()).await;
    take(&mut consumer, 20).await;
    cluster.group.end("m1", refusal(ErrorCode::FencedInstanceId));
    for _ in 0..2 {
        let error = loop {
            if let Err(error) = consumer.poll(LONG).await {
                break error;
            }
        };
        assert_eq!(error.reason(), ErrorCode::FencedInstanceId);
    }
    cluster.group.state().newcomers.push_back(vec![0]);
    let mut other = client.consumer(config).unwrap();
    other.subscribe(["t"]).unwrap();
    take(&mut other, 20).await;
    other.close(LONG).await.unwrap();
    cluster.group.until_said("gone m2").await;
    assert!(!cluster.group.state().said.iter().any(|said| said.starts_with("leave")));
}

/// C6.
#[tokio::test]
async fn who_asks_for_nothing_leaves_and_joins_again_when_it_does() {
    let config = ConsumerConfig { max_poll_interval: Duration::from_millis(200), ..config() };
    let (cluster, _client, mut consumer) = member(&[0], config).await;
    take(&mut consumer, 20).await;
    cluster.group.until_said("leave m1").await;
    cluster.group.state().newcomers.push_back(vec![0]);
    let records = take(&mut consumer, 20).await;
    assert_eq!(numbers(&records, 0).len(), 20, "nothing was committed");
    assert!(cluster.group.state().said.contains(&"join m2".to_owned()));
}

/// Another process can have its partitions at once.
#[tokio::test]
async fn a_consumer_that_is_dropped_leaves() {
    let (cluster, _client, mut consumer) = member(&[0], config()).await;
    take(&mut consumer, 1).await;
    drop(consumer);
    cluster.group.until_said("leave m1").await;
}

/// C15: an earlier commit that nobody answers does not keep a later one for longer than it may take; C21: nor
/// the end of the consumer.
#[tokio::test]
async fn no_commit_takes_longer_than_it_may() {
    let config = ConsumerConfig { default_api_timeout: Duration::from_millis(300), ..config() };
    let (cluster, _client, mut consumer) = member(&[0], config).await;
    take(&mut consumer, 20).await;
    cluster.group.set_silent(true);
    consumer.commit_async(|_| ()).unwrap();
    let committed = tokio::time::timeout(LONG, consumer.commit_sync()).await;
    assert_eq!(committed.unwrap().unwrap_err().reason(), ErrorCode::RequestTimedOut);
    let closed = tokio::time::timeout(LONG, consumer.close(Duration::from_millis(300))).await;
    assert!(closed.unwrap().is_err());
    cluster.group.until_said("leave m1").await;
}

/// C7: where the group was when a partition was here before says nothing about where it is now.
#[tokio::test]
async fn a_partition_that_comes_back_begins_where_the_group_is_then() {
    let (cluster, _client, mut consumer) = member(&[0], config()).await;
    cluster.group.state().committed.insert(0, 5);
    cluster.group.set_silent(true);
    while consumer.assignment().is_empty() {
        consumer.poll(Duration::from_millis(10)).await.unwrap();
    }
    // The question is under way; long enough to have been asked.
    consumer.poll(Duration::from_millis(300)).await.unwrap();
    cluster.group.assign("m1", &[]);
    while !consumer.assignment().is_empty() {
        consumer.poll(Duration::from_millis(10)).await.unwrap();
    }
    cluster.group.state().committed.insert(0, 15);
    cluster.group.assign("m1", &[0]);
    while consumer.assignment().is_empty() {
        consumer.poll(Duration::from_millis(10)).await.unwrap();
    }
    cluster.group.set_silent(false);
    assert_eq!(consumer.next().await.unwrap().offset, Offset(15));
}

/// C20: also who closes is told what is lost, and commits nothing for it.
#[tokio::test]
async fn who_was_expelled_meanwhile_closes_without_a_commit() {
    let (cluster, _client, mut consumer) = member(&[0], config()).await;
    let notes = Notes::default();
    consumer.set_rebalance_listener(notes.clone());
    take(&mut consumer, 20).await;
    cluster.group.end("m1", refusal(ErrorCode::UnknownMember));
    while consumer.member_id().is_some() {
        tokio::task::yield_now().await;
    }
    consumer.unsubscribe().await.unwrap();
    assert_eq!(notes.told(), ["assigned [0]", "lost [0]"]);
    assert!(cluster.group.state().committed.is_empty());
}

/// Whoever drops the call has left all the same: what it held may be another's.
#[tokio::test]
async fn an_unsubscription_that_is_dropped_holds_nothing() {
    let (cluster, _client, mut consumer) = member(&[0], config()).await;
    take(&mut consumer, 20).await;
    cluster.group.until_said("applied 1").await;
    cluster.group.state().deaf = true;
    let dropped = tokio::time::timeout(Duration::from_millis(300), consumer.unsubscribe()).await;
    assert!(dropped.is_err(), "nobody heard it");
    assert!(consumer.assignment().is_empty());
    assert_eq!(consumer.member_id(), None);
}

/// A node that lags behind for long does not end the reading of what the group gives.
#[tokio::test]
async fn what_the_group_gives_is_read_however_late_its_leader_knows_it() {
    let (cluster, _client, mut consumer) = member(&[0], config()).await;
    cluster.state().lagging = usize::MAX;
    while consumer.assignment().is_empty() {
        consumer.poll(Duration::from_millis(10)).await.unwrap();
    }
    // Longer than a topic may be unknown.
    assert!(consumer.poll(Duration::from_secs(8)).await.unwrap().is_empty());
    cluster.state().lagging = 0;
    let records = tokio::time::timeout(LONG, take(&mut consumer, 20)).await.unwrap();
    assert_eq!(numbers(&records, 0), (0..20).collect::<Vec<_>>());
}

//! Where reading goes on, and so what to commit: behind what is for nobody.

use crate::consumer::{LONG, p, take};
use crate::fake::Cluster;
use crate::producer::record;
use crate::transactions::{committed_reader, transactional};
use std::time::Duration;
use tokio::time::timeout;
use troupe_client::{Client, Consumer, ConsumerConfig};
use troupe_proto::ids::Offset;

/// Two records and a marker.
async fn transaction(client: &Client) {
    let producer = transactional(client).await;
    producer.begin_transaction().await.unwrap();
    for n in 0..2 {
        producer.send(record(n)).await.unwrap().await.unwrap();
    }
    producer.commit_transaction().await.unwrap();
}

fn reads(client: &Client, config: ConsumerConfig) -> Consumer {
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign([p(0)]).unwrap();
    consumer
}

/// KIP-1094: also if the poll ends with the last record that it may return.
#[tokio::test]
async fn what_a_poll_says_to_commit_is_behind_the_marker_of_its_last_record() {
    for max_poll_records in [500, 2, 1] {
        let (_cluster, client) = Cluster::with_topic(1).await;
        transaction(&client).await;
        let config = ConsumerConfig { max_poll_records, ..committed_reader() };
        let mut consumer = reads(&client, config);
        let mut last = consumer.poll(LONG).await.unwrap();
        let (mut read, mut next) = (last.len(), last.next_offsets().clone());
        while read < 2 {
            assert_eq!(next[&p(0)].offset, Offset(read as u64), "{max_poll_records}");
            last = consumer.poll(LONG).await.unwrap();
            read += last.len();
            next = last.next_offsets().clone();
        }
        assert_eq!(next[&p(0)].offset, Offset(3), "{max_poll_records}");
        assert!(next[&p(0)].leader_epoch.is_some());
        let nothing = consumer.poll(Duration::from_millis(20)).await.unwrap();
        assert!(nothing.is_empty() && nothing.next_offsets().is_empty(), "it has not moved");
        consumer.commit_sync_offsets(next).await.unwrap();
        assert_eq!(consumer.committed(&[p(0)]).await.unwrap()[&p(0)].offset, Offset(3));
    }
}

/// C8: whatever was passed over before.
#[tokio::test]
async fn who_goes_back_is_there_though_a_marker_was_passed_over() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    transaction(&client).await;
    let mut consumer = reads(&client, committed_reader());
    for _ in 0..2 {
        consumer.next().await.unwrap();
    }
    // It comes to the marker, and waits.
    assert!(timeout(Duration::from_millis(100), consumer.next()).await.is_err());
    consumer.seek(&p(0), Offset(0)).unwrap();
    assert_eq!(consumer.position(&p(0)).await.unwrap(), Offset(0));
    consumer.commit_sync().await.unwrap();
    assert_eq!(consumer.committed(&[p(0)]).await.unwrap()[&p(0)].offset, Offset(0));
    assert_eq!(take(&mut consumer, 2).await[0].offset, Offset(0));
}

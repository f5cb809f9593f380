//! An unclean election under those who read.

use crate::{partition_where, topic_on};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, LossCause, PositionLost,
};
use troupe_proto::ids::Offset;
use troupe_proto::v1::Acks;
use troupe_tests::{Cluster, PATIENCE, Sample, batch_of, eventually_or_why};

const TOPIC: &str = "cut";

/// So many records, through whoever leads.
async fn fill(cluster: &Cluster, leader: i32, records: usize) {
    let server = cluster.server(leader).await;
    for n in 0..records {
        // It may hear late that it leads.
        eventually_or_why("the leader takes a record", async || {
            let batch = batch_of(&[Sample::of(format!("{n}"), 1)]);
            let result = server.produce(TOPIC, 0, batch, Acks::All).await;
            result.error.map_or(Ok(()), |error| Err(format!("{error:?}")))
        })
        .await;
    }
}

async fn read(consumer: &mut Consumer, records: usize) -> Vec<u64> {
    let (began, mut offsets) = (Instant::now(), Vec::new());
    while offsets.len() < records {
        assert!(began.elapsed() < PATIENCE, "{} of {records}", offsets.len());
        let polled = consumer.poll(Duration::from_millis(100)).await.unwrap();
        offsets.extend(polled.into_iter().map(|record| record.offset.0));
    }
    offsets
}

/// C13, of a consumer that reads at that moment: its position lies behind records that are not there any more.
#[tokio::test]
async fn a_consumer_goes_on_where_an_unclean_election_has_cut_the_log_and_is_told() {
    let configs = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[2, 3], &configs).await;
    cluster.healed().await;
    fill(&cluster, 2, 50).await;
    cluster.kill(3);
    partition_where(&cluster, TOPIC, |one| one.in_sync_replicas == [2]).await;
    fill(&cluster, 2, 50).await;
    let client = Client::connect(ClientConfig::new([cluster.address(1)])).await.unwrap();
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::new("cut")
    };
    let mut consumer = client.consumer(config).unwrap();
    let lost: Arc<Mutex<Vec<PositionLost>>> = Arc::default();
    let told = Arc::clone(&lost);
    consumer.set_position_lost_listener(move |lost| told.lock().unwrap().push(lost.clone()));
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(read(&mut consumer, 100).await, (0..100).collect::<Vec<_>>());

    // Who comes back knows half of it, and leads: by the next poll there is something else at the position.
    cluster.kill(2);
    cluster.restart(&[3]).await;
    partition_where(&cluster, TOPIC, |one| one.leader_id == Some(3)).await;
    fill(&cluster, 3, 150).await;
    assert_eq!(read(&mut consumer, 150).await, (50..200).collect::<Vec<_>>());
    let lost = lost.lock().unwrap();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!((lost[0].position, lost[0].log_end), (Offset(100), Offset(50)));
    assert_eq!(lost[0].cause, LossCause::Cut);
}

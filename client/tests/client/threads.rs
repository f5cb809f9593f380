//! What the client has goes to any thread, and is looked at from several: an application may do all of it in tasks.

use crate::consumer::{config, p, take};
use crate::fake::Cluster;
use crate::producer::record;
use std::sync::Arc;
use troupe_client::formats::Text;
use troupe_client::{
    Admin, Client, Consumer, ConsumerConfig, ConsumerRecord, ConsumerRecords, Delivery,
    IsolationLevel, OffsetAndMetadata, Producer, ProducerConfig, ProducerRecord, Reader,
    TopicProducer, Transaction, TransactionError, TypedConsumer, WakeupHandle,
};

fn is_shared<T: Send + Sync>() {}

#[test]
fn everything_that_an_application_holds_may_be_shared_by_threads() {
    is_shared::<Client>();
    is_shared::<Admin>();
    is_shared::<Producer>();
    is_shared::<TopicProducer>();
    is_shared::<Delivery>();
    is_shared::<Transaction<'_>>();
    is_shared::<TransactionError>();
    is_shared::<Consumer>();
    is_shared::<TypedConsumer<String, String>>();
    is_shared::<ConsumerRecords>();
    is_shared::<WakeupHandle>();
    is_shared::<Reader>();
}

/// As in the example: everything borrowed, and held over each wait.
async fn transform(
    producer: &Producer,
    consumer: &Consumer,
    records: &[ConsumerRecord],
) -> Result<(), TransactionError> {
    let transaction = producer.transaction().await?;
    for record in records {
        let value = record.value.clone().unwrap();
        drop(transaction.send(ProducerRecord::new("t").value(value).partition(1)).await?);
    }
    let next = OffsetAndMetadata::new(records.last().unwrap().offset.plus(1));
    let group = consumer.group_metadata().map_err(TransactionError::Abortable)?;
    transaction.send_offsets([(p(0), next)], &group).await?;
    transaction.commit().await
}

/// X17.
#[tokio::test(flavor = "multi_thread")]
async fn consume_transform_produce_runs_in_a_task() {
    let (cluster, client) = Cluster::with_topic(2).await;
    let input = client.producer(ProducerConfig::default()).await.unwrap();
    for n in 0..3 {
        input.send(record(n)).await.unwrap().await.unwrap();
    }
    cluster.group.state().newcomers.push_back(vec![0]);
    let client = Arc::new(client);
    let task = tokio::spawn(async move {
        let mut consumer = client
            .consumer(ConsumerConfig {
                isolation_level: IsolationLevel::ReadCommitted,
                enable_auto_commit: false,
                ..config()
            })
            .unwrap();
        consumer.subscribe(["t"]).unwrap();
        let transactional_id = Some("id".to_owned());
        let config = ProducerConfig { transactional_id, ..ProducerConfig::default() };
        let producer = client.producer(config).await.unwrap();
        let records = take(&mut consumer, 3).await;
        transform(&producer, &consumer, &records).await.unwrap();
        // The same typed.
        let mut typed = consumer.typed(Text, Text);
        assert_eq!(typed.consumer().position(&p(0)).await.unwrap(), records[2].offset.plus(1));
    });
    task.await.unwrap();
    assert_eq!(cluster.group.state().committed[&0], 3);
}

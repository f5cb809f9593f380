//! Consume, transform, produce, exactly once: each record of a topic in capital letters to another, with the offsets of what
//! was read in the same transaction. Start it several times with the same group, and kill it as you like. ID is its
//! transactional id, RECORDS the most records of a transaction.
//!
//!     cargo run --release -p troupe-client --example exactly_once -- SERVER FROM TO GROUP [ID [RECORDS]]

use std::time::Duration;
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, ClientError, Consumer, ConsumerConfig, ConsumerRecords,
    IsolationLevel, Producer, ProducerConfig, ProducerRecord, TransactionError,
};

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, from, to, group, more @ ..] = arguments.as_slice() else {
        eprintln!("usage: exactly_once SERVER FROM TO GROUP [ID [RECORDS]]");
        std::process::exit(2);
    };
    // What one that was killed has left open is aborted by its time-out; one that comes back under its old name has it
    // aborted at once.
    let id = more.first().cloned().unwrap_or_else(|| format!("{group}-{}", std::process::id()));
    let records = more.get(1).and_then(|records| records.parse().ok()).unwrap_or(500);
    let client = Client::connect(ClientConfig::new(server.split(','))).await?;
    let mut consumer = client.consumer(ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        isolation_level: IsolationLevel::ReadCommitted,
        // The transactions do it.
        enable_auto_commit: false,
        max_poll_records: records,
        ..ConsumerConfig::new(group)
    })?;
    consumer.subscribe([from])?;
    let config = ProducerConfig {
        transactional_id: Some(id),
        transaction_timeout: Duration::from_secs(10),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).await?;
    loop {
        let records = consumer.poll(Duration::from_secs(1)).await?;
        if records.is_empty() {
            continue;
        }
        match transform(&producer, &consumer, &records, to).await {
            Ok(()) => println!("{} records", records.len()),
            // It is aborted: what was read is read again.
            Err(TransactionError::Abortable(error) | TransactionError::Retriable(error)) => {
                eprintln!("{error}; does it again");
                consumer.seek_to_committed(&[]).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Dropped before it is committed, the transaction is aborted.
async fn transform(
    producer: &Producer,
    consumer: &Consumer,
    records: &ConsumerRecords,
    to: &str,
) -> Result<(), TransactionError> {
    let transaction = producer.transaction().await?;
    for record in records {
        let image = ProducerRecord {
            key: record.key.clone(),
            value: record.value.as_deref().map(|value| value.to_ascii_uppercase().into()),
            ..ProducerRecord::new(to)
        };
        drop(transaction.send(image).await?);
    }
    let group = consumer.group_metadata().map_err(TransactionError::Abortable)?;
    transaction.send_offsets(records.next_offsets().clone(), &group).await?;
    let mut committed = transaction.commit().await;
    // It may be committed already: the same is asked until it is known.
    while let Err(TransactionError::Retriable(_)) = committed {
        committed = producer.commit_transaction().await;
    }
    committed
}

//! Sends ten records to a topic and reads them again. Needs `troupe dev`, and `troupe topic create hello`.
//!
//!     cargo run --release -p troupe-client --example quickstart -- [SERVER]

use futures::StreamExt;
use troupe_client::{
    Client, ClientConfig, ClientError, ProducerConfig, ProducerRecord, ReaderConfig,
};

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let config = match std::env::args().nth(1) {
        Some(servers) => ClientConfig::new(servers.split(',')),
        None => ClientConfig::default(),
    };
    let client = Client::connect(config).await?;

    let producer = client.producer(ProducerConfig::default()).await?;
    let mut deliveries = Vec::new();
    for n in 0..10 {
        let record =
            ProducerRecord::new("hello").key(format!("key-{n}")).value(format!("value {n}"));
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        let placed = delivery.await?;
        println!("partition {} offset {:?}", placed.partition, placed.offset);
    }

    let config = ReaderConfig { until_end: true, ..ReaderConfig::default() };
    let mut records = client.reader("hello", config).await?.records();
    while let Some(record) = records.next().await {
        let record = record?;
        println!("{} {:?}", record.offset, record.value);
    }
    Ok(())
}

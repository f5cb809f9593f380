//! Makes a topic, sends orders to it as JSON with an interceptor that signs each, and reads them as a member of a group.
//!
//!     cargo run --release -p troupe-client --example orders -- SERVER TOPIC

use std::sync::Arc;
use std::time::Duration;
use troupe_client::formats::{Int64, Json, Required};
use troupe_client::proto::admin::v1::CreateTopicRequest;
use troupe_client::proto::batch::Compression;
use troupe_client::proto::error::ErrorCode;
use troupe_client::{
    Acknowledgement, AutoOffsetReset, Client, ClientConfig, ClientError, ConsumerConfig,
    ProducerConfig, ProducerInterceptor, ProducerRecord, TypedProducerRecord,
};

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Order {
    article: String,
    pieces: u32,
}

#[derive(Debug)]
struct Signs;

impl ProducerInterceptor for Signs {
    fn on_send(&self, record: &mut ProducerRecord) {
        record.headers.push(("sent-by".to_owned(), Some("orders".into())));
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        if let Err(error) = acknowledgement.result {
            eprintln!("a record for {} is not there: {error}", acknowledgement.topic);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(topic)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: orders SERVER TOPIC");
        std::process::exit(2);
    };
    let client = Client::connect(ClientConfig::new(server.split(','))).await?;
    let create =
        CreateTopicRequest { name: topic.clone(), partitions: Some(3), ..Default::default() };
    match client.admin().create_topic(create).await {
        Err(error) if error.reason() == ErrorCode::TopicExists => {}
        created => drop(created?),
    }

    let producer = client
        .producer(ProducerConfig {
            compression: Compression::Zstd,
            compression_level: Some(3),
            interceptors: vec![Arc::new(Signs)],
            ..ProducerConfig::default()
        })
        .await?;
    let orders = producer.typed(Int64, Json::new());
    for (customer, article, pieces) in [(7, "chair", 3), (8, "table", 1), (7, "lamp", 2)] {
        let order = Order { article: article.to_owned(), pieces };
        drop(orders.send(TypedProducerRecord::new(&topic).key(customer).value(order)).await?);
    }
    producer.close(Duration::from_secs(10)).await?;

    let consumer = client.consumer(ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::new(format!("{topic}-readers"))
    })?;
    // An order without a customer, or without anything in it, is an error here.
    let (customer, order) = (Required(Int64), Required(Json::<Order>::new()));
    let mut consumer = consumer.typed::<i64, Order>(customer, order);
    consumer.consumer().subscribe([topic])?;
    let mut read = 0;
    while read < 3 {
        for record in consumer.poll(Duration::from_secs(1)).await? {
            let Order { article, pieces } = &record.value;
            println!("customer {}: {pieces} {article} {:?}", record.key, record.headers);
            read += 1;
        }
    }
    consumer.into_inner().close(Duration::from_secs(10)).await
}

//! A member of a group: prints what it reads, and commits what it has printed.
//!
//!     cargo run --release -p troupe-client --example group -- SERVER TOPIC GROUP

use std::time::Duration;
use troupe_client::{AutoOffsetReset, Client, ClientConfig, ClientError, ConsumerConfig};

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(topic), Some(group)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: group SERVER TOPIC GROUP");
        std::process::exit(2);
    };
    let client = Client::connect(ClientConfig::new(server.split(','))).await?;
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        enable_auto_commit: false,
        ..ConsumerConfig::new(group)
    };
    let mut consumer = client.consumer(config)?;
    consumer.subscribe([topic])?;
    loop {
        let records = consumer.poll(Duration::from_secs(1)).await?;
        for record in records.iter() {
            println!("{}", String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()));
        }
        if !records.is_empty() {
            consumer.commit_sync().await?;
        }
    }
}

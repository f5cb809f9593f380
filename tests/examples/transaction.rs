//! The example of `docs/transactions.md`, against the node at `TROUPE_SERVER`. A test runs it.

use std::error::Error;
use troupe_client::{Client, ClientConfig, ProducerConfig, ProducerRecord};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("TROUPE_SERVER").unwrap_or_else(|_| "127.0.0.1:7070".to_owned());
    let client = Client::connect(ClientConfig::new(server.split(','))).await?;
    let config = ProducerConfig {
        transactional_id: Some("billing".to_owned()),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).await?;
    let transaction = producer.transaction().await?;
    drop(transaction.send(ProducerRecord::new("invoices").value("4711")).await?);
    drop(transaction.send(ProducerRecord::new("stock").value("-1")).await?);
    transaction.commit().await?;

    let mut row = Vec::new();
    for invoice in 4712..4800 {
        let transaction = producer.transaction().await?;
        drop(transaction.send(ProducerRecord::new("invoices").value(invoice.to_string())).await?);
        drop(transaction.send(ProducerRecord::new("stock").value("-1")).await?);
        row.push(transaction.start_commit().await?);
    }
    for committing in row {
        committing.await?;
    }
    Ok(())
}

//! Troupe in the process of your test: three nodes, faults as calls, and a verdict.
//!
//! Your service is started as ever, with the servers of [`Cluster::servers`]. A [`Load`] sends what it shall work on, and
//! knows afterwards what was acknowledged; what your service made of it is looked for by [`Outcome::assert_all_in`].
//!
//! ```
//! use troupe_client::{AutoOffsetReset, Client, ClientConfig, ClientError, ConsumerConfig, ProducerConfig, ProducerRecord};
//! use troupe_testkit::{Cluster, LoadConfig};
//! use std::time::Duration;
//!
//! /// The service: an invoice for each order, and an order is done when its invoice is acknowledged.
//! async fn bill(servers: Vec<String>) -> Result<(), ClientError> {
//!     let client = Client::connect(ClientConfig::new(servers)).await?;
//!     let producer = client.producer(ProducerConfig::default()).await?;
//!     let mut orders = client.consumer(ConsumerConfig {
//!         auto_offset_reset: AutoOffsetReset::Earliest,
//!         enable_auto_commit: false,
//!         ..ConsumerConfig::new("billing")
//!     })?;
//!     orders.subscribe(["orders"])?;
//!     loop {
//!         for order in orders.poll(Duration::from_secs(1)).await? {
//!             let invoice = ProducerRecord { key: order.key, ..ProducerRecord::new("invoices") };
//!             producer.send(invoice.value("to pay")).await?.await?;
//!         }
//!         orders.commit_sync().await?;
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().expect("threads can be started").block_on(async {
//! let mut cluster = Cluster::start().await;
//! cluster.create_topic("orders", 3).await;
//! cluster.create_topic("invoices", 3).await;
//! let service = tokio::spawn(bill(cluster.servers()));
//!
//! let load = cluster.load(LoadConfig { topic: Some("orders".to_owned()), ..LoadConfig::default() }).await;
//! cluster.kill_leader("orders", 0).await;
//! let node = cluster.leader_of("orders", 1).await;
//! cluster.kill_node(node).await;
//! cluster.start_node(node).await;
//! cluster.healed().await;
//!
//! let outcome = load.end().await;
//! outcome.assert_nothing_lost();
//! outcome.assert_gaps_below(Duration::from_secs(30));
//! outcome.assert_all_in(&cluster, "invoices", Duration::from_secs(60)).await;
//! service.abort();
//! # });
//! ```
//!
//! Promise: all of it, nodes and what they wrote, goes when the [`Cluster`] is dropped. It is a test's kit: what does not
//! work panics, and says what it was.

mod cluster;
mod load;
mod ports;

pub use cluster::Cluster;
pub use load::{Load, Outcome};
pub use ports::free_ports;
pub use troupe_chaos::LoadConfig;
pub use troupe_chaos::report::Report;

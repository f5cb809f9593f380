//! One record at a time, to topics that differ in nothing but the number of replicas, and between them a call
//! that does nothing: what the answers to records take longer is what their replicas cost.

use super::cluster::{Cluster, LEADER};
use super::sent::RECORD_BYTES;
use crate::commands::bench::payload::Payload;
use crate::commands::bench::workload::FlushPolicy;
use crate::failure::{Context, Failure};
use crate::latency::Latencies;
use crate::producer::send;
use std::time::{Duration, Instant};
use tokio::time::sleep_until;
use troupe_client::{ProducerConfig, Record};

/// Nodes of the one partition of each topic.
const REPLICAS: [&[i32]; 3] = [&[1], &[1, 2], &[1, 2, 3]];
/// Of every kind, before it counts.
const WARM_UP: u64 = 50;
/// Everything is answered before the producer is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// One round.
#[derive(Default)]
pub struct Answers {
    /// Of a unary call that the leader's node answers from memory.
    pub call: Latencies,
    /// Of records, by the number of replicas - 1.
    pub produce: [Latencies; REPLICAS.len()],
}

/// acks=all and idempotent, as by default; a record goes when it comes.
pub fn producer() -> ProducerConfig {
    ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() }
}

/// Calls in turn, to a schedule; the next one never before the answer to the one before.
pub async fn measure(
    cluster: &Cluster,
    policy: FlushPolicy,
    calls: u64,
    rate: u64,
) -> Result<Answers, Failure> {
    let what = || "cannot measure latencies".to_owned();
    let admin = cluster.admin(LEADER).await.with_context(what)?;
    let producer = cluster.client().producer(producer()).await.with_context(what)?;
    let (mut topics, mut handles) = (Vec::new(), Vec::new());
    for nodes in REPLICAS {
        let topic = cluster.make_topic(&[nodes.to_vec()], policy).await?;
        handles.push(producer.topic(&topic).await.with_context(what)?);
        topics.push(topic);
    }
    let payload = Payload::new(usize::try_from(RECORD_BYTES).map_err(Failure::usage)?, 1);
    let mut answers = Answers::default();
    let mut pace = Pace::new(rate);
    for number in 0..WARM_UP + calls {
        let counts = number >= WARM_UP;
        pace.next().await;
        let asked = Instant::now();
        admin.list_replicas(Some(&topics[0])).await.with_context(what)?;
        if counts {
            answers.call.record(asked.elapsed());
        }
        for (handle, latencies) in handles.iter().zip(&mut answers.produce) {
            pace.next().await;
            let sent = Instant::now();
            let record = Record::value(payload.value(number));
            send(handle, record).await.with_context(what)?.await.with_context(what)?;
            if counts {
                latencies.record(sent.elapsed());
            }
        }
    }
    producer.close(CLOSE_TIMEOUT).await.with_context(what)?;
    for topic in topics {
        cluster.delete_topic(&topic).await?;
    }
    Ok(answers)
}

/// A schedule without a debt: after a slow answer the next call does not come sooner.
struct Pace {
    period: Duration,
    due: tokio::time::Instant,
}

impl Pace {
    fn new(rate: u64) -> Pace {
        let period = Duration::from_secs(1).div_f64(rate as f64);
        Pace { period, due: tokio::time::Instant::now() }
    }

    async fn next(&mut self) {
        sleep_until(self.due).await;
        self.due = (self.due + self.period).max(tokio::time::Instant::now());
    }
}

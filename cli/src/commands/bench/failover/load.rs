//! A producer that never stops: every partition gets records at a steady rate, and every acknowledgement is
//! kept with its moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use troupe_client::{Client, ClientError, Producer, ProducerConfig, ProducerRecord};

/// In front of each value: its number in its partition.
pub const NUMBER_BYTES: usize = 8;
/// How long the last records may take to be answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A record that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub at: Instant,
    pub number: u64,
    pub offset: u64,
}

/// What was sent to one partition, and what came back.
#[derive(Debug, Default)]
pub struct Sent {
    /// Numbers from 0 up to here were handed to the producer.
    pub end: u64,
    pub acks: Vec<Ack>,
    /// Numbers of records that were given up, and why the last one was.
    pub failed: Vec<u64>,
    pub last_error: Option<String>,
}

pub struct Load {
    producer: Producer,
    partitions: Vec<Arc<Mutex<Sent>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<(), ClientError>>>,
}

/// acks=all and idempotent, as by default; a record goes when it comes.
pub fn settings() -> ProducerConfig {
    ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() }
}

impl Load {
    pub async fn start(
        client: &Client,
        topic: &str,
        partitions: u32,
        rate: u64,
        size: usize,
    ) -> Result<Load, ClientError> {
        let producer = client.producer(settings()).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Load { producer, partitions: Vec::new(), stop, tasks: Vec::new() };
        for partition in 0..partitions {
            let sent = Arc::new(Mutex::new(Sent::default()));
            load.partitions.push(Arc::clone(&sent));
            let (producer, stop) = (load.producer.clone(), Arc::clone(&load.stop));
            let topic = topic.to_owned();
            let period = Duration::from_secs(1).div_f64(rate as f64);
            load.tasks.push(tokio::spawn(async move {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut value = vec![b'.'; size.max(NUMBER_BYTES)];
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let number = {
                        let mut sent = lock(&sent);
                        sent.end += 1;
                        sent.end - 1
                    };
                    value[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
                    let record = ProducerRecord::new(topic.as_str())
                        .partition(partition)
                        .value(value.clone());
                    let sent = Arc::clone(&sent);
                    let answered = move |outcome| lock(&sent).answered(number, outcome);
                    producer.send_with(record, answered).await?;
                }
                Ok(())
            }));
        }
        Ok(load)
    }

    /// When a record of the partition was last acknowledged.
    pub fn last_ack(&self, partition: usize) -> Option<Instant> {
        lock(&self.partitions[partition]).acks.last().map(|ack| ack.at)
    }

    /// Whether every partition has had an acknowledgement since then.
    pub fn flows_since(&self, moment: Instant) -> bool {
        (0..self.partitions.len()).all(|partition| self.last_ack(partition) > Some(moment))
    }

    /// Stops sending, waits until everything is answered, and gives what came of it, by partition.
    pub async fn finish(self) -> Result<Vec<Sent>, ClientError> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            match task.await {
                Ok(outcome) => outcome?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        self.producer.flush().await?;
        self.producer.close(CLOSE_TIMEOUT).await?;
        Ok(self.partitions.iter().map(|sent| std::mem::take(&mut *lock(sent))).collect())
    }
}

impl Sent {
    fn answered(
        &mut self,
        number: u64,
        outcome: Result<troupe_client::RecordMetadata, ClientError>,
    ) {
        match outcome {
            Ok(metadata) => self.acks.push(Ack {
                at: Instant::now(),
                number,
                offset: metadata.offset.unwrap_or_default().0,
            }),
            Err(error) => {
                self.failed.push(number);
                self.last_error = Some(error.to_string());
            }
        }
    }
}

/// A panic elsewhere has been printed; what was collected counts in any case.
fn lock(sent: &Mutex<Sent>) -> std::sync::MutexGuard<'_, Sent> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

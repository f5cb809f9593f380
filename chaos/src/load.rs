//! The load of a run: a producer with acks=all and idempotence, at a given rate over all partitions in turn.
//!
//! A record's key says whose it is and which: `RUN-PARTITION-SEQUENCE`.

use crate::measure::{Event, Outcome, Place};
use crate::recorder::Recorder;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use troupe_client::{
    Acks, Client, ClientError, ConsumerRecord, Producer, ProducerConfig, ProducerRecord,
};

/// A producer that is this far behind its rate does not catch up: it would only be a burst.
const CATCH_UP: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub struct LoadConfig {
    /// Made if it is not there, and then it goes with the run; None: one of its own.
    pub topic: Option<String>,
    /// Of a topic that is made.
    pub partitions: u32,
    /// Records per second, over all partitions.
    pub rate: f64,
    pub record_size: usize,
    /// Consumers of a group; 0: nobody reads.
    pub members: u32,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self { topic: None, partitions: 6, rate: 200.0, record_size: 100, members: 2 }
    }
}

/// Whose records these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run(pub u32);

impl Run {
    pub fn key(self, partition: u32, sequence: u64) -> String {
        format!("{:08x}-{partition}-{sequence}", self.0)
    }

    /// The number of a record of this run.
    pub fn sequence_of(self, record: &ConsumerRecord) -> Option<u64> {
        let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
        let mut parts = key.splitn(3, '-');
        let run = u32::from_str_radix(parts.next()?, 16).ok()?;
        let partition: u32 = parts.next()?.parse().ok()?;
        let sequence = parts.next()?.parse().ok()?;
        (run == self.0 && partition == record.partition.0).then_some(sequence)
    }
}

/// What it is called in reports.
pub fn kind_of(error: &ClientError) -> String {
    match error {
        ClientError::CannotConnect { .. } => "CANNOT_CONNECT".to_owned(),
        ClientError::BufferExhausted { .. } => "BUFFER_EXHAUSTED".to_owned(),
        ClientError::DeliveryTimeout { .. } => "DELIVERY_TIMEOUT".to_owned(),
        other => other.reason().reason().to_owned(),
    }
}

pub async fn producer(client: &Client) -> Result<Producer, ClientError> {
    let config = ProducerConfig {
        client_id: "troupe-chaos".to_owned(),
        acks: Acks::All,
        enable_idempotence: Some(true),
        ..ProducerConfig::default()
    };
    client.producer(config).await
}

/// Returns when somebody has said so, or is gone.
pub async fn told(stop: &mut watch::Receiver<bool>) {
    // Nothing else than a value, or the end of who gives it.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Sends until it is told to stop.
pub async fn send(
    producer: Producer,
    config: LoadConfig,
    run: Run,
    places: Vec<Place>,
    recorder: Arc<Recorder>,
    mut stop: watch::Receiver<bool>,
) {
    let interval = Duration::from_secs_f64(1.0 / config.rate.max(0.001));
    let mut next = Instant::now();
    for place in places.iter().cycle() {
        tokio::select! {
            () = sleep_until(next) => {}
            () = told(&mut stop) => return,
        }
        next = (next + interval).max(Instant::now() - CATCH_UP);
        let sequence = recorder.sending(place);
        let key = run.key(place.partition, sequence);
        let value = format!("{key:.<width$}", width = config.record_size);
        let record = ProducerRecord::new(&*place.topic).partition(place.partition);
        let record = record.key(key).value(value);
        let answered = answered(recorder.clone(), place.clone(), sequence);
        tokio::select! {
            sent = producer.send_with(record, answered) => {
                if let Err(error) = sent {
                    let error = Some(kind_of(&error));
                    let (place, outcome) = (place.clone(), Outcome::Refused);
                    recorder.note(Event::Answered { place, sequence, outcome, error });
                }
            }
            // The record may have been taken, or not: unknown, as it stays.
            () = told(&mut stop) => return,
        }
    }
}

fn answered(
    recorder: Arc<Recorder>,
    place: Place,
    sequence: u64,
) -> impl FnOnce(Result<troupe_client::RecordMetadata, ClientError>) + Send + 'static {
    move |answer| {
        let (outcome, error) = match answer {
            Ok(_) => (Outcome::Acknowledged, None),
            Err(error) if error.surely_not_done() => (Outcome::Refused, Some(kind_of(&error))),
            Err(error) => (Outcome::Unknown, Some(kind_of(&error))),
        };
        recorder.note(Event::Answered { place, sequence, outcome, error });
    }
}

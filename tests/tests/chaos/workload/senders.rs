//! Producers, and what they note.

use super::{Histories, Place};
use rand::RngExt;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use tonic::transport::Channel;
use troupe_client::{ClientError, Producer, ProducerRecord, RecordMetadata};
use troupe_proto::error::Error;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::{PublishRequest, Record};
use troupe_tests::{Outcome, PATIENCE};

/// Between two bursts: leaves room for everything else.
const PACE: Duration = Duration::from_millis(10);

/// What one producer sends and is told.
pub struct Notes {
    pub number: usize,
    pub chance: StdRng,
    pub histories: Histories,
    pub stop: Arc<AtomicBool>,
    pub acknowledged: Arc<AtomicU64>,
    pub sequence: u64,
}

/// A record on its way.
#[derive(Clone)]
struct Sent {
    number: usize,
    to: Place,
    place: usize,
    histories: Histories,
    acknowledged: Arc<AtomicU64>,
}

impl Notes {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    fn draw_place(&mut self) -> Place {
        let chosen = self.chance.random_range(0..self.histories.len());
        self.histories.keys().nth(chosen).expect("drawn from as many").clone()
    }

    /// A value that nobody has sent before, noted as about to be sent.
    fn next(&mut self, to: &Place) -> (Vec<u8>, Sent) {
        let (number, sequence, (topic, partition)) = (self.number, self.sequence, to);
        self.sequence += 1;
        let mut value = format!("{topic}/{partition}/{number}/{sequence}:").into_bytes();
        value.resize(value.len() + self.chance.random_range(0..400), (sequence % 251) as u8);
        let place = self.histories[to].lock().unwrap().sending(number, value.clone());
        let (to, histories) = (to.clone(), Arc::clone(&self.histories));
        let acknowledged = Arc::clone(&self.acknowledged);
        (value, Sent { number, to, place, histories, acknowledged })
    }
}

impl Sent {
    fn answered(&self, outcome: Outcome) {
        if matches!(outcome, Outcome::Acknowledged(_)) {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        self.histories[&self.to].lock().unwrap().answered(self.number, self.place, outcome);
    }
}

/// By the SDK, to all partitions at once.
pub struct Sending {
    pub notes: Notes,
    pub producer: Producer,
    pub unanswered: Arc<AtomicU64>,
}

impl Sending {
    /// Until it is told to stop; then waits for the answers.
    pub async fn run(mut self) {
        /// Bounds the run, not the producer.
        const AHEAD: u64 = 500;
        while self.notes.goes_on() {
            if self.unanswered.load(Ordering::SeqCst) < AHEAD {
                for _ in 0..self.notes.chance.random_range(1..8) {
                    self.send().await;
                }
            }
            sleep(PACE).await;
        }
        self.producer.flush().await.unwrap();
        self.producer.close(PATIENCE).await.unwrap();
    }

    async fn send(&mut self) {
        let to = self.notes.draw_place();
        let (value, sent) = self.notes.next(&to);
        let record = ProducerRecord::new(to.0)
            .key(format!("{}", self.notes.number))
            .value(value)
            .partition(to.1);
        let unanswered = Arc::clone(&self.unanswered);
        let told = sent.clone();
        let callback = move |answer: Result<RecordMetadata, ClientError>| {
            told.answered(outcome(&answer));
            unanswered.fetch_sub(1, Ordering::SeqCst);
        };
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.producer.send_with(record, callback).await {
            // Then the callback does not run.
            sent.answered(outcome(&Err(error)));
            self.unanswered.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn outcome(answer: &Result<RecordMetadata, ClientError>) -> Outcome {
    match answer {
        Ok(metadata) => Outcome::Acknowledged(metadata.offset.unwrap().0),
        Err(error) if error.surely_not_done() => Outcome::Refused,
        Err(_) => Outcome::Unknown,
    }
}

/// By `Publish`, a few records of one partition at a time, through one node after the other.
pub struct Thin {
    pub notes: Notes,
    pub nodes: Vec<Channel>,
}

impl Thin {
    /// Until it is told to stop.
    pub async fn run(mut self) {
        while self.notes.goes_on() {
            let to = self.notes.draw_place();
            let count = self.notes.chance.random_range(1..4);
            let (values, sent): (Vec<_>, Vec<_>) = (0..count).map(|_| self.notes.next(&to)).unzip();
            let record = |value: Vec<u8>| Record {
                value: Some(value.into()),
                partition: Some(to.1 as i32),
                ..Default::default()
            };
            let request = PublishRequest {
                topic: to.0.clone(),
                records: values.into_iter().map(record).collect(),
                ..Default::default()
            };
            let node = self.nodes[self.notes.chance.random_range(0..self.nodes.len())].clone();
            match EventBusServiceClient::new(node).publish(request).await {
                Ok(answer) => {
                    let results = answer.into_inner().results;
                    assert_eq!(results.len(), sent.len(), "one result a record");
                    for (one, result) in sent.iter().zip(results) {
                        one.answered(Outcome::Acknowledged(u64::try_from(result.offset).unwrap()));
                    }
                }
                Err(status) => {
                    let not_done = Error::from(status).surely_not_done();
                    let outcome = if not_done { Outcome::Refused } else { Outcome::Unknown };
                    sent.iter().for_each(|one| one.answered(outcome));
                }
            }
            sleep(PACE).await;
        }
    }
}

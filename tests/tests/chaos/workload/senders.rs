//! Producers, and what they note.

use super::{Histories, Place};
use rand::RngExt;
use rand::rngs::StdRng;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;
use troupe_client::{ClientError, Producer, ProducerRecord, RecordMetadata};
use troupe_tests::{Outcome, PATIENCE};

/// Between two bursts: leaves room for everything else.
pub(super) const PACE: Duration = Duration::from_millis(10);

/// What one producer sends and is told.
pub struct Notes {
    pub number: usize,
    pub chance: StdRng,
    pub histories: Histories,
    pub stop: Arc<AtomicBool>,
    pub acknowledged: Arc<AtomicU64>,
    pub sequence: u64,
    /// Answers that are none.
    pub wrong: Arc<Mutex<Vec<String>>>,
}

/// A record on its way.
#[derive(Clone)]
pub(super) struct Sent {
    number: usize,
    pub(super) to: Place,
    place: usize,
    histories: Histories,
    acknowledged: Arc<AtomicU64>,
}

impl Notes {
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn draw_place(&mut self) -> Place {
        let chosen = self.chance.random_range(0..self.histories.len());
        self.histories.keys().nth(chosen).expect("drawn from as many").clone()
    }

    /// A value that nobody has sent before, noted as about to be sent.
    pub(super) fn next(&mut self, to: &Place) -> (Vec<u8>, Sent) {
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
    pub(super) fn answered(&self, outcome: Outcome) {
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

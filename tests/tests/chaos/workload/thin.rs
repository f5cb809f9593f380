//! Producers that have nothing but generated stubs, and go through one node after the other.

use super::Place;
use super::senders::{Notes, PACE, Sent};
use rand::RngExt;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use troupe_proto::error::Error;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::{PublishRequest, PublishStreamRequest, Record, RecordResult};
use troupe_tests::Outcome;

/// A node that says nothing for so long is given up: what it was sent is unknown.
const SILENCE: Duration = Duration::from_secs(5);

/// One of them.
pub struct Thin {
    pub notes: Notes,
    pub nodes: Vec<Channel>,
}

impl Thin {
    fn draw_node(&mut self) -> EventBusServiceClient<Channel> {
        let drawn = self.notes.chance.random_range(0..self.nodes.len());
        EventBusServiceClient::new(self.nodes[drawn].clone())
    }

    /// The next record to a partition.
    fn draw(&mut self, to: &Place) -> (Record, Sent) {
        let (value, sent) = self.notes.next(to);
        let partition = Some(to.1 as i32);
        (Record { value: Some(value.into()), partition, ..Default::default() }, sent)
    }

    /// The next few, to one partition of a topic, or to several.
    fn draw_some(&mut self, topic: &str, spread: bool) -> (Vec<Record>, Vec<Sent>) {
        let mut to = self.draw_place_of(topic);
        let count = self.notes.chance.random_range(1..6);
        let drawn = (0..count).map(|_| {
            if spread {
                to = self.draw_place_of(topic);
            }
            self.draw(&to)
        });
        drawn.collect::<Vec<_>>().into_iter().unzip()
    }

    fn draw_place_of(&mut self, topic: &str) -> Place {
        loop {
            let to = self.notes.draw_place();
            if to.0 == topic {
                return to;
            }
        }
    }

    /// By `Publish`, until it is told to stop: a few records a call, of one partition or of several.
    pub async fn publish(mut self, spread: bool) {
        while self.notes.goes_on() {
            let (topic, _) = self.notes.draw_place();
            let (records, sent) = self.draw_some(&topic, spread);
            let request = PublishRequest { topic, records, ..Default::default() };
            match self.draw_node().publish(request).await {
                Ok(answer) => self.acknowledged(&sent, &answer.into_inner().results),
                Err(status) => failed(&sent, &status),
            }
            sleep(PACE).await;
        }
    }

    /// By `PublishStream`, until it is told to stop: many requests unanswered, and another stream, through another
    /// node, after each that failed.
    pub async fn stream(mut self) {
        while self.notes.goes_on() {
            self.one_stream().await;
            sleep(PACE).await;
        }
    }

    async fn one_stream(&mut self) {
        /// Requests of a stream that are unanswered at most.
        const AHEAD: usize = 32;
        let (requests, taken) = mpsc::channel(AHEAD);
        let (topic, _) = self.notes.draw_place();
        let mut node = self.draw_node();
        let opened = timeout(SILENCE, node.publish_stream(ReceiverStream::new(taken)));
        let mut answers = match opened.await {
            Ok(Ok(answers)) => answers.into_inner(),
            // Nothing was sent yet.
            Ok(Err(_)) | Err(_) => return,
        };
        let mut unanswered: VecDeque<Vec<Sent>> = VecDeque::new();
        let failure = loop {
            while unanswered.len() < AHEAD && self.notes.goes_on() {
                let (records, sent) = self.draw_some(&topic, true);
                let request =
                    PublishStreamRequest { topic: topic.clone(), records, ..Default::default() };
                unanswered.push_back(sent);
                if requests.send(request).await.is_err() {
                    break;
                }
            }
            if unanswered.is_empty() {
                return;
            }
            match timeout(SILENCE, answers.message()).await {
                Ok(Ok(Some(answer))) => {
                    let sent = unanswered.pop_front().expect("an answer to nothing");
                    self.acknowledged(&sent, &answer.results);
                }
                Ok(Ok(None)) => break Status::unknown("the stream ended before its answers"),
                Ok(Err(status)) => break status,
                Err(_) => break Status::unknown("no answer"),
            }
            sleep(PACE).await;
        };
        // The failure is that of the first without an answer; of what was sent after it nothing is said.
        if let Some(first) = unanswered.pop_front() {
            failed(&first, &failure);
        }
        unanswered.iter().for_each(|sent| unknown(sent));
    }

    /// One result a record, for the partition that it was sent to; else it is an answer to something else.
    fn acknowledged(&self, sent: &[Sent], results: &[RecordResult]) {
        let own = |(one, result): (&Sent, &RecordResult)| {
            i32::try_from(one.to.1).is_ok_and(|partition| partition == result.partition)
        };
        if results.len() != sent.len() || !sent.iter().zip(results).all(own) {
            let partitions: Vec<_> = sent.iter().map(|one| one.to.1).collect();
            let what = format!("records to {partitions:?} were answered with {results:?}");
            self.notes.wrong.lock().unwrap().push(what);
            return unknown(sent);
        }
        for (one, result) in sent.iter().zip(results) {
            one.answered(Outcome::Acknowledged(u64::try_from(result.offset).unwrap()));
        }
    }
}

fn failed(sent: &[Sent], status: &Status) {
    let outcome = match Error::from(status.clone()).surely_not_done() {
        true => Outcome::Refused,
        false => Outcome::Unknown,
    };
    sent.iter().for_each(|one| one.answered(outcome));
}

fn unknown(sent: &[Sent]) {
    sent.iter().for_each(|one| one.answered(Outcome::Unknown));
}

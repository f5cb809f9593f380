//! What became of the records that were sent, in the order in which they were.

use crate::quantity::grouped;
use futures::FutureExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use troupe_client::{ClientError, Delivery, RecordMetadata};

/// The open deliveries and the counts of the settled ones.
///
/// ```text
/// sent = delivered + not_written + unknown + waiting
/// ```
#[derive(Default)]
pub struct Deliveries {
    open: VecDeque<Delivery>,
    /// Taken off the front so far.
    answered: u64,
    pub delivered: u64,
    /// Surely not written.
    pub not_written: u64,
    /// May have been written, or may still be.
    pub unknown: u64,
    /// The number of the first record that failed, from 1, and why.
    first_failure: Option<(u64, ClientError)>,
    progress: Progress,
}

/// How far it is, for whoever looks on.
#[derive(Clone, Default)]
pub struct Progress(Arc<[AtomicU64; 2]>);

impl Progress {
    /// Records that were sent, and those of them that are answered.
    pub fn sent_and_answered(&self) -> [u64; 2] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    fn note(&self, sent: u64, answered: u64) {
        self.0[0].store(sent, Ordering::Relaxed);
        self.0[1].store(answered, Ordering::Relaxed);
    }
}

/// Nothing is wrong with the record: others of its batch were refused.
fn is_of_others(error: &ClientError) -> bool {
    matches!(error, ClientError::RefusedWithBatch(_))
}

impl Deliveries {
    /// A record was handed over, or refused at once.
    pub fn push(&mut self, sent: Result<Delivery, ClientError>) {
        match sent {
            Ok(delivery) => self.open.push_back(delivery),
            Err(error) => {
                let number = self.sent() + 1;
                self.fail(number, error);
            }
        }
        self.progress.note(self.sent(), self.settled());
    }

    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    pub fn sent(&self) -> u64 {
        self.settled() + self.unanswered()
    }

    pub fn waiting(&self) -> bool {
        !self.open.is_empty()
    }

    pub fn unanswered(&self) -> u64 {
        self.open.len() as u64
    }

    pub fn failed(&self) -> bool {
        self.first_failure.is_some()
    }

    /// The failure of the lowest-numbered record that was seen to fail; of one that is itself at fault, if there is
    /// any.
    pub fn first_failure(&self) -> Option<(u64, &ClientError)> {
        self.first_failure.as_ref().map(|(number, error)| (*number, error))
    }

    /// Takes everything off the front that is settled already.
    pub fn settle_ready(&mut self) {
        while let Some(outcome) = self.open.front_mut().and_then(FutureExt::now_or_never) {
            self.settle(outcome);
        }
    }

    /// Waits for the oldest; for ever if there is none. Cancel-safe.
    pub async fn settle_one(&mut self) {
        match self.open.front_mut() {
            Some(delivery) => {
                let outcome = delivery.await;
                self.settle(outcome);
                self.settle_ready();
            }
            None => std::future::pending().await,
        }
    }

    fn settled(&self) -> u64 {
        self.delivered + self.not_written + self.unknown
    }

    fn settle(&mut self, outcome: Result<RecordMetadata, ClientError>) {
        self.open.pop_front();
        self.answered += 1;
        match outcome {
            Ok(_) => self.delivered += 1,
            Err(error) => self.fail(self.answered, error),
        }
        self.progress.note(self.sent(), self.settled());
    }

    fn fail(&mut self, number: u64, error: ClientError) {
        if error.surely_not_done() {
            self.not_written += 1;
        } else {
            self.unknown += 1;
        }
        let told = |first: &(u64, ClientError)| (is_of_others(&first.1), first.0);
        if self
            .first_failure
            .as_ref()
            .is_none_or(|first| (is_of_others(&error), number) < told(first))
        {
            self.first_failure = Some((number, error));
        }
    }

    /// The counts, in a sentence.
    pub fn show(&self) -> String {
        let mut text = format!("{} delivered", grouped(self.delivered));
        for (count, what) in [
            (self.not_written, "surely not written"),
            (self.unknown, "may or may not have been written"),
            (self.unanswered(), "not answered yet"),
        ] {
            if count > 0 {
                text += &format!(", {} {what}", grouped(count));
            }
        }
        text
    }
}

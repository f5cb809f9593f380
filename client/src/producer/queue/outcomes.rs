//! What an answer, a timeout or the end means for the batches of a queue.

use super::{Failure, Queue, Retry, Settled};
use crate::error::ClientError;
use crate::producer::batch::{Batch, Content, Encoded, Status, batch_len};
use crate::producer::delivery::{Outcome, Placed};
use tokio::time::Instant;
use troupe_proto::error::ErrorCode;

impl Queue {
    /// The batch was appended, or handed over with acks none.
    pub(crate) fn placed(&mut self, id: u64, placed: Placed) -> Vec<Settled> {
        if let Some(index) = self.landed(id) {
            if let Some(stamp) = self.batches[index].stamp {
                self.sequences.placed(stamp);
            }
            self.batches[index].status = Status::Settled(Ok(placed));
        }
        self.pop_settled()
    }

    /// The batch was refused, or nobody knows. Tried again as long as that can help (P18, P20, I7).
    pub(crate) fn failed(&mut self, id: u64, error: ClientError, failure: Failure) -> Vec<Settled> {
        let Some(index) = self.landed(id) else { return Vec::new() };
        let batch = &mut self.batches[index];
        batch.maybe_done |= !error.surely_not_done();
        let reason = error.reason();
        // Whether for the topic, or for the node's `socket.request.max.bytes`.
        if matches!(reason, ErrorCode::RecordTooLarge | ErrorCode::RequestTooLarge)
            && batch.records > 1
            && let Content::Encoded(encoded) = &batch.content
        {
            let encoded = encoded.clone();
            self.split(index, &encoded);
            return Vec::new();
        }
        let out_of_order =
            matches!(reason, ErrorCode::OutOfOrderSequence | ErrorCode::ProducerFenced);
        if let Some(stamp) = batch.stamp
            && out_of_order
        {
            if self.batches.range(..index).any(|earlier| !earlier.is_settled()) {
                // Refused because an earlier one is missing: goes again behind it.
                self.batches[index].status = Status::Waiting;
                return Vec::new();
            }
            if self.rules.transactional {
                // What comes behind it may not be committed without it.
                self.settle(index, Err(error));
            } else {
                self.sequences.refused(stamp, reason == ErrorCode::ProducerFenced);
                self.retry(index, error, failure);
            }
        } else if error.is_retriable() || is_retried_anyway(&error) {
            self.retry(index, error, failure);
        } else {
            self.settle(index, Err(error));
        }
        self.pop_settled()
    }

    /// Takes a batch out of flight. None: its answer comes too late to matter.
    fn landed(&mut self, id: u64) -> Option<usize> {
        let index = self.batches.iter().position(|batch| batch.id == id && batch.is_in_flight())?;
        self.batches[index].status = Status::Waiting;
        self.leave_flight();
        Some(index)
    }

    fn leave_flight(&mut self) {
        self.in_flight -= 1;
        if self.in_flight == 0 {
            self.destination = None;
            self.outdated_since = None;
        }
    }

    /// Takes everything out of flight: it was sent to a leadership that has ended, and no answer from there
    /// counts any more. What became of it is unknown, so it goes again, in order and as it was (I4).
    pub(crate) fn call_back(&mut self, failure: Failure) -> Vec<Settled> {
        for index in 0..self.batches.len() {
            if self.batches[index].is_in_flight() {
                self.batches[index].status = Status::Waiting;
                self.batches[index].maybe_done = true;
                self.leave_flight();
                let error = ClientError::outcome_unknown("its leader leads no more");
                self.retry(index, error, failure);
            }
        }
        self.pop_settled()
    }

    fn retry(&mut self, index: usize, error: ClientError, failure: Failure) {
        let batch = &mut self.batches[index];
        if batch.attempts >= self.rules.retries {
            self.settle(index, Err(error));
            return;
        }
        let backoff = self.rules.backoff(error.reason(), batch.failures, failure.chance);
        batch.attempts += 1;
        batch.failures += 1;
        batch.last_error = Some(error);
        let (at, failed) = (failure.now + backoff, batch.sent_to);
        let before = self.retry.filter(|before| before.failed == failed).map(|before| before.at);
        self.retry = Some(Retry { at: before.map_or(at, |before| before.max(at)), failed });
    }

    /// P20. The pieces share the batch's sequences and its place; it does not count as a retry.
    fn split(&mut self, index: usize, encoded: &Encoded) {
        let mut batch = self.batches.remove(index).expect("the caller found it");
        let pieces = match encoded.rebuild(2) {
            Ok(pieces) => pieces,
            Err(error) => unreachable!("the client reads what it wrote: {error}"),
        };
        let mut stamp = batch.stamp;
        for (place, builder) in (index..).zip(pieces) {
            let records = builder.count();
            let reserved = batch_len(builder.len()).min(batch.reserved);
            batch.reserved -= reserved;
            let piece = Batch {
                id: self.take_id(),
                transaction: batch.transaction,
                created: batch.created,
                content: Content::Closed(builder),
                first: batch.first,
                records,
                reserved,
                completion: batch.completion.clone(),
                status: Status::Waiting,
                stamp,
                attempts: batch.attempts,
                sent_to: batch.sent_to,
                failures: batch.failures,
                maybe_done: batch.maybe_done,
                last_error: batch.last_error.clone(),
            };
            self.batches.insert(place, piece);
            batch.first += records;
            if let Some(stamp) = &mut stamp {
                stamp.producer.base_sequence = stamp.producer.base_sequence.plus(records);
            }
        }
        self.batches[index].reserved += batch.reserved;
    }

    /// Gives up what is older than the delivery timeout, sent or not (P19).
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Settled> {
        for index in 0..self.batches.len() {
            if self.batches[index].created + self.rules.delivery_timeout > now {
                break;
            }
            if self.batches[index].is_settled() {
                continue;
            }
            let sent = self.batches[index].maybe_done || self.batches[index].is_in_flight();
            let last = self.batches[index].last_error.take().map(Box::new);
            let after = self.rules.delivery_timeout;
            let (topic, partition) = (self.topic.to_string(), self.partition);
            let error = ClientError::DeliveryTimeout { topic, partition, after, sent, last };
            self.give_up(index, error);
        }
        self.pop_settled()
    }

    /// When [`Queue::expire`] has something to do.
    pub(crate) fn expiry(&self) -> Option<Instant> {
        self.batches.front().map(|batch| batch.created + self.rules.delivery_timeout)
    }

    /// Gives up everything behind this transaction that is not in flight, for a reason that no retry mends.
    pub(crate) fn fail_waiting(&mut self, error: &ClientError, behind: u64) -> Vec<Settled> {
        for index in 0..self.batches.len() {
            if self.batches[index].is_waiting() && self.batches[index].is_behind(behind) {
                self.give_up(index, error.clone());
            }
        }
        self.pop_settled()
    }

    /// Gives up everything, and takes nothing more (P23).
    pub(crate) fn abort(&mut self) -> Vec<Settled> {
        let closed = ClientError::Closed { sent: false };
        self.closed = Some(closed.clone());
        self.give_up_all(&closed, 0)
    }

    /// Gives up everything behind this transaction that is not answered. Of errors that say whether a record was sent, each is told for itself.
    pub(crate) fn give_up_all(&mut self, error: &ClientError, behind: u64) -> Vec<Settled> {
        for index in 0..self.batches.len() {
            if !self.batches[index].is_settled() && self.batches[index].is_behind(behind) {
                let sent = self.batches[index].maybe_done || self.batches[index].is_in_flight();
                let error = match error {
                    ClientError::Closed { .. } => ClientError::Closed { sent },
                    ClientError::TransactionAborted { .. } => {
                        ClientError::TransactionAborted { sent }
                    }
                    other => other.clone(),
                };
                self.give_up(index, error);
            }
        }
        self.pop_settled()
    }

    fn give_up(&mut self, index: usize, error: ClientError) {
        if self.batches[index].is_in_flight() {
            self.leave_flight();
        }
        self.settle(index, Err(error));
    }

    fn settle(&mut self, index: usize, outcome: Outcome) {
        let batch = &mut self.batches[index];
        let outcome = outcome.map_err(|error| match batch.maybe_done && error.surely_not_done() {
            true => ClientError::outcome_unknown(format!(
                "an earlier attempt may have arrived; last: {error}"
            )),
            false => error,
        });
        if outcome.is_err() && batch.stamp.is_some() {
            self.sequences.given_up();
        }
        batch.close();
        batch.status = Status::Settled(outcome);
    }

    fn pop_settled(&mut self) -> Vec<Settled> {
        let mut settled = Vec::new();
        while self.batches.front().is_some_and(Batch::is_settled) {
            let batch = self.batches.pop_front().expect("just seen");
            if let Status::Settled(outcome) = batch.status {
                let Batch { completion, records, transaction, reserved, .. } = batch;
                settled.push(Settled { completion, records, transaction, reserved, outcome });
            }
        }
        settled
    }
}

/// P21: not retriable for a caller who names a topic, but a producer that has written to it asks again. And what may
/// have been done: whoever wants no idempotence and retries all the same has chosen to store it twice, not never (P24).
fn is_retried_anyway(error: &ClientError) -> bool {
    let ClientError::Refused(refusal) = error else { return false };
    let asks_again = matches!(refusal.code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition);
    asks_again || refusal.code.is_retriable()
}

/// What the records of a broken stream have come to.
pub(crate) fn stream_broke(cause: &ClientError) -> ClientError {
    match cause {
        ClientError::CannotConnect { .. } => cause.clone(),
        // Whatever the stream ended with, it says nothing about the batches that were sent on it.
        _ => ClientError::outcome_unknown(format!("the produce stream broke: {cause}")),
    }
}

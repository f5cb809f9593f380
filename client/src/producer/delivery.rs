//! The answer to a record. All records of a batch share one [`Completion`]; a [`Delivery`] is a reference
//! to it and a position in the batch, so a record costs no allocation.
//!
//! Promise: a completion is settled once for each record, in the order of the records (P11).

use super::record::RecordMetadata;
use crate::error::ClientError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use troupe_proto::ids::{Offset, PartitionId};

/// What became of a run of records.
pub(crate) type Outcome = Result<Placed, ClientError>;

/// Where a run of records was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Of the run's first record.
    pub base_offset: Option<Offset>,
    /// The leader's clock, if the topic uses log append time.
    pub append_time_ms: Option<i64>,
}

/// Runs when the record's outcome is known.
pub(crate) type Callback = Box<dyn FnOnce(PartitionId, Result<RecordMetadata, ClientError>) + Send>;

/// What the records of one batch wait for.
pub(crate) struct Completion {
    partition: PartitionId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Runs settled so far: one, unless the batch was split (P20). Each ends where the next begins.
    settled: Vec<Run>,
    wakers: Vec<Waker>,
    /// In the order of the records.
    callbacks: VecDeque<Waiting>,
}

struct Run {
    start: u32,
    end: u32,
    outcome: Outcome,
}

struct Waiting {
    index: u32,
    timestamp_ms: i64,
    callback: Callback,
}

impl Completion {
    pub(crate) fn new(partition: PartitionId) -> Arc<Self> {
        Arc::new(Self { partition, state: Mutex::default() })
    }

    /// Must be called before the record's batch can be settled.
    pub(crate) fn on_settled(&self, index: u32, timestamp_ms: i64, callback: Callback) {
        self.state.lock().callbacks.push_back(Waiting { index, timestamp_ms, callback });
    }

    /// The next `count` records have this outcome. Runs their callbacks, then wakes who waits.
    pub(crate) fn settle(&self, count: u32, outcome: Outcome) {
        let mut due = Vec::new();
        let wakers = {
            let mut state = self.state.lock();
            let start = state.settled.last().map_or(0, |run| run.end);
            let end = start + count;
            while state.callbacks.front().is_some_and(|waiting| waiting.index < end) {
                due.extend(state.callbacks.pop_front());
            }
            state.settled.push(Run { start, end, outcome });
            std::mem::take(&mut state.wakers)
        };
        for Waiting { index, timestamp_ms, callback } in due {
            let result = self.result(index, timestamp_ms);
            let result = result.expect("the run that holds it has just been settled");
            // It is the caller's code: it must not take the sender, and everybody's records, with it.
            if catch_unwind(AssertUnwindSafe(|| callback(self.partition, result))).is_err() {
                tracing::error!(partition = %self.partition, index, "a callback panicked");
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn result(&self, index: u32, timestamp_ms: i64) -> Option<Result<RecordMetadata, ClientError>> {
        self.state.lock().result(self.partition, index, timestamp_ms)
    }
}

impl State {
    fn result(
        &self,
        partition: PartitionId,
        index: u32,
        timestamp_ms: i64,
    ) -> Option<Result<RecordMetadata, ClientError>> {
        let run = self.settled.iter().find(|run| index < run.end)?;
        let place = index - run.start;
        let placed = run.outcome.clone().map(|placed| RecordMetadata {
            partition,
            offset: placed.base_offset.map(|base| base.plus(u64::from(place))),
            timestamp_ms: placed.append_time_ms.unwrap_or(timestamp_ms),
        });
        Some(placed.map_err(|error| error.of_record(place)))
    }
}

/// Resolves when the record's batch is answered. May be dropped: the record is sent all the same.
#[must_use = "a delivery says whether the record arrived; drop it on purpose or await it"]
pub struct Delivery {
    completion: Arc<Completion>,
    index: u32,
    /// Where this delivery's waker stands in the completion's list, and which list that was: settling a
    /// run empties it.
    slot: Option<Slot>,
    timestamp_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    list: u32,
    position: u32,
}

impl Delivery {
    pub(crate) fn new(completion: Arc<Completion>, index: u32, timestamp_ms: i64) -> Self {
        Self { completion, index, slot: None, timestamp_ms }
    }

    /// The partition that was chosen.
    pub fn partition(&self) -> PartitionId {
        self.completion.partition
    }

    /// The outcome, if it is known already.
    pub fn now(&self) -> Option<Result<RecordMetadata, ClientError>> {
        self.completion.result(self.index, self.timestamp_ms)
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.completion.state.lock();
        if let Some(result) = state.result(this.completion.partition, this.index, this.timestamp_ms)
        {
            return Poll::Ready(result);
        }
        let list = state.settled.len() as u32;
        match this.slot {
            Some(slot) if slot.list == list => {
                state.wakers[slot.position as usize].clone_from(context.waker());
            }
            _ => {
                this.slot = Some(Slot { list, position: state.wakers.len() as u32 });
                state.wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn placed(base: u64) -> Outcome {
        Ok(Placed { base_offset: Some(Offset(base)), append_time_ms: None })
    }

    #[tokio::test]
    async fn records_of_a_batch_have_consecutive_offsets() {
        let completion = Completion::new(PartitionId(4));
        let deliveries = (0..3)
            .map(|n| Delivery::new(completion.clone(), n, 100 + i64::from(n)))
            .collect::<Vec<_>>();
        assert!(deliveries.iter().all(|delivery| delivery.now().is_none()));
        let waiting = tokio::spawn(futures::future::join_all(deliveries));
        tokio::task::yield_now().await;
        completion.settle(3, placed(40));
        let answers = waiting.await.unwrap();
        for (n, answer) in (0..).zip(answers) {
            let answer = answer.unwrap();
            assert_eq!(answer.offset, Some(Offset(40 + n)));
            assert_eq!(answer.timestamp_ms, 100 + n as i64);
            assert_eq!(answer.partition, PartitionId(4));
        }
    }

    /// P20.
    #[test]
    fn the_pieces_of_a_split_batch_have_their_own_outcomes() {
        let completion = Completion::new(PartitionId(0));
        let mut last = Delivery::new(completion.clone(), 2, 0);
        completion.settle(2, placed(7));
        assert_eq!((&mut last).now_or_never(), None);
        completion.settle(1, Err(ClientError::Closed { sent: false }));
        assert_eq!(last.now(), Some(Err(ClientError::Closed { sent: false })));
        let second = Delivery::new(completion, 1, 0);
        assert_eq!(second.now().unwrap().unwrap().offset, Some(Offset(8)));
    }

    /// P11.
    #[test]
    fn callbacks_run_in_the_order_of_the_records() {
        let completion = Completion::new(PartitionId(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        for index in 0..4 {
            let seen = seen.clone();
            let callback = move |_, result: Result<RecordMetadata, _>| {
                seen.lock().push((index, result.unwrap().offset.unwrap().0));
            };
            completion.on_settled(index, 0, Box::new(callback));
        }
        completion.settle(3, placed(10));
        assert_eq!(*seen.lock(), [(0, 10), (1, 11), (2, 12)]);
        completion.settle(1, placed(90));
        assert_eq!(seen.lock()[3], (3, 90));
    }
}

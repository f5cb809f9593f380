//! Batches that were handed over together, until they are answered.

use super::batching::BatchedRecords;
use super::settled::Settled;
use crate::forward::{Allotted, Entry};
use crate::partition::Appended;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use troupe_proto::error::{Error, ErrorCode};

/// A batch under way.
pub struct Pending {
    partition: i32,
    records: Vec<(usize, i64)>,
    answer: oneshot::Receiver<Result<Appended, Error>>,
}

/// Records that were submitted together.
pub struct Submitted {
    pub count: usize,
    pub pending: Vec<Pending>,
}

/// Batched records as a sender takes them, and as they are waited for.
pub fn under_way(
    batched: BatchedRecords,
    time: Allotted,
    budget: Option<OwnedSemaphorePermit>,
) -> (Entry, Pending) {
    let (answer, answered) = oneshot::channel();
    let partition = batched.target.number();
    let pending = Pending { partition, records: batched.records, answer: answered };
    (Entry { batch: batched.batch, time, answer, budget }, pending)
}

/// Waits for every batch.
pub async fn answered(submitted: Submitted) -> Settled {
    let mut settled = Settled::new(submitted.count);
    for Pending { partition, records, answer } in submitted.pending {
        let answer = answer.await.unwrap_or_else(|_| {
            let message = "the node is stopping: the records may be appended, or not";
            Err(Error::new(ErrorCode::OutcomeUnknown, message))
        });
        settled.take(partition, records, answer);
    }
    settled
}

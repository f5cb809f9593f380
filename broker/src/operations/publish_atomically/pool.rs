//! Transactional ids of this node, one for each call under way, each with the producer of its next transaction.
//!
//! Promise: an id has one user at a time. The one that was used longest ago is used next: the transaction before is
//! completed by then, and no id expires while others are used.

use crate::admission::overloaded;
use crate::txn::OF_NODES;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use troupe_machines::txn::Producer;
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

/// Calls under way at a time, and ids.
const MOST: usize = 256;

pub struct Pool {
    node: NodeId,
    permits: Semaphore,
    ids: Mutex<Ids>,
}

#[derive(Default)]
struct Ids {
    idle: VecDeque<(Arc<str>, Option<Producer>)>,
    made: usize,
}

/// An id that nobody else has. When it is dropped, others may have it.
pub struct Lease<'p> {
    pool: &'p Pool,
    id: Arc<str>,
    /// Of its next transaction. None: not known, or in doubt; whoever takes it initialises it.
    pub producer: Option<Producer>,
    _permit: SemaphorePermit<'p>,
}

impl Lease<'_> {
    pub fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
}

impl Pool {
    pub fn new(node: NodeId) -> Self {
        Self { node, permits: Semaphore::new(MOST), ids: Mutex::default() }
    }

    /// An id; with `fresh` one that was never used, if there may be more.
    ///
    /// # Errors
    /// `THROTTLED`: none is free in time.
    pub async fn take(&self, fresh: bool, deadline: Instant) -> Result<Lease<'_>, Error> {
        let permit = timeout_at(deadline, self.permits.acquire()).await;
        let Ok(Ok(permit)) = permit else { return Err(overloaded()) };
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = match fresh && ids.made < MOST {
            true => None,
            false => ids.idle.pop_front(),
        };
        let (id, producer) = idle.unwrap_or_else(|| {
            ids.made += 1;
            (format!("{OF_NODES}-{}-{}", self.node.0, ids.made).into(), None)
        });
        Ok(Lease { pool: self, id, producer, _permit: permit })
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut ids = self.pool.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.idle.push_back((Arc::clone(&self.id), self.producer));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::time::Duration;
    use troupe_proto::error::ErrorCode;
    use troupe_proto::ids::{ProducerEpoch, ProducerId};

    #[tokio::test(start_paused = true)]
    async fn an_id_has_one_user_at_a_time_and_keeps_its_producer() {
        let pool = Pool::new(NodeId(7));
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut first = pool.take(false, deadline).await.unwrap();
        let second = pool.take(false, deadline).await.unwrap();
        assert_eq!((&*first.id, &*second.id), ("__atomic-7-1", "__atomic-7-2"));
        let producer = Producer { id: ProducerId(5), epoch: ProducerEpoch(3) };
        first.producer = Some(producer);
        drop((first, second));
        assert_eq!(&*pool.take(true, deadline).await.unwrap().id, "__atomic-7-3");
        let first = pool.take(false, deadline).await.unwrap();
        assert_eq!((&*first.id, first.producer), ("__atomic-7-1", Some(producer)));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_no_more_ids_than_calls_may_be_under_way() {
        let pool = Pool::new(NodeId(1));
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut leases = Vec::new();
        for _ in 0..MOST {
            leases.push(pool.take(true, deadline).await.unwrap());
        }
        let refused = pool.take(true, deadline).await.err().unwrap();
        assert_eq!(refused.code, ErrorCode::Throttled);
        let freed = leases.swap_remove(9).id();
        assert_eq!(pool.take(true, deadline).await.unwrap().id, freed);
    }
}

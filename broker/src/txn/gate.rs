//! The leader of a partition makes it part of a transaction before it takes the first batch there.

use super::aliases::TxnRoute;
use super::message::AddTo;
use crate::forward::{Backoff, Call};
use crate::partition::TransactionGate;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionKey;
use troupe_proto::log::v1::TopicPartition;

/// How long a batch waits for its partition to become part of the transaction.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long, if the transaction before is being completed: that passes soon, or the client hears of it.
const COMPLETION_PATIENCE: Duration = Duration::from_secs(1);

/// The way from partitions to coordinators. Partitions are there first: until it is opened, nothing passes.
#[derive(Default)]
pub struct Gate {
    open: OnceLock<(Arc<TxnRoute>, Handle)>,
}

impl Gate {
    /// To be called on the node's runtime.
    pub fn open(&self, route: Arc<TxnRoute>) {
        self.open.get_or_init(|| (route, Handle::current()));
    }
}

impl TransactionGate for Gate {
    fn add_partition(
        &self,
        transactional_id: Arc<str>,
        producer: Producer,
        (topic, partition): (Arc<str>, PartitionKey),
        reply: Box<dyn FnOnce(Result<(), Error>) + Send>,
    ) {
        let Some((route, runtime)) = self.open.get() else {
            let message = "this node is starting; try again";
            return reply(Err(Error::new(ErrorCode::CoordinatorNotAvailable, message)));
        };
        let named = TopicPartition {
            topic: topic.to_string(),
            partition: i32::try_from(partition.partition.0).unwrap_or(i32::MAX),
            topic_id: partition.topic_id.to_wire(),
        };
        let request = AddTo {
            transactional_id: transactional_id.to_string(),
            producer,
            version: ClientVersion::Second,
            partitions: vec![named],
            groups: Vec::new(),
        };
        let route = Arc::clone(route);
        runtime.spawn(async move { reply(add(&route, &request).await) });
    }
}

/// # Errors
/// The coordinator's.
async fn add(route: &TxnRoute, request: &AddTo) -> Result<(), Error> {
    let began = Instant::now();
    let (deadline, patience) = (began + PATIENCE, began + COMPLETION_PATIENCE);
    let mut backoff = Backoff::new();
    loop {
        let error = match route.add(request, Call::until(deadline)).await {
            Err(error) if error.code == ErrorCode::ConcurrentTransactions => error,
            answer => return answer,
        };
        let next = Instant::now() + backoff.next();
        if next >= patience {
            return Err(error);
        }
        sleep_until(next).await;
    }
}

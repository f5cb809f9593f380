//! The leader of a partition makes it part of a transaction before it takes the first batch there.

use super::aliases::TxnRoute;
use super::message::AddTo;
use crate::forward::Call;
use crate::partition::TransactionGate;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionKey;
use troupe_proto::log::v1::TopicPartition;

/// How long a batch waits for its partition to become part of the transaction.
const PATIENCE: Duration = Duration::from_secs(10);

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
        // While the transaction before is being completed, it waits at the coordinator.
        let call = Call::until(Instant::now() + PATIENCE);
        runtime.spawn(async move { reply(route.add(&request, call).await) });
    }
}

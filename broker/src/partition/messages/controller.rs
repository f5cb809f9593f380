//! What the controller has answered.

use actix::Message;
use troupe_machines::replica::{AlterPartition, AlterPartitionError, CommittedIsr};
use troupe_proto::ids::PartitionEpoch;

/// What the controller has made of an AlterPartition request.
#[derive(Message)]
#[rtype(result = "()")]
pub struct IsrAnswer {
    pub request: AlterPartition,
    pub result: Result<CommittedIsr, AlterPartitionError>,
}

/// The controller knows that this replica lacks what it had acknowledged.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LossKnown {
    /// The first partition epoch that goes by it; `None` if the controller does not say so, as those of earlier
    /// versions, which do not know what is meant.
    pub from: Option<PartitionEpoch>,
}

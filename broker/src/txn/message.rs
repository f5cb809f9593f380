//! What a coordinator of transactions is asked and told.

use crate::coordinator::{Reply, RequestTime};
use actix::Message;
use std::sync::Arc;
use troupe_machines::txn::{ClientVersion, Description, Listing, Outcome, Producer, Ticket};
use troupe_proto::error::Error;
use troupe_proto::ids::{NodeId, PartitionKey, ProducerId};
use troupe_proto::log::v1 as pb;

/// How the transactional ids of the nodes' own producers begin. Nobody else gets one.
pub const OF_NODES: &str = "__atomic";

/// How a producer is to be initialised.
#[derive(Clone, Debug)]
pub struct Initialise {
    pub transactional_id: String,
    pub timeout_ms: u32,
    pub version: ClientVersion,
    /// What it has; `None`: a new instance.
    pub known: Option<Producer>,
    /// Not if its last transaction was committed.
    pub once: bool,
}

/// Initialise a producer. The inner refusal comes beside a change: what was open is being aborted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Init {
    pub request: Initialise,
    /// That nobody has had.
    pub ids: Vec<ProducerId>,
    pub time: RequestTime,
    pub reply: Reply<Result<Producer, Error>>,
}

/// What becomes part of a transaction.
#[derive(Clone, Debug)]
pub struct AddTo {
    pub transactional_id: String,
    pub producer: Producer,
    pub version: ClientVersion,
    pub partitions: Vec<pb::TopicPartition>,
    pub groups: Vec<String>,
}

/// Whether it is news.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Add {
    pub request: AddTo,
    pub time: RequestTime,
    pub reply: Reply<bool>,
}

/// Whether the partitions are part of it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Verify {
    pub request: AddTo,
    pub reply: Reply<()>,
}

/// Decide a transaction. The answer is what the producer is in its next one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct End {
    pub transactional_id: String,
    pub producer: Producer,
    pub outcome: Outcome,
    pub ids: Vec<ProducerId>,
    pub time: RequestTime,
    pub reply: Reply<Producer>,
}

/// A partition has its marker.
#[derive(Clone, Debug)]
pub struct Word {
    pub transactional_id: Arc<str>,
    pub ticket: Ticket,
    pub partition: PartitionKey,
}

/// These have their markers, which that life of the coordinator has sent.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Marked {
    pub life: u64,
    pub words: Vec<Word>,
}

/// Tell which transactional ids there are.
#[derive(Message)]
#[rtype(result = "()")]
pub struct List {
    pub reply: Reply<Vec<Listing>>,
}

/// All about a transactional id.
#[derive(Clone, Debug)]
pub struct Described {
    pub transactional_id: String,
    pub coordinator: NodeId,
    pub known: Description,
}

#[derive(Message)]
#[rtype(result = "()")]
pub struct Describe {
    pub transactional_id: String,
    pub reply: Reply<Described>,
}

/// Abort what is open, for an operator.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Abort {
    pub transactional_id: String,
    pub time: RequestTime,
    pub reply: Reply<()>,
}

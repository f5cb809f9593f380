//! What can be asked of a node, one family a file. Doors ([`crate::grpc`], [`crate::http`]) decode, call one of these and
//! encode; what is asked and answered here is plain, and what goes wrong is our own [`troupe_proto::error::Error`].
//!
//! Each family is given the handles that it names when the node is wired, and knows no others: actors through their
//! handles, the cache of metadata, the way to leaders, coordinators and the active controller.
//!
//! Never here: a frame, a status, a header, a message of a door.

mod administration;
mod census;
mod chaos;
mod cluster;
mod disk;
mod fetch;
mod groups;
mod health;
mod metadata;
mod observation;
mod offsets;
mod page;
mod produce;
mod producer_ids;
mod readiness;
mod topic_lookup;
mod topics;

pub use administration::{Administration, Observed};
pub use chaos::{Actor, ActorState, Chaos, FaultRequest};
pub use cluster::{
    Cluster, ClusterNode, Drained, ElectionResult, Elections, NamedPartitions, PartitionFilter,
    PartitionState, Replica, ReplicaQuery, ReplicaRole,
};
pub use fetch::{Fetch, FetchPosition, FetchRequest, FetchUpdate, Fetched};
pub use groups::{Groups, OffsetReset, ResetOffsets, ResetTo};
pub use health::{Health, Reason, ReasonKind, Verdict};
pub use metadata::{ClusterMetadata, MetadataDelta, Node};
pub use observation::Observation;
pub use offsets::{DatedOffset, Meant, Offsets, PartitionOffset, PartitionQuery};
pub use page::Page;
pub use produce::{
    Answered, Answers, DEFAULT_REQUEST_TIMEOUT, Produce, ProduceCall, Produced, StreamAnswer,
    StreamedBatch,
};
pub use producer_ids::ProducerIds;
pub use readiness::Readiness;
pub use topic_lookup::TopicLookup;
pub use topics::Topics;

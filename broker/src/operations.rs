//! What can be asked of a node, one family a file. Doors ([`crate::grpc`], [`crate::http`]) decode, call one of these and
//! encode; what is asked and answered here is plain, and what goes wrong is our own [`troupe_proto::error::Error`].
//!
//! Each family is given the handles that it names when the node is wired, and knows no others: actors through their
//! handles, the cache of metadata, the way to leaders, coordinators and the active controller.
//!
//! Never here: a frame, a status, a header, a message of a door. What the log and the machines speak themselves is plain
//! here too: of `troupe.log.v1` the names of partitions, and of groups their members, offsets and descriptions; of
//! `troupe.internal.v1` what coordinators of transactions say to each other.

mod administration;
mod census;
mod chaos;
mod cluster;
mod configs;
mod delivery;
mod disk;
mod fetch;
mod groups;
mod health;
mod interruption;
mod metadata;
mod observation;
mod offsets;
mod page;
mod placement;
mod produce;
mod producer_ids;
mod publish;
mod publish_atomically;
mod readiness;
mod reassignments;
mod record_deletion;
mod scrubbing;
mod serving;
mod start_position;
mod subscriptions;
mod tail;
mod topic_lookup;
mod topics;
mod transactions;

pub use administration::{Administration, Observed};
pub use chaos::{Actor, ActorState, Chaos, FaultRequest, ListedFault, Suffered};
pub use cluster::{
    Cluster, ClusterNode, Drained, ElectionResult, Elections, NamedPartitions, PartitionFilter,
    PartitionState, Replica, ReplicaQuery, ReplicaRole, ScrubbedReplica,
};
pub use configs::{
    Change, Configs, Described, DescribedSetting, Source, Synonym, Told, named_once,
};
#[cfg(test)]
pub use delivery::cursors;
pub use delivery::{At, Beside, Deliveries, DeliveryPool, Found, Gone, Notice, NoticeKind, Reader};
pub use fetch::{Fetch, FetchPosition, FetchRequest, FetchUpdate, Fetched};
pub use groups::{Groups, OffsetReset, ResetOffsets, ResetTo};
pub use health::{Health, Reason, ReasonKind, Verdict};
pub use interruption::Interruption;
pub use metadata::{ClusterMetadata, MetadataDelta, Node};
pub use observation::Observation;
pub use offsets::{DatedOffset, Meant, Offsets, PartitionOffset, PartitionQuery};
pub use page::Page;
pub use placement::{NamedSize, Placement};
pub use produce::{Answered, Answers, Produce, ProduceCall, Produced, StreamAnswer, StreamedBatch};
pub use producer_ids::ProducerIds;
pub use publish::{
    Publish, PublishCall, PublishRequest, PublishStreamRequest, PublishStreamResponse,
    REQUESTS_TOGETHER, Record, RecordResult,
};
pub use publish_atomically::{AtomicRequest, PublishAtomically, PublishedAtomically};
pub use readiness::Readiness;
pub use reassignments::Reassignments;
pub use record_deletion::{DeletedRecords, DeletionTerms, PartitionDeletion, RecordDeletion};
pub use scrubbing::Scrubbing;
pub use serving::Operations;
pub use start_position::StartPosition;
pub use subscriptions::{
    Assignment, Coordination, Handles as SubscriptionHandles, PullCaller, PullRequest, PullRest,
    Pulls, Sessions, Settle, SettleRequest, SettleResult, Settlement, SettlementAction,
    SubscribeRequest, SubscribeRest, SubscriptionOptions, Subscriptions, Unwritten, WindowBounds,
};
#[cfg(test)]
pub use subscriptions::{RESULT_BYTES, echo};
pub use tail::{Tail, TailRequest, TailRest};
pub use topic_lookup::TopicLookup;
pub use topics::{SettingOrigin, TopicSetting, Topics};
pub use transactions::{HangingQuery, LookedAt, Transactions};

//! What can be asked of a node, one family a file. Doors ([`crate::grpc`], [`crate::http`]) decode, call one of these and
//! encode; what is asked and answered here is plain, and what goes wrong is our own [`troupe_proto::error::Error`].
//!
//! Each family is given the handles that it names when the node is wired, and knows no others: actors through their
//! handles, the cache of metadata, the way to leaders, coordinators and the active controller.
//!
//! Never here: a frame, a status, a header, a message of a door.

mod delivery;
mod interruption;
mod page;
mod publish;
mod start_position;
mod subscriptions;
mod tail;
mod topic_lookup;
mod topics;

#[cfg(test)]
pub use delivery::cursors;
pub use delivery::{At, Beside, Deliveries, DeliveryPool, Found, Gone, Notice, NoticeKind, Reader};
pub use interruption::Interruption;
pub use page::Page;
pub use publish::{
    Publish, PublishCall, PublishRequest, PublishStreamRequest, PublishStreamResponse,
    REQUESTS_TOGETHER, Record, RecordResult,
};
pub use start_position::StartPosition;
pub use subscriptions::{
    Assignment, Coordination, Handles, PullCaller, PullRequest, PullRest, Pulls, Sessions, Settle,
    SettleRequest, SettleResult, Settlement, SettlementAction, SubscribeRequest, SubscribeRest,
    SubscriptionOptions, Subscriptions, Unwritten, WindowBounds,
};
#[cfg(test)]
pub use subscriptions::{RESULT_BYTES, echo};
pub use tail::{Tail, TailRequest, TailRest};
pub use topic_lookup::{TopicLookup, check_writable};
pub use topics::Topics;

//! What subscribers ask, as a door has read it and nobody has looked at it yet.

use crate::operations::start_position::StartPosition;
use std::time::Duration;
use troupe_proto::error::Error;

/// What is read, for which group and how. Those who call with the same options share a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    pub topics: Vec<String>,
    /// Or the topics whose whole name it matches.
    pub topic_pattern: String,
    pub group: String,
    /// Where a partition is begun for which nothing is committed. None: at its end.
    pub start_position: Option<StartPosition>,
    pub window: Option<WindowBounds>,
    pub max_processing_time: Option<Duration>,
    /// Empty: not static.
    pub member_name: String,
    pub reconnect_grace: Option<Duration>,
    pub auto_ack: bool,
    pub confirm_settlements: bool,
    /// Empty: the group's.
    pub assignor: String,
    pub client_id: String,
    pub max_message_bytes: Option<u32>,
    pub skip_too_large: bool,
    /// Also records of transactions that are open, or were aborted.
    pub read_uncommitted: bool,
}

/// What may be delivered and not acknowledged; what is none has a default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WindowBounds {
    pub max_records: Option<i32>,
    pub max_bytes: Option<i64>,
}

/// One message of a stream.
#[derive(Debug, Default)]
pub struct SubscribeRequest {
    /// Of the first message, and only there.
    pub start: Option<SubscriptionOptions>,
    /// Done.
    pub ack_ids: Vec<String>,
    pub settlements: Vec<Settlement>,
    /// From here on.
    pub window: Option<WindowBounds>,
    /// What is acknowledged is committed without waiting for the next turn.
    pub commit_now: bool,
}

/// What is said of one delivery, or why that cannot be read.
#[derive(Debug)]
pub struct Settlement {
    pub ack_id: String,
    pub action: Result<SettlementAction, Box<Error>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementAction {
    Ack,
    /// Delivered again. None: at once.
    Nack {
        delay: Option<Duration>,
    },
    /// None: by as much as it got when it was delivered.
    Extend {
        by: Option<Duration>,
    },
}

pub struct SettleRequest {
    pub ack_ids: Vec<String>,
    pub settlements: Vec<Settlement>,
}

pub struct PullRequest {
    pub options: Option<SubscriptionOptions>,
    /// 0: the default.
    pub max_records: i32,
    pub max_wait: Option<Duration>,
}

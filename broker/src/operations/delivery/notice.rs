//! What readers are told beside records.

use std::time::Duration;
use troupe_proto::ids::Offset;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// The node stops: what is done by then may still be acknowledged.
    Draining {
        grace: Duration,
    },
    /// Every record that was there at the assignment has been delivered.
    CaughtUp,
    /// Nothing more comes of a partition until a record before is acknowledged.
    AckGapFull,
    RecordTooLarge(RecordTooLarge),
    PositionLost(PositionLost),
}

/// A record that does not fit into what the client takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTooLarge {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    /// Of the message with this record alone.
    pub message_bytes: usize,
    /// What of its request says how much the client takes.
    pub option: &'static str,
    /// What it takes.
    pub limit: usize,
    /// Reading goes on behind it.
    pub skipped: bool,
}

/// A position that the log does not have any more, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionLost {
    pub topic: String,
    pub partition: i32,
    pub position: Offset,
    pub earliest: Offset,
    pub latest: Offset,
    /// An unclean election has truncated the log there.
    pub cut_at: Option<Offset>,
}

//! Where reading begins, as a client says it.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartPosition {
    Earliest,
    Latest,
    /// Not looked at yet: it may be none.
    Offset(i64),
    TimestampMs(i64),
}

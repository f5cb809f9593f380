//! Time as an argument: whoever runs a machine owns the clock.

/// Wall-clock milliseconds since 1970. Deadlines and record timestamps are on the same scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// `ms` later; saturates, so that "forever" may be added to anything.
    pub const fn plus(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// As the timestamp of a record.
    pub fn as_timestamp(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

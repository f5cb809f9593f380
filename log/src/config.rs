//! What a log is told about sizes and ages.

/// Settings of one partition's log; the names are Kafka's topic settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment that would grow beyond this is closed and a new one begun.
    pub segment_bytes: u64,
    /// `segment.ms`: so much record time, or without timestamps wall time, goes into one segment.
    pub segment_ms: u64,
    /// Subtracted from `segment_ms`: the owner gives each log another, so that not all roll at once.
    pub segment_jitter_ms: u64,
    /// `index.interval.bytes`: about one index entry per so many bytes of log.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment whose index would outgrow this is closed.
    pub segment_index_bytes: u32,
}

impl LogConfig {
    /// Positions in an offset index are 31 bits wide, as Kafka's `segment.bytes` is.
    pub const MAX_SEGMENT_BYTES: u64 = i32::MAX as u64;

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.clamp(1, Self::MAX_SEGMENT_BYTES)
    }

    /// Record time that fits into one segment.
    pub(crate) fn segment_age_ms(&self) -> u64 {
        self.segment_ms.saturating_sub(self.segment_jitter_ms)
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
        }
    }
}

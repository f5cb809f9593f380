//! What a consumer has done so far.

/// Counters since the consumer was made, and its lag at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMetrics {
    /// Returned to the application; of batches, what they hold.
    pub records: u64,
    /// Of the batches that they were in, as they are in the log.
    pub bytes: u64,
    /// Records between the positions and the ends of the partitions, as far as nodes have said.
    pub lag: u64,
    /// Assignments that were taken up.
    pub rebalances: u64,
    /// How often everything was lost.
    pub losses: u64,
    pub commits: u64,
    pub commits_failed: u64,
}

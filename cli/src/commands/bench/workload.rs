//! What is sent in a measurement, as flags.

use crate::quantity::{parse_count, parse_size, parse_whole};
use clap::{Args, ValueEnum};

/// The records of a measurement, and the topic that is made for them.
#[derive(Clone, Debug, Args)]
pub struct Workload {
    /// How many
    #[arg(long, default_value = "1M", value_parser = parse_count)]
    pub records: u64,
    /// Bytes in each value
    #[arg(long, default_value = "1KiB", value_parser = parse_size)]
    pub size: u64,
    /// Partitions of the topic that is made
    #[arg(short, long, default_value_t = 1)]
    pub partitions: u32,
    /// flush.policy of the topic that is made
    #[arg(long, value_enum, default_value_t = FlushPolicy::Commit)]
    pub flush_policy: FlushPolicy,
    /// Seed of the values
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = parse_whole::<u64>)]
    pub seed: u64,
}

/// When an append counts with acks=all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlushPolicy {
    /// After its fdatasync
    Commit,
    /// When the operating system has it
    Os,
}

impl FlushPolicy {
    pub fn name(self) -> &'static str {
        match self {
            FlushPolicy::Commit => "commit",
            FlushPolicy::Os => "os",
        }
    }
}

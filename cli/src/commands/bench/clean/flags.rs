//! The flags of `troupe bench clean`.

use crate::quantity::{parse_count, parse_size};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct BenchClean {
    /// Keys
    #[arg(long, default_value = "1M", value_parser = parse_count)]
    pub keys: u64,
    /// How often each of them is written
    #[arg(long, default_value_t = 10)]
    pub times: u64,
    /// Bytes in each value; 24 at least
    #[arg(long, default_value = "100", value_parser = parse_size)]
    pub size: u64,
    /// segment.bytes of the topic
    #[arg(long, default_value = "64MiB", value_parser = parse_size)]
    pub segment: u64,
    /// Records per second of the producer beside it
    #[arg(long, default_value = "1000", value_parser = parse_count)]
    pub rate: u64,
    /// How often a log is written and cleaned
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Where the node of this run keeps its files, for as long as it takes
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A key and its value for the node, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

//! The flags of a copy.

use crate::quantity::parse_count;
use clap::Args;
use troupe_proto::batch::Compression;

#[derive(Debug, Args)]
pub struct Copy {
    pub from: String,
    /// The target topic, made like the source if it is not there [default: the same name]
    pub to: Option<String>,
    /// A node of the target cluster, or several separated by commas [default: the source's cluster]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub to_server: Vec<String>,
    /// Go on with what comes, until it is stopped [default: end where the source ended at the start]
    #[arg(short, long)]
    pub follow: bool,
    /// Records per second at the most
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub rate: Option<u64>,
    /// Copy behind records of the target that are of no copy
    #[arg(long)]
    pub append: bool,
    /// Replicas of each partition, if the target is made [default: the target cluster's]
    #[arg(short, long = "replicas", visible_alias = "replication-factor", value_name = "N")]
    pub replicas: Option<i32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, default_value = "none")]
    pub compression: Compression,
}

//! The flags of `troupe dev`.

use crate::global::DEFAULT_SERVER;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// More are no use in one process.
const MOST_NODES: u16 = 9;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe dev\n  \
    troupe dev --nodes 3\n  \
    troupe dev --data-dir ./data --listen 127.0.0.1:0\n\
    Actors may be killed here (chaos.enable=true). With several nodes, topics have three replicas,\n\
    and single nodes are killed, stopped and started by typing `kill 2`, `stop 2`, `start 2`.")]
pub struct Dev {
    /// How many nodes; each has its ports 10 above those of the one before
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_NODES)))]
    pub nodes: u16,
    /// Keep everything there [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the (first) gRPC listener; port 0 takes free ones
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_SERVER)]
    pub listen: SocketAddr,
    /// Address of the (first) HTTP listener [default: one port above the gRPC listener]
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<SocketAddr>,
    /// Any other key and its value, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

//! The faults of a node, and how they are told.

use crate::network::Directions;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use troupe_proto::ids::NodeId;

/// What a node can suffer. Without nodes or a directory: all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeFault {
    Cut { nodes: BTreeSet<NodeId>, directions: Directions },
    Slow { nodes: BTreeSet<NodeId>, directions: Directions, delay: Duration, jitter: Duration },
    SlowDisk { delay: Duration, log_dir: Option<PathBuf> },
    FullDisk { log_dir: Option<PathBuf> },
    FsyncError { log_dir: Option<PathBuf> },
    Pause,
    ClockOffset { offset_ms: i64 },
}

/// One that lasts.
#[derive(Clone, Debug)]
pub struct LastingFault {
    pub id: String,
    pub fault: NodeFault,
    pub left: Duration,
    /// How often it has struck.
    pub hits: u64,
}

impl NodeFault {
    /// As the command calls it, and metrics do.
    pub fn name(&self) -> &'static str {
        match self {
            NodeFault::Cut { .. } => "cut",
            NodeFault::Slow { .. } => "slow",
            NodeFault::SlowDisk { .. } => "slow-disk",
            NodeFault::FullDisk { .. } => "full-disk",
            NodeFault::FsyncError { .. } => "fsync-error",
            NodeFault::Pause => "pause",
            NodeFault::ClockOffset { .. } => "clock",
        }
    }

    /// All of them.
    pub const NAMES: [&str; 7] =
        ["cut", "slow", "slow-disk", "full-disk", "fsync-error", "pause", "clock"];
}

impl fmt::Display for NodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |log_dir: &Option<PathBuf>| {
            log_dir.as_ref().map_or_else(String::new, |dir| format!(" in {}", dir.display()))
        };
        match self {
            NodeFault::Cut { nodes, directions } => {
                write!(f, "nothing passes {}", between(nodes, *directions))
            }
            NodeFault::Slow { nodes, directions, delay, jitter } => {
                write!(f, "{} ms", delay.as_millis())?;
                if !jitter.is_zero() {
                    write!(f, " and up to {} more", jitter.as_millis())?;
                }
                write!(f, " {}", between(nodes, *directions))
            }
            NodeFault::SlowDisk { delay, log_dir } => {
                write!(f, "flushes{} take {} ms longer", at(log_dir), delay.as_millis())
            }
            NodeFault::FullDisk { log_dir } => write!(f, "there is no room{}", at(log_dir)),
            NodeFault::FsyncError { log_dir } => write!(f, "flushes{} fail", at(log_dir)),
            NodeFault::Pause => f.write_str("it stands still"),
            NodeFault::ClockOffset { offset_ms } => {
                let how = if *offset_ms < 0 { "slow" } else { "fast" };
                write!(f, "its clock is {} ms {how}", offset_ms.unsigned_abs())
            }
        }
    }
}

fn between(nodes: &BTreeSet<NodeId>, directions: Directions) -> String {
    let way = match directions {
        Directions { to: true, from: false } => "to",
        Directions { to: false, from: true } => "from",
        Directions { .. } => "to and from",
    };
    let nodes: Vec<_> = nodes.iter().map(NodeId::to_string).collect();
    match nodes.as_slice() {
        [] => format!("{way} all other nodes"),
        [node] => format!("{way} node {node}"),
        nodes => format!("{way} nodes {}", nodes.join(", ")),
    }
}

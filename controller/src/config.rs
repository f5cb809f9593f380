//! What a controller is started with, and why it does not start.

use std::path::PathBuf;
use thiserror::Error;
use troupe_machines::cluster::{ClusterPolicy, ReplayError};
use troupe_proto::ids::NodeId;

#[derive(Clone, Debug)]
pub struct ControllerConfig {
    pub node_id: NodeId,
    /// Where the metadata log lives; one process at a time.
    pub dir: PathBuf,
    /// The cluster this node belongs to. `None`: whichever the log says, or a new one.
    pub cluster_id: Option<String>,
    pub policy: ClusterPolicy,
    /// After this many decisions a snapshot replaces the log before it (K9).
    pub snapshot_entries: u64,
    /// After this many bytes of decisions, too.
    pub snapshot_bytes: u64,
}

impl ControllerConfig {
    pub fn new(node_id: NodeId, dir: impl Into<PathBuf>) -> ControllerConfig {
        ControllerConfig {
            node_id,
            dir: dir.into(),
            cluster_id: None,
            policy: ClusterPolicy::default(),
            snapshot_entries: 5_000,
            snapshot_bytes: 2 << 20,
        }
    }
}

#[derive(Debug, Error)]
pub enum ControllerStartError {
    #[error("node id {0} is negative")]
    NegativeNodeId(NodeId),
    #[error("cannot open the metadata log in {dir}: {source}")]
    Open { dir: PathBuf, source: std::io::Error },
    #[error("the metadata log does not make sense: {0}")]
    Replay(#[from] ReplayError),
    #[error("raft did not start: {0}")]
    Raft(String),
    #[error("{dir} belongs to cluster '{actual}', not '{asked}'")]
    WrongCluster { dir: PathBuf, asked: String, actual: String },
    #[error("no controller became active: {0}")]
    NotActive(troupe_proto::error::Error),
}

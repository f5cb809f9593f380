//! Why a node does not start, and what to try.

use crate::ConfigFaults;
use std::path::PathBuf;
use troupe_controller::ControllerStartError;
use troupe_log::DirectoryError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("cannot listen on {address}: {source}; choose another with {key}")]
    Listen { address: String, key: &'static str, source: std::io::Error },
    #[error(transparent)]
    Config(#[from] ConfigFaults),
    #[error("the metadata in {path} cannot be opened: {source}", path = path.display())]
    Controller { path: PathBuf, source: Box<ControllerStartError> },
    #[error(
        "the metadata in {metadata} is new, but {count} partitions of an earlier life stand beside it; \
         restore the metadata, or move the partitions away",
        metadata = metadata.display()
    )]
    ForeignPartitions { metadata: PathBuf, count: usize },
    #[error(
        "the cluster's metadata is new: this broker was registered at {before} before, and at {current} now, but \
         {count} partitions of then are in its data directory; restore the metadata, or move the partitions away"
    )]
    NewMetadata {
        count: usize,
        before: troupe_proto::ids::BrokerEpoch,
        current: troupe_proto::ids::BrokerEpoch,
    },
    #[error(
        "{metadata} holds the decisions of a controller, and process.roles are `{roles}` now; make it a controller \
         again, or move that directory away: a controller that forgets what it has decided must not come back",
        metadata = metadata.display()
    )]
    FormerController { metadata: PathBuf, roles: String },
    #[error(
        "{count} partitions are in {directory}, and process.roles are `{roles}` now: nobody would serve them; make it \
         a broker again, or choose another log.dir",
        directory = directory.display()
    )]
    FormerBroker { directory: PathBuf, count: usize, roles: String },
    #[error(
        "{found} is of this node's own, and stands in another directory than {expected}: it was moved within log.dirs; \
         set metadata.log.dir to where it is, or move it",
        found = found.display(), expected = expected.display()
    )]
    MetadataElsewhere { found: PathBuf, expected: PathBuf },
    #[error("{0}; mount it, repair or replace the disk, and start the node again")]
    DirectoriesLost(String),
    #[error("controller.quorum.voters: {0}")]
    Voters(#[from] troupe_controller::VotersError),
    #[error(
        "the data directory is not formatted, and cluster.id is not set: a cluster's nodes have to agree on \
         one; `troupe storage format` writes it, `troupe storage random-uuid` makes one"
    )]
    NotFormatted,
    #[error("this node cannot be a part of the quorum: {0}")]
    Quorum(Box<ControllerStartError>),
    #[error("the node cannot register with the controller: {0}")]
    Register(troupe_proto::error::Error),
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
    #[error(
        "the metadata log has failed: what was said before tells why; the next start recovers it"
    )]
    MetadataLog,
    #[error("the node stopped while it was starting")]
    Stopped,
}

impl StartError {
    /// What to try, where the error does not say it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            StartError::Directory(DirectoryError::OtherNode { .. }) => Some(
                "node.id and cluster.id as they were, or another log.dir: what is in this one stays that node's",
            ),
            StartError::Controller { source, .. } => match **source {
                ControllerStartError::WrongVoters { .. } => Some(
                    "controller.quorum.voters with these nodes, or another log.dir: who decides in a cluster is \
                     settled at its first start",
                ),
                _ => None,
            },
            _ => None,
        }
    }
}

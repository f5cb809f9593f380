//! The metadata log of a node that does not run, for whoever wants to see what is in it.
//!
//! Promises: the directory is not changed. sled writes when it opens, so what is opened is a copy, in a temporary
//! directory that is gone afterwards; a node that has the log open is left alone, as a copy of what changes is torn.
//! What is damaged is said, and what can be read beside it is shown.
//! Never here: whether the log may be used; a node decides that when it starts.

use super::entries::EntryLog;
use super::snapshot;
use super::storage::{self, Storage};
use super::types::TypeConfig;
use openraft::EntryPayload;
use openraft::alias::EntryOf;
use openraft::entry::RaftEntry;
use prost::Message;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use troupe_machines::cluster::ClusterSnapshot;
use troupe_proto::ids::{MetadataOffset, NodeId};
use troupe_proto::internal::v1::{MetadataBatch, MetadataRecord};

/// What a directory of a metadata log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataLogContent {
    /// The quorum it belongs to; `None`: its node votes alone.
    pub quorum: Option<MetadataQuorum>,
    /// The last vote that its node gave, or the leader that it follows.
    pub vote: Option<MetadataVote>,
    pub snapshot: Option<MetadataSnapshot>,
    /// Ascending. Those below the snapshot may be gone.
    pub entries: Vec<MetadataEntry>,
    /// What could not be read, in words; empty if all is well.
    pub damage: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataQuorum {
    pub cluster_id: String,
    pub node_id: NodeId,
    pub voters: Vec<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataVote {
    pub term: u64,
    pub node_id: NodeId,
    /// A majority has given it: that node leads, or led.
    pub granted: bool,
}

/// The image that stands for all entries up to one.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataSnapshot {
    /// Of the last entry in it; `None`: it was made before there was one.
    pub last: Option<MetadataPosition>,
    pub voters: Vec<NodeId>,
    /// The first metadata offset that is not in it.
    pub next_offset: MetadataOffset,
    /// Each with the metadata offset it counts for.
    pub records: Vec<(MetadataOffset, MetadataRecord)>,
}

/// Where an entry stands in the Raft log. Each leader has a term of its own, and writes it on what it appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataPosition {
    /// Kafka's offset in `__cluster_metadata`.
    pub index: u64,
    pub term: u64,
    pub leader: NodeId,
}

/// One entry. Whether it is committed does not stand in the log: the last ones may yet be replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataEntry {
    pub position: MetadataPosition,
    pub payload: MetadataPayload,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetadataPayload {
    /// The first of a leader's term.
    LeaderChange,
    Voters(Vec<NodeId>),
    /// Changes nothing; when it is applied, so is all before it.
    Barrier,
    /// What was decided, if when it is applied the metadata ends at this offset, in this term.
    Decision {
        base_offset: MetadataOffset,
        term: u64,
        records: Vec<MetadataRecord>,
    },
}

#[derive(Debug, Error)]
pub enum MetadataReadError {
    #[error("{dir} holds no metadata log")]
    NotFound { dir: PathBuf },
    #[error("the metadata log in {dir} is in use; stop its node, or give a copy of the directory")]
    InUse { dir: PathBuf },
    #[error("the metadata log in {dir} cannot be copied: {source}")]
    Copy { dir: PathBuf, source: io::Error },
}

impl MetadataLogContent {
    /// Reads what is in `dir`, the directory of a metadata log (`metadata` in the data directory). Blocks.
    ///
    /// # Errors
    /// There is none, it is in use, or there is no room for a copy. Damage is no error: it stands in the result.
    pub fn read(dir: &Path) -> Result<MetadataLogContent, MetadataReadError> {
        let database = storage::database_path(dir);
        if !database.is_dir() && !storage::snapshot_path(dir).is_file() {
            return Err(MetadataReadError::NotFound { dir: dir.to_owned() });
        }
        let failed = |source| MetadataReadError::Copy { dir: dir.to_owned(), source };
        let copy = tempfile::tempdir().map_err(failed)?;
        let _held = hold(&database, dir)?;
        storage::copy(dir, copy.path()).map_err(failed)?;
        let mut content = MetadataLogContent::default();
        content.read_snapshot(&storage::snapshot_path(copy.path()));
        content.read_database(copy.path());
        Ok(content)
    }

    fn read_snapshot(&mut self, path: &Path) {
        let read = snapshot::read(path).and_then(|found| {
            let Some((meta, image)) = found else { return Ok(None) };
            let ClusterSnapshot { next_offset, records } = snapshot::decode_records(&image)?;
            let last = meta.last_log_id.as_ref().map(position);
            let voters = node_ids(meta.last_membership.membership().voter_ids());
            Ok(Some(MetadataSnapshot { last, voters, next_offset, records }))
        });
        match read {
            Ok(found) => self.snapshot = found,
            Err(error) => self.damage.push(format!("snapshot: {error}")),
        }
    }

    fn read_database(&mut self, dir: &Path) {
        let opened = Storage::open(dir, || Ok(()));
        let opened = opened.and_then(|storage| Ok((EntryLog::open(&storage)?, storage)));
        let (entries, storage) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.damage.push(format!("database: {error}")),
        };
        match entries.identity() {
            Ok(found) => self.quorum = found.map(Into::into),
            Err(error) => self.damage.push(format!("who votes: {error}")),
        }
        match entries.vote() {
            Ok(found) => {
                self.vote = found.map(|vote| MetadataVote {
                    term: vote.leader_id.term,
                    node_id: node_id(vote.leader_id.node_id),
                    granted: vote.committed,
                });
            }
            Err(error) => self.damage.push(format!("vote: {error}")),
        }
        for entry in entries.read_each() {
            match entry.and_then(decode_entry) {
                Ok(entry) => self.entries.push(entry),
                Err(error) => self.damage.push(format!("log: {error}")),
            }
        }
        drop(entries);
        if let Err(error) = storage.close() {
            self.damage.push(format!("database: {error}"));
        }
    }
}

impl From<super::identity::Identity> for MetadataQuorum {
    fn from(identity: super::identity::Identity) -> MetadataQuorum {
        MetadataQuorum {
            cluster_id: identity.cluster_id,
            node_id: NodeId(identity.node_id),
            voters: identity.voters.into_iter().map(NodeId).collect(),
        }
    }
}

fn decode_entry(entry: EntryOf<TypeConfig>) -> io::Result<MetadataEntry> {
    let position = position(&entry.log_id());
    let payload = match entry.payload {
        EntryPayload::Blank => MetadataPayload::LeaderChange,
        EntryPayload::Membership(members) => MetadataPayload::Voters(node_ids(members.voter_ids())),
        EntryPayload::Normal(decided) => match decided.base() {
            None => MetadataPayload::Barrier,
            Some(base) => {
                let batch = MetadataBatch::decode(decided.batch).map_err(|error| {
                    io::Error::other(format!("entry {}: {error}", position.index))
                })?;
                let (base_offset, term) = (base.offset, base.term);
                MetadataPayload::Decision { base_offset, term, records: batch.records }
            }
        },
    };
    Ok(MetadataEntry { position, payload })
}

fn position(id: &openraft::alias::LogIdOf<TypeConfig>) -> MetadataPosition {
    let leader = id.committed_leader_id();
    MetadataPosition { index: id.index, term: leader.term, leader: node_id(leader.node_id) }
}

fn node_id(id: super::types::RaftNodeId) -> NodeId {
    // Ours are never larger; what is damaged may be.
    NodeId(i32::try_from(id).unwrap_or(-1))
}

fn node_ids(ids: impl Iterator<Item = super::types::RaftNodeId>) -> Vec<NodeId> {
    ids.map(node_id).collect()
}

/// Keeps a node from starting on the log while it is copied, as sled would.
fn hold(database: &Path, dir: &Path) -> Result<Option<File>, MetadataReadError> {
    let failed = |source| MetadataReadError::Copy { dir: dir.to_owned(), source };
    let file = match File::open(database.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(MetadataReadError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

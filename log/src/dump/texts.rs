//! The small files: checkpoints and what else is text, and producer snapshots.
//!
//! What does not hold together is given all the same, with what is wrong.

use super::corrupt;
use crate::disk::{Disk, FileDisk};
use crate::inventory::Line;
use crate::{LogError, checkpoint, inventory, snapshot};
use bytes::Bytes;
use std::io;
use std::path::Path;
use troupe_proto::ids::{DirectoryId, LeaderEpoch, Offset, TopicId};

/// A `.snapshot` file: a serialised `troupe.log.v1.ProducerSnapshot`.
///
/// # Errors
/// The file cannot be read. In the pair: its checksum does not hold.
pub fn producer_snapshot(path: &Path) -> Result<(Bytes, Option<LogError>), LogError> {
    let content = read_whole(path)?;
    let fault = snapshot::unseal(content.to_vec()).is_none().then(|| unsound(path));
    let body = content.len().min(snapshot::CRC_LEN);
    Ok((content.slice(body..), fault))
}

/// A `leader-epoch-checkpoint`: epochs and their first offsets.
///
/// # Errors
/// The file cannot be read, or its checksum does not hold.
pub fn leader_epochs(path: &Path) -> Result<Vec<(LeaderEpoch, Offset)>, LogError> {
    let content = read_whole(path)?;
    checkpoint::decode_epochs(&content).ok_or_else(|| unsound(path))
}

/// The lines of one of the other small text files, without version and checksum.
///
/// # Errors
/// The file cannot be read. In the pair: its checksum does not hold.
pub fn checkpoint_lines(path: &Path) -> Result<(Vec<String>, Option<LogError>), LogError> {
    let content = read_whole(path)?;
    if let Some(lines) = checkpoint::unseal(&content) {
        return Ok((lines.lines().map(str::to_owned).collect(), None));
    }
    // a damage that there was no room to describe
    let is_told_by_name = content.is_empty()
        && path.file_name().and_then(|name| name.to_str()) == Some(checkpoint::DAMAGE);
    let text = String::from_utf8_lossy(&content);
    let lines = text.lines().filter(|line| !checkpoint::is_frame(line)).map(str::to_owned);
    Ok((lines.collect(), (!is_told_by_name).then(|| unsound(path))))
}

/// A line of `partition-directories`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryLine {
    /// False: its topic was deleted.
    pub is_there: bool,
    pub topic_id: TopicId,
    pub directory: String,
    /// Of a line that says where the partition belongs: into which log directory.
    pub log_directory: Option<DirectoryId>,
}

/// The lines of a `partition-directories` file, in their order; `Err`: one that says nothing.
///
/// # Errors
/// The file cannot be read.
pub fn inventory_lines(path: &Path) -> Result<Vec<Result<InventoryLine, String>>, LogError> {
    let content = read_whole(path)?;
    let text = String::from_utf8_lossy(&content);
    let of = |is_there, topic_id, directory: &str, log_directory| {
        Ok(InventoryLine { is_there, topic_id, directory: directory.to_owned(), log_directory })
    };
    let line = |line: &str| match inventory::parse(line) {
        Some(Line::Written(topic_id, directory)) => of(true, topic_id, directory, None),
        Some(Line::Deleted(topic_id, directory)) => of(false, topic_id, directory, None),
        Some(Line::Placed(topic_id, directory, id)) => of(true, topic_id, directory, Some(id)),
        None => Err(line.to_owned()),
    };
    // An empty one only ends what was torn.
    Ok(text.lines().filter(|line| !line.is_empty()).map(line).collect())
}

fn read_whole(path: &Path) -> Result<Bytes, LogError> {
    let content = FileDisk.read(path).and_then(|content| match content {
        Some(content) => Ok(content),
        None => Err(io::ErrorKind::NotFound.into()),
    });
    content.map(Bytes::from).map_err(|e| LogError::io("read", path, e))
}

fn unsound(path: &Path) -> LogError {
    corrupt(path, 0, "the checksum does not match")
}

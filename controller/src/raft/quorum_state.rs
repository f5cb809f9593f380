//! What a voter must not forget, beside the database that may be damaged: `quorum-state`.
//!
//! ```text
//! | copy | up to 4096: empty | copy | up to 8192: empty |
//! copy = | "TRPQUOR1" | crc32c of the rest: 4 | length: 4 | generation: 8 | QuorumState |
//! ```
//!
//! Owns the vote, how far the log is durable, and whether this voter is recovering. Promises: each copy lies in a
//! block of its own, so that a flipped byte costs one of them and a power cut tears neither; the newer one counts; it
//! is written after what it speaks of is durable, and before anybody is told. So a database that lost its end is found
//! out: sled takes what it cannot read for the end of what was written, and says nothing.

use super::fault::{Faults, damage};
use super::identity::Identity;
use super::sealed::checksum;
use super::types::TypeConfig;
use openraft::alias::{LogIdOf, VoteOf};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"TRPQUOR1";
/// A copy has a block of the disk for itself.
const BLOCK: usize = 4096;
const HEAD: usize = 24;

/// What is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QuorumState {
    /// `None`: this node votes alone.
    pub identity: Option<Identity>,
    /// The highest vote that this voter ever gave, or the leader that it follows.
    pub vote: Option<VoteOf<TypeConfig>>,
    /// The last entry that was durable when this was written: it is in the log, or in its snapshot.
    pub last: Option<LogIdOf<TypeConfig>>,
    /// This voter lost its log, and is being filled again.
    pub recovering: Option<Recovering>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recovering {
    /// The damaged database has been set aside, and the one that is there is the new one.
    pub begun: bool,
    /// No vote was ever given that is higher than the one written here.
    pub vote_known: bool,
}

/// What stands in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    State(QuorumState),
    /// None was ever written: the directory is new, or an earlier version's.
    Nothing,
    /// No copy can be read.
    Damaged,
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("quorum-state")
}

/// Reads without changing anything.
pub(super) fn read(dir: &Path) -> io::Result<Found> {
    let bytes = match std::fs::read(path(dir)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    Ok(match newest(&bytes) {
        Some((_, state)) => Found::State(state),
        // One that was cut off while it was made: nothing has been promised by it.
        None if bytes.iter().all(|byte| *byte == 0) => Found::Nothing,
        None => Found::Damaged,
    })
}

/// The file, and what it shall say.
pub(super) struct QuorumStateFile {
    dir: PathBuf,
    faults: Faults,
    wanted: Mutex<QuorumState>,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    /// `None`: nothing has been written yet.
    file: Option<File>,
    generation: u64,
    state: Option<QuorumState>,
}

impl QuorumStateFile {
    /// To begin with, it shall say this. Until it is written, what stands in the file stays.
    pub fn new(dir: &Path, state: QuorumState, faults: Faults) -> QuorumStateFile {
        let (dir, wanted, written) = (dir.to_owned(), Mutex::new(state), Mutex::default());
        QuorumStateFile { dir, faults, wanted, written }
    }

    pub fn change(&self, change: impl FnOnce(&mut QuorumState)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// As it shall be.
    pub fn wanted(&self) -> QuorumState {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As it is on disk.
    pub fn durable(&self) -> QuorumState {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.state.clone().unwrap_or_default()
    }

    /// Makes both copies say this, if they do not yet. Blocks until they do.
    pub fn write(&self, state: &QuorumState) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.state.as_ref() == Some(state) {
            return Ok(());
        }
        if written.file.is_none() {
            let (file, generation) = self.faults.note(open(&self.dir))?;
            (written.file, written.generation) = (Some(file), generation);
        }
        let Written { file: Some(file), generation, .. } = &*written else { return Ok(()) };
        let generation = generation + 1;
        let copy = encode(generation, state)?;
        for at in [0, BLOCK as u64] {
            self.faults.note(file.write_all_at(&copy, at))?;
        }
        self.faults.note(file.sync_data().map_err(unsynced))?;
        (written.generation, written.state) = (generation, Some(state.clone()));
        Ok(())
    }

    /// Whether both copies on disk are what was written last.
    pub fn verify(&self) -> io::Result<()> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(state), Some(file)) = (&written.state, &written.file) else { return Ok(()) };
        let copy = encode(written.generation, state)?;
        for at in [0, BLOCK as u64] {
            let mut bytes = vec![0; copy.len()];
            file.read_exact_at(&mut bytes, at)?;
            if bytes != copy {
                return Err(damage("quorum-state: a copy is not what was written"));
            }
        }
        Ok(())
    }

    /// Writes both copies anew.
    pub fn restore(&self) -> io::Result<()> {
        let state = {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.state.take()
        };
        state.map_or(Ok(()), |state| self.write(&state))
    }
}

/// The file, and the generation of what stands in it.
fn open(dir: &Path) -> io::Result<(File, u64)> {
    let path = path(dir);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
    if file.metadata()?.len() < 2 * BLOCK as u64 {
        // Written, not left out: a full disk must not keep the vote from being written over it.
        file.write_all_at(&[0; 2 * BLOCK], 0)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
    }
    let generation = newest(&std::fs::read(&path)?).map_or(0, |(generation, _)| generation);
    Ok((file, generation))
}

/// After a flush that failed the kernel takes what it could not write for written: another flush would succeed.
pub(super) fn unsynced(error: io::Error) -> io::Error {
    damage(format!("a flush failed ({error}), and what the disk holds since is not known"))
}

fn encode(generation: u64, state: &QuorumState) -> io::Result<Vec<u8>> {
    let state = postcard::to_allocvec(state).map_err(io::Error::other)?;
    let length = u32::try_from(state.len()).map_err(io::Error::other)?;
    if HEAD + state.len() > BLOCK {
        return Err(io::Error::other("the list of voters is too long for quorum-state"));
    }
    let body = [&length.to_le_bytes()[..], &generation.to_le_bytes(), &state].concat();
    let crc = checksum(MAGIC, &body);
    Ok([&MAGIC[..], &crc.to_le_bytes(), &body].concat())
}

fn newest(bytes: &[u8]) -> Option<(u64, QuorumState)> {
    let copies = [0, BLOCK].into_iter().filter_map(|at| decode(bytes.get(at..)?));
    copies.max_by_key(|(generation, _)| *generation)
}

fn decode(copy: &[u8]) -> Option<(u64, QuorumState)> {
    let (crc, rest) = copy.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*rest.first_chunk::<4>()?) as usize;
    let body = rest.get(..length.checked_add(HEAD - 12)?)?;
    if checksum(MAGIC, body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (generation, state) = body[4..].split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*generation), postcard::from_bytes(state).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::testing::log_id;

    fn state(index: u64) -> QuorumState {
        let voters = vec![1, 2, 3];
        let identity = Identity { cluster_id: "cluster".into(), node_id: 1, voters };
        QuorumState {
            identity: Some(identity),
            last: Some(log_id::<TypeConfig>(3, 1, index)),
            ..QuorumState::default()
        }
    }

    #[test]
    fn one_flipped_byte_anywhere_costs_nothing_that_was_promised() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Found::Nothing);
        let file = QuorumStateFile::new(dir.path(), state(1), Faults::default());
        file.write(&state(1)).unwrap();
        file.write(&state(2)).unwrap();
        file.verify().unwrap();
        let whole = std::fs::read(path(dir.path())).unwrap();
        let length = encode(2, &state(2)).unwrap().len();
        for at in (0..length).chain(BLOCK..BLOCK + length) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            std::fs::write(path(dir.path()), &flipped).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Found::State(state(2)), "byte {at}");
            let again = QuorumStateFile::new(dir.path(), state(2), Faults::default());
            again.write(&state(2)).unwrap();
            again.verify().unwrap();
        }
        std::fs::write(path(dir.path()), vec![0xa5; 2 * BLOCK]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Found::Damaged);
    }

    /// A power cut leaves any part of what was not acknowledged.
    #[test]
    fn a_write_that_was_cut_off_leaves_the_old_or_the_new() {
        let dir = tempfile::tempdir().unwrap();
        let file = QuorumStateFile::new(dir.path(), state(1), Faults::default());
        file.write(&state(1)).unwrap();
        let old = std::fs::read(path(dir.path())).unwrap();
        file.write(&state(2)).unwrap();
        let new = std::fs::read(path(dir.path())).unwrap();
        for first_is_new in [true, false] {
            let (first, second) = if first_is_new { (&new, &old) } else { (&old, &new) };
            let torn = [&first[..BLOCK], &second[BLOCK..]].concat();
            std::fs::write(path(dir.path()), torn).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Found::State(state(2)), "it is whole already");
        }
        std::fs::write(path(dir.path()), [0; 100]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Found::Nothing, "cut off while it was made");
    }
}

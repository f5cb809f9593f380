//! What the database looks like, and what an earlier version's becomes when it is opened.
//!
//! The first version kept entries and marks without a checksum, in trees of other names. They are written anew, sealed,
//! and only then is it said that this is done: whoever is killed meanwhile begins again. Promise: that version does
//! not open what this one has written. It would find nothing, and vote as if it had never voted.

use super::entries::{COMMITTED, ENTRIES, IDENTITY, MARKS, PURGED, VOTE};
use super::entries::{decode, index_of, insert};
use super::fault::{damage, guarded};
use super::identity::Identity;
use super::sealed::{seal, unseal};
use super::types::TypeConfig;
use openraft::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::entry::RaftEntry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

const FORMAT_MARK: &str = "format";
const FORMAT: u32 = 1;
const OLD_ENTRIES: &str = "raft_log";
const OLD_MARKS: &str = "raft_marks";
/// What the first version takes for an identity that it cannot read.
const UNREADABLE: &[u8] = &[0xff; 16];

/// Makes the database one of this version, durable by `sync`. `was_used`: there was one.
///
/// # Errors
/// Damage, the disk's, or it is a later version's.
pub(super) fn settle(
    db: &sled::Db,
    was_used: bool,
    sync: impl Fn() -> io::Result<()>,
) -> io::Result<()> {
    let (entries, marks) = (guarded(|| db.open_tree(ENTRIES))?, guarded(|| db.open_tree(MARKS))?);
    if let Some(format) = guarded(|| marks.get(FORMAT_MARK))? {
        let format: u32 = unseal(FORMAT_MARK.as_bytes(), &format)?;
        return match format {
            FORMAT => Ok(()),
            later => Err(io::Error::other(format!(
                "it is of format {later}, and this version knows {FORMAT}: run the version that wrote it"
            ))),
        };
    }
    guarded(|| entries.clear())?;
    guarded(|| marks.clear())?;
    let old = Old {
        entries: guarded(|| db.open_tree(OLD_ENTRIES))?,
        marks: guarded(|| db.open_tree(OLD_MARKS))?,
    };
    if was_used && old.entries.is_empty() && old.marks.is_empty() {
        return Err(damage("nothing is left of it"));
    }
    old.convert(&entries, &marks)?;
    sync()?;
    let format = seal(FORMAT_MARK.as_bytes(), &FORMAT)?;
    guarded(|| marks.insert(FORMAT_MARK, format))?;
    guarded(|| old.marks.insert(IDENTITY, UNREADABLE))?;
    sync()?;
    guarded(|| old.entries.clear())?;
    sync()
}

/// The trees of the first version.
struct Old {
    entries: sled::Tree,
    marks: sled::Tree,
}

impl Old {
    fn convert(&self, entries: &sled::Tree, marks: &sled::Tree) -> io::Result<()> {
        self.convert_mark::<VoteOf<TypeConfig>>(marks, VOTE)?;
        self.convert_mark::<Option<LogIdOf<TypeConfig>>>(marks, COMMITTED)?;
        self.convert_mark::<Identity>(marks, IDENTITY)?;
        let purged = self.convert_mark::<LogIdOf<TypeConfig>>(marks, PURGED)?;
        let mut before = purged;
        for entry in self.read()? {
            let id = entry.log_id();
            if purged.is_some_and(|purged| id.index <= purged.index) {
                continue;
            }
            let mut batch = sled::Batch::default();
            insert(&mut batch, &(before, entry))?;
            guarded(|| entries.apply_batch(batch))?;
            before = Some(id);
        }
        Ok(())
    }

    fn convert_mark<T: Serialize + DeserializeOwned>(
        &self,
        marks: &sled::Tree,
        name: &str,
    ) -> io::Result<Option<T>> {
        let Some(bytes) = guarded(|| self.marks.get(name))? else { return Ok(None) };
        let value: T =
            decode(&bytes).map_err(|error| damage(format!("the {name} mark: {error}")))?;
        let sealed = seal(name.as_bytes(), &value)?;
        guarded(|| marks.insert(name, sealed))?;
        Ok(Some(value))
    }

    fn read(&self) -> io::Result<Vec<EntryOf<TypeConfig>>> {
        let mut gathered: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut chunks = self.entries.iter();
        while let Some((key, bytes)) = guarded(|| chunks.next().transpose())? {
            let index = index_of(&key)?;
            match gathered.last_mut() {
                Some((current, whole)) if *current == index => whole.extend_from_slice(&bytes),
                _ => gathered.push((index, bytes.to_vec())),
            }
        }
        let entry = |(index, whole): (u64, Vec<u8>)| {
            decode(&whole).map_err(|error| damage(format!("entry {index}: {error}")))
        };
        gathered.into_iter().map(entry).collect()
    }
}

/// As the first version wrote it.
#[cfg(test)]
pub(super) fn write_old(
    db: &sled::Db,
    vote: &VoteOf<TypeConfig>,
    written: &[EntryOf<TypeConfig>],
) -> io::Result<()> {
    use super::entries::{CHUNK_BYTES, encode, key};
    let (entries, marks) = (db.open_tree(OLD_ENTRIES).unwrap(), db.open_tree(OLD_MARKS).unwrap());
    marks.insert(VOTE, encode(vote)?).unwrap();
    for entry in written {
        for (number, chunk) in (0..).zip(encode(entry)?.chunks(CHUNK_BYTES)) {
            entries.insert(key(entry.log_id().index, number), chunk).unwrap();
        }
    }
    db.flush().unwrap();
    Ok(())
}

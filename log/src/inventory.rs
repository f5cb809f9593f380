//! Which partitions of a data directory have something on disk: so that a directory that vanishes is missed.
//!
//! ```text
//! + <topic id> <directory>       a partition was written to for the first time
//! - <topic id> <directory>       its topic was deleted
//! ```
//!
//! A file of such lines, to which is only added; at a start it is written anew. A line that is lost, or that there
//! was no room for, costs nothing but that nobody would notice. Not synced for the same reason.

use crate::disk::{Disk, FileDisk};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use troupe_proto::ids::TopicId;

pub(crate) const FILE: &str = "partition-directories";

/// See the module. Serves all threads.
#[derive(Debug)]
pub struct Inventory {
    path: PathBuf,
    known: Mutex<BTreeMap<String, TopicId>>,
}

impl Inventory {
    /// Of the data directory `dir`. What cannot be read counts as not there.
    pub fn open(dir: &Path) -> Inventory {
        let path = dir.join(FILE);
        let content = FileDisk.read(&path).ok().flatten().unwrap_or_default();
        let mut known = BTreeMap::new();
        for line in String::from_utf8_lossy(&content).split_inclusive('\n') {
            match line.strip_suffix('\n').and_then(parse) {
                Some((true, topic_id, name)) => drop(known.insert(name.to_owned(), topic_id)),
                Some((false, _, name)) => drop(known.remove(name)),
                None => {}
            }
        }
        Inventory { path, known: Mutex::new(known) }
    }

    /// Whether the partition with this directory, of this topic, was ever written to.
    pub fn has(&self, dir: &Path, topic_id: TopicId) -> bool {
        self.known().get(name_of(dir)) == Some(&topic_id)
    }

    /// The directory was made.
    ///
    /// # Errors
    /// It was not written down.
    pub fn add(&self, dir: &Path, topic_id: TopicId) -> io::Result<()> {
        let name = name_of(dir);
        if self.known().insert(name.to_owned(), topic_id) == Some(topic_id) {
            return Ok(());
        }
        self.append('+', topic_id, name)
    }

    /// The directory was found; written down by [`Inventory::retain`].
    pub fn find(&self, dir: &Path, topic_id: TopicId) {
        self.known().insert(name_of(dir).to_owned(), topic_id);
    }

    /// The directory is to be no more.
    pub fn remove(&self, dir: &Path) {
        let name = name_of(dir);
        let removed = self.known().remove(name);
        if let Some(topic_id) = removed {
            // The topic is gone from the metadata too: the next start forgets it.
            let _ = self.append('-', topic_id, name);
        }
    }

    /// Forgets topics that are gone, and writes the file anew.
    pub fn retain(&self, stays: impl Fn(TopicId) -> bool) {
        let mut known = self.known();
        known.retain(|_, topic_id| stays(*topic_id));
        let mut lines = String::new();
        for (name, topic_id) in known.iter() {
            let _infallible = writeln!(lines, "+ {topic_id} {name}");
        }
        // The old one says the same, only longer.
        let _ = FileDisk.replace(&self.path, lines.as_bytes(), false);
    }

    fn append(&self, sign: char, topic_id: TopicId, name: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(format!("{sign} {topic_id} {name}\n").as_bytes())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, TopicId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(dir: &Path) -> &str {
    dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

pub(crate) fn parse(line: &str) -> Option<(bool, TopicId, &str)> {
    let (sign, rest) = line.split_once(' ')?;
    let (topic_id, name) = rest.split_once(' ')?;
    let topic_id = crate::checkpoint::decode_topic_id(topic_id)?;
    match sign {
        "+" => Some((true, topic_id, name)),
        "-" => Some((false, topic_id, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_known_until_their_topic_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (TopicId::random(), TopicId::random());
        let path = |name: &str| dir.path().join(name);
        let inventory = Inventory::open(dir.path());
        inventory.add(&path("a-0"), one).unwrap();
        inventory.add(&path("a-1"), one).unwrap();
        inventory.add(&path("b-0"), other).unwrap();
        inventory.remove(&path("a-1"));
        let again = Inventory::open(dir.path());
        assert!(again.has(&path("a-0"), one) && again.has(&path("b-0"), other));
        assert!(!again.has(&path("a-1"), one) && !again.has(&path("a-0"), other));
        again.retain(|topic_id| topic_id == one);
        let again = Inventory::open(dir.path());
        assert!(again.has(&path("a-0"), one) && !again.has(&path("b-0"), other));
    }

    #[test]
    fn no_line_and_no_file_stands_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"+ x\n\xff\n+ + +\n+ torn").unwrap();
        let inventory = Inventory::open(dir.path());
        inventory.retain(|_| true);
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        let inventory = Inventory::open(dir.path());
        assert!(inventory.add(&dir.path().join("a-0"), TopicId::random()).is_err());
        inventory.retain(|_| true);
    }
}

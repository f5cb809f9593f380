//! Which partitions of a node have something on disk, and in which of its directories: so that what vanishes is
//! missed, and nothing is begun anew elsewhere while its directory is only away.
//!
//! ```text
//! + <topic id> <partition>                    it was written to for the first time
//! - <topic id> <partition>                    its topic was deleted
//! @ <topic id> <partition> <directory id>     it belongs into this directory
//! ```
//!
//! A file of such lines in the directory of the node's metadata, to which is only added; at a start it is written anew.
//! Where a partition belongs is on disk before anything is written there. Any other line that is lost, or that there
//! was no room for, costs nothing but that nobody would notice; not synced for the same reason.

use crate::checkpoint::{decode_directory_id, decode_topic_id};
use crate::disk::{Disk, FileDisk};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use troupe_proto::ids::{DirectoryId, TopicId};

pub(crate) const FILE: &str = "partition-directories";

/// See the module. Serves all threads. A partition is named as its directory is: `<topic>-<partition>`.
#[derive(Debug)]
pub struct Inventory {
    path: PathBuf,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    topic_id: TopicId,
    written: bool,
    directory: Option<DirectoryId>,
}

/// That a partition belongs into a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub name: String,
    pub topic_id: TopicId,
    pub directory: DirectoryId,
}

impl Inventory {
    /// Of the directory `dir`. What cannot be read counts as not there.
    pub fn open(dir: &Path) -> Inventory {
        let path = dir.join(FILE);
        let content = FileDisk.read(&path).ok().flatten().unwrap_or_default();
        let mut known = BTreeMap::new();
        for line in String::from_utf8_lossy(&content).split_inclusive('\n') {
            match line.strip_suffix('\n').and_then(parse) {
                Some(Line::Written(topic_id, name)) => {
                    entry(&mut known, name, topic_id).written = true
                }
                Some(Line::Placed(topic_id, name, directory)) => {
                    entry(&mut known, name, topic_id).directory = Some(directory);
                }
                Some(Line::Deleted(_, name)) => drop(known.remove(name)),
                None => {}
            }
        }
        Inventory { path, known: Mutex::new(known) }
    }

    /// Whether this partition, of this topic, was ever written to.
    pub fn has(&self, name: &str, topic_id: TopicId) -> bool {
        self.of(name, topic_id).is_some_and(|known| known.written)
    }

    /// Into which directory it belongs, if anybody has said so.
    pub fn directory_of(&self, name: &str, topic_id: TopicId) -> Option<DirectoryId> {
        self.of(name, topic_id).and_then(|known| known.directory)
    }

    /// How many partitions belong into each directory.
    pub fn counts(&self) -> BTreeMap<DirectoryId, usize> {
        let mut counts = BTreeMap::new();
        for directory in self.known().values().filter_map(|known| known.directory) {
            *counts.entry(directory).or_default() += 1;
        }
        counts
    }

    /// Its directory was made.
    ///
    /// # Errors
    /// It was not written down.
    pub fn add(&self, name: &str, topic_id: TopicId) -> io::Result<()> {
        let was_written =
            std::mem::replace(&mut entry(&mut self.known(), name, topic_id).written, true);
        if was_written {
            return Ok(());
        }
        self.append(&format!("+ {topic_id} {name}\n"), false)
    }

    /// It was found on disk, in this directory; written down by [`Inventory::retain`].
    pub fn find(&self, name: &str, topic_id: TopicId, directory: DirectoryId) {
        let mut known = self.known();
        let entry = entry(&mut known, name, topic_id);
        (entry.written, entry.directory) = (true, Some(directory));
    }

    /// From now on they belong there, which is on disk when this returns.
    ///
    /// # Errors
    /// It could not be written down: they belong where they did before.
    pub fn place(&self, placed: &[Placed]) -> io::Result<()> {
        // Whatever came before it and was torn stays a line of its own.
        let mut lines = String::from("\n");
        for Placed { name, topic_id, directory } in placed {
            let _infallible = writeln!(lines, "@ {topic_id} {name} {directory}");
        }
        self.append(&lines, true)?;
        self.assume(placed);
        Ok(())
    }

    /// The same as long as this process lives.
    pub fn assume(&self, placed: &[Placed]) {
        let mut known = self.known();
        for Placed { name, topic_id, directory } in placed {
            entry(&mut known, name, *topic_id).directory = Some(*directory);
        }
    }

    /// Its directory is to be no more.
    pub fn remove(&self, name: &str) {
        let removed = self.known().remove(name);
        if let Some(Known { topic_id, .. }) = removed {
            // The topic is gone from the metadata too: the next start forgets it.
            let _ = self.append(&format!("- {topic_id} {name}\n"), false);
        }
    }

    /// Forgets topics that are gone, and writes the file anew.
    pub fn retain(&self, stays: impl Fn(TopicId) -> bool) {
        let mut known = self.known();
        known.retain(|_, known| stays(known.topic_id));
        let mut lines = String::new();
        for (name, Known { topic_id, written, directory }) in known.iter() {
            if *written {
                let _infallible = writeln!(lines, "+ {topic_id} {name}");
            }
            if let Some(directory) = directory {
                let _infallible = writeln!(lines, "@ {topic_id} {name} {directory}");
            }
        }
        // The old one says the same, only longer.
        let _ = FileDisk.replace(&self.path, lines.as_bytes(), true);
    }

    fn append(&self, lines: &str, durably: bool) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(lines.as_bytes())?;
        if durably {
            file.sync_data()?;
            if let Some(dir) = self.path.parent() {
                FileDisk.sync_dir(dir)?;
            }
        }
        Ok(())
    }

    fn of(&self, name: &str, topic_id: TopicId) -> Option<Known> {
        self.known().get(name).copied().filter(|known| known.topic_id == topic_id)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a partition; of another topic under the same name, nothing is.
fn entry<'a>(
    known: &'a mut BTreeMap<String, Known>,
    name: &str,
    topic_id: TopicId,
) -> &'a mut Known {
    let new = Known { topic_id, written: false, directory: None };
    let entry = known.entry(name.to_owned()).or_insert(new);
    if entry.topic_id != topic_id {
        *entry = new;
    }
    entry
}

pub(crate) enum Line<'a> {
    Written(TopicId, &'a str),
    Deleted(TopicId, &'a str),
    Placed(TopicId, &'a str, DirectoryId),
}

pub(crate) fn parse(line: &str) -> Option<Line<'_>> {
    let (sign, rest) = line.split_once(' ')?;
    let (topic_id, name) = rest.split_once(' ')?;
    let topic_id = decode_topic_id(topic_id)?;
    match sign {
        "+" => Some(Line::Written(topic_id, name)),
        "-" => Some(Line::Deleted(topic_id, name)),
        "@" => {
            let (name, directory) = name.split_once(' ')?;
            Some(Line::Placed(topic_id, name, decode_directory_id(directory)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(name: &str, topic_id: TopicId, directory: DirectoryId) -> Placed {
        Placed { name: name.to_owned(), topic_id, directory }
    }

    #[test]
    fn directories_are_known_until_their_topic_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (TopicId::random(), TopicId::random());
        let inventory = Inventory::open(dir.path());
        inventory.add("a-0", one).unwrap();
        inventory.add("a-1", one).unwrap();
        inventory.add("b-0", other).unwrap();
        inventory.remove("a-1");
        let again = Inventory::open(dir.path());
        assert!(again.has("a-0", one) && again.has("b-0", other));
        assert!(!again.has("a-1", one) && !again.has("a-0", other));
        again.retain(|topic_id| topic_id == one);
        let again = Inventory::open(dir.path());
        assert!(again.has("a-0", one) && !again.has("b-0", other));
    }

    #[test]
    fn where_a_partition_belongs_is_remembered_whether_it_was_written_to_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let topic = TopicId::random();
        let (here, there) = (DirectoryId::random(), DirectoryId::random());
        let inventory = Inventory::open(dir.path());
        inventory.place(&[placed("a-0", topic, here), placed("a-1", topic, there)]).unwrap();
        inventory.add("a-1", topic).unwrap();
        inventory.place(&[placed("a-1", topic, here)]).unwrap();
        inventory.find("a-2", topic, there);
        for round in 0..2 {
            let again = Inventory::open(dir.path());
            assert_eq!(again.directory_of("a-0", topic), Some(here), "{round}");
            assert_eq!(again.directory_of("a-1", topic), Some(here), "moved, {round}");
            assert!(!again.has("a-0", topic) && again.has("a-1", topic), "{round}");
            assert_eq!(again.directory_of("a-0", TopicId::random()), None, "another topic's");
            assert_eq!(again.counts(), BTreeMap::from([(here, 2)]));
            again.retain(|_| true);
        }
    }

    /// An earlier version skips lines that it does not know, and this one reads what that one wrote.
    #[test]
    fn what_an_earlier_version_wrote_is_known_and_belongs_nowhere_yet() {
        let dir = tempfile::tempdir().unwrap();
        let topic = TopicId::random();
        std::fs::write(dir.path().join(FILE), format!("+ {topic} a-0\n")).unwrap();
        let inventory = Inventory::open(dir.path());
        assert!(inventory.has("a-0", topic));
        assert_eq!(inventory.directory_of("a-0", topic), None);
    }

    #[test]
    fn no_line_and_no_file_stands_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"+ x\n\xff\n+ + +\n@ x y z\n+ torn").unwrap();
        let inventory = Inventory::open(dir.path());
        inventory.retain(|_| true);
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        let inventory = Inventory::open(dir.path());
        let (topic, directory) = (TopicId::random(), DirectoryId::random());
        assert!(inventory.add("a-0", topic).is_err());
        assert!(inventory.place(&[placed("a-0", topic, directory)]).is_err());
        assert_eq!(inventory.directory_of("a-0", topic), None);
        inventory.retain(|_| true);
    }
}

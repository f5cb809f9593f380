//! What replicas have on disk, compared byte by byte. Reads segment files by the contract alone: whole
//! batches, each with its length before it; no code of the broker has a part in it.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// All batches of one replica, in the order of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaLog {
    bytes: Vec<u8>,
    batches: Vec<Batch>,
    files: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    offsets: Range<u64>,
    at: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    name: String,
    at: Range<usize>,
}

impl ReplicaLog {
    /// Reads every `.log` file of a partition's directory. A directory that is not there is an empty log.
    ///
    /// # Errors
    /// What is no batch, and where.
    pub fn read(directory: &Path) -> Result<ReplicaLog, String> {
        let mut paths: Vec<PathBuf> = match fs::read_dir(directory) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        // Names are base offsets of 20 digits.
        paths.sort();
        let mut log = ReplicaLog::default();
        for path in paths {
            let fault = |what: String| format!("{}: {what}", path.display());
            let content = fs::read(&path).map_err(|error| fault(error.to_string()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            log.add(name, &content).map_err(fault)?;
        }
        Ok(log)
    }

    fn add(&mut self, name: String, content: &[u8]) -> Result<(), String> {
        let base = self.bytes.len();
        let mut at = 0;
        while at < content.len() {
            let (length, offsets) =
                batch(&content[at..]).ok_or_else(|| format!("no batch at byte {at}"))?;
            if let Some(last) = self.batches.last()
                && last.offsets.end != offsets.start
            {
                let (end, start) = (last.offsets.end, offsets.start);
                return Err(format!("a batch of offset {start} at byte {at}, behind {end}"));
            }
            self.batches.push(Batch { offsets, at: base + at..base + at + length });
            at += length;
        }
        self.bytes.extend_from_slice(content);
        self.files.push(Segment { name, at: base..self.bytes.len() });
        Ok(())
    }

    /// From the first offset to the end of the last batch.
    pub fn offsets(&self) -> Range<u64> {
        let start = self.batches.first().map_or(0, |batch| batch.offsets.start);
        start..self.batches.last().map_or(0, |batch| batch.offsets.end)
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How the other differs: files of one name, then the batches of the offsets that both have, then the
    /// ends. `None`: not at all.
    pub fn difference(&self, other: &ReplicaLog) -> Option<String> {
        let mut found = String::new();
        for segment in &self.files {
            let Some(twin) = other.files.iter().find(|twin| twin.name == segment.name) else {
                continue;
            };
            let (mine, theirs) = (&self.bytes[segment.at.clone()], &other.bytes[twin.at.clone()]);
            // A file may end elsewhere; what it holds may not.
            let common = mine.len().min(theirs.len());
            if let Some(byte) = first_difference(&mine[..common], &theirs[..common]) {
                let offset = self.offset_at(segment.at.start + byte);
                let _ = write!(
                    found,
                    "{} differs from byte {byte} on ({:02x}, {:02x}), in the batch of offset {offset}; ",
                    segment.name, mine[byte], theirs[byte],
                );
            }
        }
        let (mine, theirs) = (self.offsets(), other.offsets());
        let common = mine.start.max(theirs.start)..mine.end.min(theirs.end);
        if found.is_empty() && self.slice(&common) != other.slice(&common) {
            let _ = write!(found, "the batches of {common:?} differ; ");
        }
        if mine.end != theirs.end {
            let _ = write!(found, "the logs end at {} and {}; ", mine.end, theirs.end);
        }
        (!found.is_empty()).then_some(found)
    }

    /// The bytes of all batches that lie within the offsets.
    fn slice(&self, offsets: &Range<u64>) -> Option<&[u8]> {
        let within = |batch: &&Batch| {
            offsets.start <= batch.offsets.start && batch.offsets.end <= offsets.end
        };
        let first = self.batches.iter().find(within)?;
        let last = self.batches.iter().rev().find(within)?;
        Some(&self.bytes[first.at.start..last.at.end])
    }

    fn offset_at(&self, byte: usize) -> u64 {
        let batch = self.batches.iter().find(|batch| batch.at.contains(&byte));
        batch.map_or(0, |batch| batch.offsets.start)
    }
}

fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    one.iter().zip(other).position(|(one, other)| one != other)
}

/// The batch at the beginning: its bytes with tag and length, and its offsets.
fn batch(bytes: &[u8]) -> Option<(usize, Range<u64>)> {
    const BATCHES: u8 = 1 << 3 | 2;
    const BASE_OFFSET: u8 = 1 << 3 | 1;
    const LEADER_EPOCH: u8 = 2 << 3 | 5;
    const LAST_OFFSET_DELTA: u8 = 3 << 3 | 5;
    let [BATCHES, rest @ ..] = bytes else { return None };
    let (mut length, mut width) = (0, 0);
    for (index, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        width = index + 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = rest.get(width..width + length)?;
    let [BASE_OFFSET, base @ ..] = body else { return None };
    let (base, rest) = base.split_first_chunk::<8>()?;
    let [LEADER_EPOCH, rest @ ..] = rest else { return None };
    let [LAST_OFFSET_DELTA, rest @ ..] = rest.get(4..)? else { return None };
    let (delta, _) = rest.split_first_chunk::<4>()?;
    let base = u64::from_le_bytes(*base);
    Some((1 + width + length, base..base + u64::from(u32::from_le_bytes(*delta)) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of `count` records as it lies in a file, with one byte for all that follows.
    fn stored(base: u64, count: u32, rest: u8) -> Vec<u8> {
        let mut body = vec![0x09];
        body.extend(base.to_le_bytes());
        body.push(0x15);
        body.extend(7_u32.to_le_bytes());
        body.push(0x1d);
        body.extend((count - 1).to_le_bytes());
        body.extend([rest; 200]);
        let length = body.len();
        let mut bytes = vec![0x0a, length as u8 | 0x80, (length >> 7) as u8 | 0x80, 0x80, 0x00];
        bytes.extend(body);
        bytes
    }

    fn log(files: &[(&str, Vec<Vec<u8>>)]) -> ReplicaLog {
        let mut log = ReplicaLog::default();
        for (name, batches) in files {
            log.add((*name).to_owned(), &batches.concat()).expect("batches are whole");
        }
        log
    }

    #[test]
    fn the_same_bytes_in_other_files_are_the_same() {
        let one = log(&[("0.log", vec![stored(0, 3, 1)]), ("3.log", vec![stored(3, 1, 2)])]);
        let other = log(&[("0.log", vec![stored(0, 3, 1), stored(3, 1, 2)])]);
        assert_eq!(one.difference(&other), None);
        assert_eq!(one.offsets(), 0..4);
        // Retention has been at work in one of them.
        let later = log(&[("3.log", vec![stored(3, 1, 2)])]);
        assert_eq!(one.difference(&later), None);
    }

    #[test]
    fn a_byte_that_differs_is_found() {
        let one = log(&[("0.log", vec![stored(0, 3, 1), stored(3, 1, 2)])]);
        let other = log(&[("0.log", vec![stored(0, 3, 1), stored(3, 1, 9)])]);
        let said = one.difference(&other).expect("they differ");
        assert!(said.contains("0.log differs from byte 248 on (02, 09)"), "{said}");
        assert!(said.contains("the batch of offset 3"), "{said}");
        let other = log(&[("0.log", vec![stored(0, 3, 1)]), ("3.log", vec![stored(3, 1, 9)])]);
        let said = one.difference(&other).expect("they differ");
        assert!(said.contains("the batches of 0..4 differ"), "{said}");
    }

    #[test]
    fn a_log_that_is_shorter_is_found() {
        let one = log(&[("0.log", vec![stored(0, 3, 1), stored(3, 1, 2)])]);
        let other = log(&[("0.log", vec![stored(0, 3, 1)])]);
        assert_eq!(one.difference(&other).expect("they differ"), "the logs end at 4 and 3; ");
        let empty = ReplicaLog::default();
        assert!(one.difference(&empty).is_some());
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let add = |bytes: Vec<u8>| ReplicaLog::default().add("0.log".to_owned(), &bytes);
        let mut cut = stored(0, 3, 1);
        cut.truncate(100);
        assert_eq!(add(cut), Err("no batch at byte 0".to_owned()));
        assert!(add([stored(0, 3, 1), vec![0; 64]].concat()).is_err());
        let hole = add([stored(0, 3, 1), stored(4, 1, 1)].concat());
        assert!(hole.is_err_and(|what| what.contains("behind 3")));
    }
}

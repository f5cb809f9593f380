//! The entries of one segment, in memory and in bytes.

use super::Aborted;
use troupe_proto::ids::{Offset, ProducerId};

/// Before the entries: what the file is, and in which version.
pub(crate) const HEADER: [u8; 8] = *b"TXNI\0\0\0\x01";
pub const VERSION: u32 = 1;
/// Producer id, first offset, last offset, and a CRC-32C over the segment's base offset and these three.
pub(crate) const ENTRY: usize = 28;
const CHECKED: usize = 24;
/// So many entries are passed over or looked at together.
const BLOCK: usize = 64;

/// Entries by their markers' offsets, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    entries: Vec<Aborted>,
    /// Of each block: where the earliest transaction begins that is in it, or in one behind it.
    earliest: Vec<Offset>,
}

impl List {
    /// Of one marker several may say where its transaction begins: the first one counts.
    pub(crate) fn of(mut entries: Vec<Aborted>) -> List {
        entries.sort_by_key(|entry| entry.last_offset);
        entries.dedup_by_key(|entry| entry.last_offset);
        let mut list = List { entries, earliest: Vec::new() };
        list.look_at_blocks();
        list
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn entries(&self) -> &[Aborted] {
        &self.entries
    }

    /// Where the earliest of all begins.
    pub(crate) fn earliest(&self) -> Option<Offset> {
        self.earliest.first().copied()
    }

    /// How many markers lie below.
    pub(crate) fn below(&self, end: Offset) -> usize {
        self.entries.partition_point(|entry| entry.last_offset < end)
    }

    pub(crate) fn has(&self, marker: Offset) -> bool {
        self.entries.get(self.below(marker)).is_some_and(|entry| entry.last_offset == marker)
    }

    /// Behind all others; false if it is not.
    pub(crate) fn push(&mut self, entry: Aborted) -> bool {
        if self.entries.last().is_some_and(|last| last.last_offset >= entry.last_offset) {
            return false;
        }
        self.entries.push(entry);
        if self.entries.len() > self.earliest.len() * BLOCK {
            self.earliest.push(entry.first_offset);
        }
        let later = self.earliest.iter_mut().rev();
        later
            .take_while(|earliest| **earliest >= entry.first_offset)
            .for_each(|earliest| *earliest = entry.first_offset);
        true
    }

    /// Those of which nothing is known yet; whether there were any.
    pub(crate) fn merge(&mut self, entries: Vec<Aborted>) -> bool {
        let before = self.len();
        let known = std::mem::take(&mut self.entries);
        *self = List::of(known.into_iter().chain(entries).collect());
        self.len() > before
    }

    /// Markers from `end` on are gone; whether there were any.
    pub(crate) fn truncate(&mut self, end: Offset) -> bool {
        let before = self.len();
        self.entries.truncate(self.below(end));
        if self.len() < before {
            self.look_at_blocks();
        }
        self.len() < before
    }

    /// All that lie in part from `from` on, and below `to`.
    pub(crate) fn overlapping(&self, from: Offset, to: Offset, into: &mut Vec<Aborted>) {
        let mut at = self.below(from);
        while at < self.len() && self.earliest[at / BLOCK] < to {
            let behind = ((at / BLOCK + 1) * BLOCK).min(self.len());
            let block = self.entries[at..behind].iter();
            into.extend(block.filter(|entry| entry.first_offset < to));
            at = behind;
        }
    }

    fn look_at_blocks(&mut self) {
        let blocks = self.entries.chunks(BLOCK);
        let of_block = blocks.map(|block| block.iter().map(|entry| entry.first_offset).min());
        self.earliest = of_block.map(Option::unwrap_or_default).collect();
        let mut earliest = Offset(u64::MAX);
        for of_block in self.earliest.iter_mut().rev() {
            earliest = earliest.min(*of_block);
            *of_block = earliest;
        }
    }

    /// The whole file.
    pub(crate) fn encode(&self, base: Offset) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER.len() + self.len() * ENTRY);
        bytes.extend_from_slice(&HEADER);
        for entry in &self.entries {
            bytes.extend_from_slice(&encode_entry(base, entry));
        }
        bytes
    }

    /// The last entry, with all that comes before it if it is the first; and where it belongs.
    pub(crate) fn encode_last(&self, base: Offset) -> (u64, Vec<u8>) {
        let Some((last, before)) = self.entries.split_last() else { return (0, Vec::new()) };
        let entry = encode_entry(base, last);
        match before.len() {
            0 => (0, [&HEADER[..], &entry].concat()),
            count => (file_len(count as u64), entry.to_vec()),
        }
    }

    /// The entries up to the first that is no good, and whether that is all there is.
    pub(crate) fn decode(base: Offset, content: &[u8]) -> (List, bool) {
        let mut list = List::default();
        let Some(body) = content.strip_prefix(&HEADER) else { return (list, false) };
        let (entries, rest) = body.as_chunks::<ENTRY>();
        for entry in entries {
            match decode_entry(base, entry) {
                Some(entry) if list.push(entry) => {}
                _ => return (list, false),
            }
        }
        let is_whole = rest.is_empty() && !list.is_empty();
        (list, is_whole)
    }
}

/// Of a file with so many entries.
pub(crate) fn file_len(count: u64) -> u64 {
    HEADER.len() as u64 + count * ENTRY as u64
}

/// How many entries a file of this length has.
pub(crate) fn count_in(len: u64) -> u64 {
    len.saturating_sub(HEADER.len() as u64) / ENTRY as u64
}

fn encode_entry(base: Offset, entry: &Aborted) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..8].copy_from_slice(&entry.producer_id.0.to_be_bytes());
    bytes[8..16].copy_from_slice(&entry.first_offset.0.to_be_bytes());
    bytes[16..CHECKED].copy_from_slice(&entry.last_offset.0.to_be_bytes());
    let crc = checksum(base, &bytes[..CHECKED]);
    bytes[CHECKED..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

pub(crate) fn decode_entry(base: Offset, bytes: &[u8; ENTRY]) -> Option<Aborted> {
    let (checked, crc) = bytes.split_at(CHECKED);
    if checksum(base, checked).to_be_bytes() != *crc {
        return None;
    }
    let [id, first, last] = [0, 8, 16].map(|at| {
        let number = checked[at..].first_chunk().expect("three numbers of eight bytes");
        i64::from_be_bytes(*number)
    });
    let producer_id = ProducerId::from_wire(id as u64)?;
    let (first_offset, last_offset) = (Offset::from_wire(first)?, Offset::from_wire(last)?);
    let fits = first_offset <= last_offset && base <= last_offset;
    fits.then_some(Aborted { producer_id, first_offset, last_offset })
}

/// An entry in the file of another segment is no good.
fn checksum(base: Offset, checked: &[u8]) -> u32 {
    let mut bytes = [0; 8 + CHECKED];
    bytes[..8].copy_from_slice(&base.0.to_be_bytes());
    bytes[8..].copy_from_slice(checked);
    crc_fast::crc32_iscsi(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn aborted(id: u64, first: u64, last: u64) -> Aborted {
        let (first_offset, last_offset) = (Offset(first), Offset(last));
        Aborted { producer_id: ProducerId(id), first_offset, last_offset }
    }

    #[test]
    fn a_torn_or_changed_file_gives_the_entries_before_and_says_so() {
        let list = List::of((0..5).map(|n| aborted(n + 1, n, 100 + n * 10)).collect());
        let content = list.encode(Offset(90));
        assert_eq!(content.len() as u64, file_len(5));
        assert_eq!(List::decode(Offset(90), &content), (list.clone(), true));
        for len in 0..content.len() {
            let (found, whole) = List::decode(Offset(90), &content[..len]);
            let count = count_in(len as u64);
            assert_eq!(found.entries, list.entries[..count as usize]);
            assert_eq!(whole, count > 0 && len as u64 == file_len(count), "{len}");
        }
        for at in 0..content.len() {
            let mut changed = content.clone();
            changed[at] ^= 1;
            let (found, whole) = List::decode(Offset(90), &changed);
            assert!(!whole && found.len() == count_in(at as u64) as usize, "{at}");
        }
        let (found, whole) = List::decode(Offset(91), &content);
        assert!(found.is_empty() && !whole, "of another segment");
    }

    proptest! {
        #[test]
        fn it_answers_as_a_search_through_all_would(
            steps in prop::collection::vec((1u64..4, 0u64..300), 1..400),
            cut in prop::option::of(0u64..900),
            (from, len) in (0u64..900, 0u64..200),
        ) {
            let (mut list, mut all, mut last) = (List::default(), Vec::new(), 0);
            for (further, before) in steps {
                last += further;
                let entry = aborted(further, last.saturating_sub(before), last);
                prop_assert!(list.push(entry) && !list.push(entry));
                all.push(entry);
            }
            if let Some(cut) = cut {
                list.truncate(Offset(cut));
                all.retain(|entry| entry.last_offset < Offset(cut));
            }
            prop_assert_eq!(&list, &List::of(all.iter().rev().copied().collect()));
            let (from, to) = (Offset(from), Offset(from + len));
            let mut found = Vec::new();
            list.overlapping(from, to, &mut found);
            all.retain(|entry| entry.last_offset >= from && entry.first_offset < to);
            prop_assert_eq!(found, all);
        }
    }
}

//! From a key to the last offset at which it was seen, in memory of a given size.
//!
//! A key is kept as a hash of 128 bits under a random key, so two keys share an entry only with a chance that no
//! log is long enough to meet. Open addressing, at most nine tenths full. Only the front part of the memory is in use
//! until more is needed: the rest is not taken from the system, and few keys lie close together. Keys are looked up all
//! over it: so it is taken in large pages, where the system has them, or finding the page costs more than the rest.

use siphasher::sip128::{Hash128, SipHasher13};
use troupe_proto::ids::Offset;

/// Two halves of a hash, and the offset plus one: zero is an empty slot.
type Slot = [u64; 3];

/// Slots in use at first.
const FIRST: usize = 1 << 12;
/// As soon as half of those in use are taken, so many times as many are.
const GROWTH: usize = 8;
/// Slots that are moved at a time.
const CHUNK: usize = 1 << 15;

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// See the module. Serves one pass after the other.
#[derive(Debug)]
pub struct OffsetMap {
    slots: Vec<Slot>,
    /// How many of them are in use, from the first on.
    used: usize,
    /// Keys that fit.
    room: usize,
    keys: usize,
    hasher: SipHasher13,
    /// Of a hash so many bits count: all of them, but in a test of what follows if they did not.
    mask: u64,
}

impl OffsetMap {
    /// Bytes for one key.
    pub const ENTRY: usize = size_of::<Slot>();

    /// In `bytes` of memory (`log.cleaner.dedupe.buffer.size`); room for one key at the least.
    pub fn new(bytes: usize) -> OffsetMap {
        let slots = (bytes / Self::ENTRY).max(2);
        let room = (slots * 9 / 10).max(1);
        OffsetMap {
            slots: empty(slots),
            used: slots.min(FIRST),
            room,
            keys: 0,
            hasher: SipHasher13::new(),
            mask: u64::MAX,
        }
    }

    /// Keys that it has room for.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Keys that are in it.
    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Forgets all keys; those of the next pass are hashed under `hash_key`.
    pub fn begin(&mut self, hash_key: &[u8; 16]) {
        if self.used > FIRST {
            let slots = self.slots.len();
            // new memory from the system is zero already, and is taken as it is touched
            self.slots = Vec::new();
            self.slots = empty(slots);
        } else if self.keys > 0 {
            self.slots[..self.used].fill([0; 3]);
        }
        self.used = self.slots.len().min(FIRST);
        self.keys = 0;
        self.hasher = SipHasher13::new_with_key(hash_key);
    }

    /// The key was seen at `offset`, which lies above all offsets of before.
    ///
    /// # Errors
    /// [`Full`]: the key is not in it, and there is no room.
    pub fn insert(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let (low, high) = self.hash(key);
        let at = self.find(low, high);
        if self.slots[at][2] == 0 {
            if self.keys == self.room {
                return Err(Full);
            }
            self.keys += 1;
        }
        self.slots[at] = [low, high, offset.0 + 1];
        if self.keys * 2 > self.used && self.used < self.slots.len() {
            self.use_more();
        }
        Ok(())
    }

    /// A slot's place follows from its hash's size, so slots go to their new places from the front to the back: as much
    /// memory is given back as is taken.
    fn use_more(&mut self) {
        let old: Vec<Box<[Slot]>> = self.slots[..self.used].chunks(CHUNK).map(Box::from).collect();
        self.slots[..self.used].fill([0; 3]);
        self.used = (self.used * GROWTH).min(self.slots.len());
        for chunk in old {
            for slot in chunk.iter().filter(|slot| slot[2] != 0) {
                let at = self.find(slot[0], slot[1]);
                self.slots[at] = *slot;
            }
        }
    }

    /// Where the key was seen last.
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let (low, high) = self.hash(key);
        self.slots[self.find(low, high)][2].checked_sub(1).map(Offset)
    }

    /// Only so many bits of a hash count from now on: shows what would become of keys that collide.
    #[doc(hidden)]
    pub fn weaken(&mut self, bits: u32) {
        self.mask = (1u64 << bits.min(63)) - 1;
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let Hash128 { h1, h2 } = self.hasher.hash(key);
        if self.mask == u64::MAX { (h1, h2) } else { (h1 & self.mask, 0) }
    }

    /// The key's slot, or the empty one that it would take; there is one, as a tenth of them is always empty.
    fn find(&self, low: u64, high: u64) -> usize {
        let slots = self.used;
        let mut at = ((u128::from(low) * slots as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || slot[0] == low && slot[1] == high {
                return at;
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}

/// So many, in memory that is taken as it is touched.
fn empty(slots: usize) -> Vec<Slot> {
    let slots = vec![[0; 3]; slots];
    in_large_pages(&slots);
    slots
}

#[cfg(target_os = "linux")]
fn in_large_pages(slots: &[Slot]) {
    const LARGE: usize = 2 << 20;
    let memory = slots.as_ptr_range();
    let begin = (memory.start as usize).next_multiple_of(LARGE);
    let end = memory.end as usize / LARGE * LARGE;
    if begin < end {
        // SAFETY: the range lies within the slots, which are mapped; what it is told is only advice.
        let _advice =
            unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn in_large_pages(_: &[Slot]) {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_full_map_refuses_new_keys_and_takes_known_ones() {
        for bytes in [0, 48, 240, 4096] {
            let mut map = OffsetMap::new(bytes);
            map.begin(&[3; 16]);
            let room = map.room() as u64;
            for key in 0..room {
                map.insert(&key.to_le_bytes(), Offset(key)).unwrap();
            }
            assert_eq!(map.insert(b"one too many", Offset(room)), Err(Full));
            assert_eq!(map.get(b"one too many"), None);
            map.insert(&0u64.to_le_bytes(), Offset(room)).unwrap();
            assert_eq!(map.get(&0u64.to_le_bytes()), Some(Offset(room)));
            map.begin(&[4; 16]);
            assert!(map.is_empty() && map.get(&0u64.to_le_bytes()).is_none());
        }
    }

    #[test]
    fn an_entry_takes_a_hash_of_sixteen_bytes_and_an_offset_of_eight() {
        assert_eq!(OffsetMap::ENTRY, 24);
        assert_eq!(OffsetMap::new(24_000).room(), 900);
    }

    #[test]
    fn no_key_is_lost_when_more_memory_comes_into_use() {
        let mut map = OffsetMap::new(200_000 * OffsetMap::ENTRY);
        for pass in 1..3u8 {
            map.begin(&[pass; 16]);
            for key in 0..map.room() as u64 {
                map.insert(&key.to_le_bytes(), Offset(key)).unwrap();
                if key.is_power_of_two() {
                    let found = (0..=key).all(|it| map.get(&it.to_le_bytes()) == Some(Offset(it)));
                    assert!(found && map.get(&(key + 1).to_le_bytes()).is_none());
                }
            }
            assert_eq!(map.used, 200_000);
            assert_eq!(map.len(), map.room());
            for key in 0..map.room() as u64 {
                assert_eq!(map.get(&key.to_le_bytes()), Some(Offset(key)));
            }
        }
    }

    proptest! {
        #[test]
        fn it_answers_as_a_map_of_keys_would(
            seen in prop::collection::vec((0u16..300, 1u64..9), 0..400),
            hash_key in any::<[u8; 16]>(),
        ) {
            let mut map = OffsetMap::new(400 * OffsetMap::ENTRY);
            map.begin(&hash_key);
            let (mut expected, mut offset) = (BTreeMap::new(), 0);
            for (key, further) in seen {
                map.insert(&key.to_le_bytes(), Offset(offset)).unwrap();
                expected.insert(key, Offset(offset));
                offset += further;
            }
            prop_assert_eq!(map.len(), expected.len());
            for key in 0..300u16 {
                prop_assert_eq!(map.get(&key.to_le_bytes()), expected.get(&key).copied());
            }
        }
    }
}

//! From a key to the last offset at which it was seen, in memory of a given size.
//!
//! A key is kept as a hash of 128 bits under a random key, so two keys share an entry only with a chance that no
//! log is long enough to meet. Open addressing, at most nine tenths full; memory that no pass has touched is not
//! taken from the system.

use siphasher::sip128::{Hash128, SipHasher13};
use troupe_proto::ids::Offset;

/// Two halves of a hash, and the offset plus one: zero is an empty slot.
type Slot = [u64; 3];

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// See the module. Serves one pass after the other.
#[derive(Debug)]
pub struct OffsetMap {
    slots: Vec<Slot>,
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
            slots: vec![[0; 3]; slots],
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
        if self.keys > 0 {
            let slots = self.slots.len();
            // new memory from the system is zero already, and is taken as it is touched
            self.slots = Vec::new();
            self.slots = vec![[0; 3]; slots];
            self.keys = 0;
        }
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
        Ok(())
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
        let slots = self.slots.len();
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

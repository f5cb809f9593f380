//! When each thing was decided about last, for as long as a request that began before that may still come.

use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};

/// How long a decision is remembered. No request lasts longer.
pub(crate) const KEPT_MS: u64 = 60_000;

#[derive(Clone, Debug)]
pub(crate) struct Latest<K> {
    at: BTreeMap<K, Time>,
    in_order: VecDeque<(Time, K)>,
}

impl<K> Default for Latest<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), in_order: VecDeque::new() }
    }
}

impl<K: Ord + Clone> Latest<K> {
    /// None: never, or so long ago that no request is older.
    pub fn of(&self, key: &K) -> Option<Time> {
        self.at.get(key).copied()
    }

    /// This was decided now. What is old is forgotten.
    pub fn note(&mut self, now: Time, key: K) {
        self.at.insert(key.clone(), now);
        self.in_order.push_back((now, key));
        while let Some((time, key)) =
            self.in_order.pop_front_if(|(time, _)| time.plus(KEPT_MS) < now)
        {
            if self.at.get(&key) == Some(&time) {
                self.at.remove(&key);
            }
        }
    }

    #[cfg(test)]
    pub fn remembered(&self) -> (usize, usize) {
        (self.at.len(), self.in_order.len())
    }
}

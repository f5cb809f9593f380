//! What hangs together on one stream, by the numbers that its client chose.

use crate::partition::Chain;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Numbers that are remembered, beside those with a batch that is not answered yet.
const REMEMBERED: usize = 8_192;

/// Promise: a batch is never taken for the first of its number if it is not. Those used last are remembered; of an
/// older one nobody knows any more whether all before it were appended, and so nothing more of it is.
#[derive(Default)]
pub struct Chains {
    by_number: HashMap<u64, Known>,
    /// Numbers, by when they were last used.
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    /// The highest number that was forgotten. Clients count upwards.
    forgotten: u64,
}

struct Known {
    chain: Arc<Chain>,
    used: u64,
}

impl Chains {
    pub fn find(&mut self, number: u64) -> Option<Arc<Chain>> {
        if number == 0 {
            return None;
        }
        self.uses += 1;
        let used = self.uses;
        if let Some(known) = self.by_number.get_mut(&number) {
            self.by_use.remove(&known.used);
            self.by_use.insert(used, number);
            known.used = used;
            return Some(Arc::clone(&known.chain));
        }
        let chain = Arc::new(Chain::new(CancellationToken::new()));
        if number <= self.forgotten {
            chain.sever();
            return Some(chain);
        }
        self.by_number.insert(number, Known { chain: Arc::clone(&chain), used });
        self.by_use.insert(used, number);
        self.forget();
        Some(chain)
    }

    fn forget(&mut self) {
        for _ in REMEMBERED..self.by_number.len() {
            let Some((_, number)) = self.by_use.pop_first() else { return };
            match self.by_number.get_mut(&number) {
                // A batch holds it until it is answered: it is in use.
                Some(known) if Arc::strong_count(&known.chain) > 1 => {
                    self.uses += 1;
                    known.used = self.uses;
                    self.by_use.insert(known.used, number);
                }
                _ => {
                    self.by_number.remove(&number);
                    self.forgotten = self.forgotten.max(number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_behind_a_failure_is_refused_however_many_others_came_between() {
        let mut chains = Chains::default();
        let used = chains.find(1).unwrap();
        chains.find(2).unwrap().sever();
        let waits = chains.find(3).unwrap();
        drop(used);
        for number in 10..3 * REMEMBERED as u64 {
            assert!(!chains.find(number).unwrap().is_broken());
            assert!(!chains.find(1).unwrap().is_broken(), "what is used is remembered");
        }
        assert!(chains.find(2).unwrap().is_broken(), "forgotten, and not taken for a new one");
        assert!(!chains.find(3).unwrap().is_broken());
        waits.sever();
        assert!(chains.find(3).unwrap().is_broken(), "what is unanswered is remembered");
        assert!(chains.by_number.len() <= REMEMBERED + 2);
        assert_eq!(chains.by_number.len(), chains.by_use.len());
    }

    #[test]
    fn what_hangs_together_with_nothing_has_no_number() {
        assert!(Chains::default().find(0).is_none());
    }
}

//! Whether a pass may wait for all that has more to do: as long as cleaning keeps up with what comes.
//!
//! A pass takes what others leave of the processor. Where they leave too little, a log has grown dirtier by its end than it
//! was at its beginning, and is due again at once: then the next pass takes its share as whoever serves requests does, until
//! what is dirty becomes less. So producers are held up only where the log would grow without bound otherwise.

use crate::time::Time;
use std::collections::BTreeMap;
use troupe_proto::ids::PartitionKey;

/// How a pass is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// With what others leave.
    AfterAll,
    /// As one of them.
    WithOthers,
}

/// A log that is due so soon after a pass was due all the time.
const AT_ONCE_MS: u64 = 1_000;
/// What a pass takes in a moment is no reason for haste.
const LEAST_BYTES: u64 = 64 << 20;

/// See the module: the last pass of each log.
#[derive(Clone, Debug, Default)]
pub(super) struct Hastes(BTreeMap<PartitionKey, LastPass>);

#[derive(Clone, Copy, Debug)]
struct LastPass {
    /// When it began.
    dirty_bytes: u64,
    haste: Haste,
    ended: Option<Time>,
}

impl Hastes {
    pub(super) fn begins(&mut self, now: Time, key: PartitionKey, dirty_bytes: u64) -> Haste {
        let before = self.0.get(&key).filter(|before| {
            dirty_bytes >= LEAST_BYTES
                && before.ended.is_some_and(|ended| now <= ended.plus(AT_ONCE_MS))
        });
        let haste = match before {
            // a quarter more, or, in haste already, not a quarter less
            Some(LastPass { dirty_bytes: then, haste: Haste::AfterAll, .. })
                if dirty_bytes / 5 > then / 4 =>
            {
                Haste::WithOthers
            }
            Some(LastPass { dirty_bytes: then, haste: Haste::WithOthers, .. })
                if dirty_bytes / 3 > then / 4 =>
            {
                Haste::WithOthers
            }
            _ => Haste::AfterAll,
        };
        self.0.insert(key, LastPass { dirty_bytes, haste, ended: None });
        haste
    }

    pub(super) fn ended(&mut self, now: Time, key: PartitionKey) {
        if let Some(pass) = self.0.get_mut(&key) {
            pass.ended = Some(now);
        }
    }

    /// Only these are here any more.
    pub(super) fn forget_others(&mut self, is_here: impl Fn(PartitionKey) -> bool) {
        self.0.retain(|key, _| is_here(*key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Haste::{AfterAll, WithOthers};
    use troupe_proto::ids::{PartitionId, TopicId};

    #[test]
    fn a_pass_takes_its_share_when_more_comes_than_passes_take_away_and_until_less_is_left() {
        let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
        let key = PartitionKey { topic_id, partition: PartitionId(1) };
        let (mut hastes, mut now) = (Hastes::default(), Time(5_000));
        let mut next = |pause: u64, share_of_least: u64| {
            let begun = hastes.begins(now.plus(pause), key, LEAST_BYTES / 10 * share_of_least);
            now = now.plus(pause + 20_000);
            hastes.ended(now, key);
            begun
        };
        assert_eq!(next(0, 90), AfterAll, "however large it is: nothing was done about it yet");
        assert_eq!(next(0, 100), AfterAll, "about as much: it keeps up");
        assert_eq!(next(0, 130), WithOthers);
        assert_eq!(next(0, 130), WithOthers, "it does not become less");
        assert_eq!(next(0, 90), AfterAll);
        assert_eq!(next(60_000, 200), AfterAll, "it was not due meanwhile");
        assert_eq!(next(0, 5), AfterAll);
        assert_eq!(next(0, 9), AfterAll, "more, and little all the same");
    }

    #[test]
    fn a_pass_that_came_to_nothing_says_nothing_of_how_much_comes() {
        let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
        let key = PartitionKey { topic_id, partition: PartitionId(1) };
        let mut hastes = Hastes::default();
        assert_eq!(hastes.begins(Time(1), key, LEAST_BYTES), AfterAll);
        assert_eq!(hastes.begins(Time(2), key, LEAST_BYTES * 4), AfterAll);
        hastes.ended(Time(3), key);
        assert_eq!(hastes.begins(Time(4), key, LEAST_BYTES * 9), WithOthers);
    }
}

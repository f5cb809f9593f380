//! Which log is compacted next (S21), and when a segment has to be closed so that it can be.
//!
//! Owns what became of the last passes. Promises: nothing is cleaned by two at once; what has waited too long comes
//! before what is dirtiest; nothing below its ratio is cleaned otherwise, but for tombstones whose time is over, when
//! there is nothing else to do; what could not be cleaned is left in peace for longer each time.
//! Never here: a clock, a log, a thread.

mod courtesy;
mod haste;
mod rate;

pub use courtesy::Courtesy;
pub use haste::Haste;
pub use rate::Rate;

use crate::config::{Ratio, TopicConfig};
use crate::time::Time;
use haste::Hastes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use troupe_proto::ids::PartitionKey;

/// What the configuration of a topic says about compacting its logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub min_dirty_ratio: Ratio,
    pub max_lag_ms: u64,
    /// The topic is the cluster's own, and read as a whole by whoever takes over one of its partitions.
    pub is_read_whole: bool,
}

impl Rules {
    pub fn of(config: &TopicConfig, is_read_whole: bool) -> Rules {
        Rules {
            min_dirty_ratio: config.min_cleanable_dirty_ratio,
            max_lag_ms: config.max_compaction_lag_ms,
            is_read_whole,
        }
    }
}

/// A log as it stands, in bytes of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Cleaned before.
    pub clean_bytes: u64,
    /// Not cleaned yet, and may be now.
    pub dirty_bytes: u64,
    /// In the segment that takes the appends, which is never cleaned.
    pub active_bytes: u64,
    /// When the first record came that is not cleaned.
    pub dirty_since: Option<Time>,
    /// That one stands in the segment that takes the appends, and has waited for `max.compaction.lag.ms`.
    pub roll_due: bool,
    /// A pass over what is clean would remove tombstones.
    pub tombstones_due: bool,
}

/// A partition read whole is worth cleaning once this much has come: read at 30 MB/s, it takes some 70 ms.
pub const READ_WHOLE_BYTES: u64 = 2 << 20;
/// Of any other log so much may come before it is looked at again, however little it holds.
const LOOK_BYTES: u64 = 64 << 20;

impl Standing {
    /// How much of what could be cleaned is dirty.
    pub fn dirty_ratio(&self) -> Ratio {
        Ratio::of(self.dirty_bytes, self.clean_bytes.saturating_add(self.dirty_bytes))
    }

    /// Whether the segment that takes the appends has to be closed now: something in it has waited for
    /// `max.compaction.lag.ms`; or the log is one that is read whole, and this segment alone would make it dirty
    /// enough, however large segments may become.
    pub fn must_roll(&self, rules: &Rules) -> bool {
        // Not with the dirty ones before it: those may have to wait, and then it would be closed at every look.
        let large = self.active_bytes >= READ_WHOLE_BYTES.max(self.clean_bytes);
        self.active_bytes > 0 && (self.roll_due || (rules.is_read_whole && large))
    }

    /// So many bytes may be appended before the log has to be looked at, whatever the time: by then it can have become
    /// dirty enough, or the segment that takes the appends large enough.
    ///
    /// So a log that is read whole holds at most three times what a pass leaves and [`READ_WHOLE_BYTES`], besides what comes
    /// while it is looked at and cleaned: what is clean, as much in closed segments that is not worth a pass yet, and as
    /// much in the one that takes the appends.
    pub fn bytes_to_next_look(&self, rules: &Rules) -> u64 {
        let least = if rules.is_read_whole { READ_WHOLE_BYTES } else { LOOK_BYTES };
        let not_cleaned = self.dirty_bytes.saturating_add(self.active_bytes);
        // where the smallest ratio is large, more than this may come; looking is cheap
        least.max(self.clean_bytes).saturating_sub(not_cleaned).max(least / 2)
    }

    fn urgency(&self, rules: &Rules, now: Time) -> Option<Urgency> {
        if self.dirty_bytes == 0 {
            return self.tombstones_due.then_some(Urgency::Tombstones(self.clean_bytes));
        }
        let overdue = self.dirty_since.filter(|since| since.plus(rules.max_lag_ms) <= now);
        let ratio = self.dirty_ratio();
        match overdue {
            Some(since) => Some(Urgency::Overdue(Reverse(since))),
            None if ratio > rules.min_dirty_ratio => Some(Urgency::Dirty(ratio, self.dirty_bytes)),
            None => self.tombstones_due.then_some(Urgency::Tombstones(self.clean_bytes)),
        }
    }
}

/// In order: the last is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Bytes that are looked through for their sake.
    Tombstones(u64),
    Dirty(Ratio, u64),
    Overdue(Reverse<Time>),
}

/// A log that could be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub key: PartitionKey,
    pub standing: Standing,
    pub rules: Rules,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// What it made is of no use: the log became another one meanwhile.
    Void,
    /// The log cannot be cleaned as it is.
    Failed,
}

/// Doublings of the first rest.
const MOST_DOUBLINGS: u32 = 8;

/// What the passes of a node come to.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// `log.cleaner.backoff.ms`
    backoff_ms: u64,
    under_way: BTreeSet<PartitionKey>,
    resting: BTreeMap<PartitionKey, Rest>,
    hastes: Hastes,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Time,
    /// Passes without success, one after the other.
    failures: u32,
}

impl Schedule {
    pub fn new(backoff_ms: u64) -> Schedule {
        Schedule {
            backoff_ms,
            under_way: BTreeSet::new(),
            resting: BTreeMap::new(),
            hastes: Hastes::default(),
        }
    }

    /// From now on.
    pub fn set_backoff(&mut self, backoff_ms: u64) {
        self.backoff_ms = backoff_ms;
    }

    /// The log to clean now, if any: it is under way until [`Schedule::ended`].
    pub fn next(&mut self, now: Time, candidates: &[Candidate]) -> Option<PartitionKey> {
        let free = candidates.iter().filter(|candidate| self.is_free(now, candidate.key));
        let urgent = free.filter_map(|Candidate { key, standing, rules }| {
            standing.urgency(rules, now).map(|urgency| (urgency, Reverse(*key)))
        });
        let (_, Reverse(key)) = urgent.max()?;
        self.under_way.insert(key);
        Some(key)
    }

    /// How the pass over a log that [`Schedule::next`] has given is to be run.
    pub fn haste(&mut self, now: Time, key: PartitionKey, standing: &Standing) -> Haste {
        self.hastes.begins(now, key, standing.dirty_bytes)
    }

    fn is_free(&self, now: Time, key: PartitionKey) -> bool {
        !self.under_way.contains(&key) && self.rests_until(key).is_none_or(|until| until <= now)
    }

    /// Until when it is left in peace.
    pub fn rests_until(&self, key: PartitionKey) -> Option<Time> {
        self.resting.get(&key).map(|rest| rest.until)
    }

    pub fn ended(&mut self, now: Time, key: PartitionKey, how: Ended) {
        let was_under_way = self.under_way.remove(&key);
        debug_assert!(was_under_way, "a pass ends that never began");
        if how == Ended::Done {
            self.resting.remove(&key);
            self.hastes.ended(now, key);
            return;
        }
        let failures = self.resting.get(&key).map_or(0, |rest| rest.failures);
        let rest_ms = self.backoff_ms.saturating_mul(1 << failures.min(MOST_DOUBLINGS));
        let rest = Rest { until: now.plus(rest_ms), failures: failures.saturating_add(1) };
        self.resting.insert(key, rest);
    }

    /// Only these are here any more.
    pub fn forget_others(&mut self, is_here: impl Fn(PartitionKey) -> bool) {
        self.resting.retain(|key, _| is_here(*key));
        self.hastes.forget_others(is_here);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::{PartitionId, TopicId};

    const RULES: Rules = Rules {
        min_dirty_ratio: Ratio::from_millionths(500_000),
        max_lag_ms: i64::MAX as u64,
        is_read_whole: false,
    };
    const NOW: Time = Time(1_000_000);

    fn key(number: u32) -> PartitionKey {
        let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
        PartitionKey { topic_id, partition: PartitionId(number) }
    }

    fn log(number: u32, clean_bytes: u64, dirty_bytes: u64) -> Candidate {
        let dirty_since = Some(Time(NOW.0 - 1_000));
        let standing = Standing { clean_bytes, dirty_bytes, dirty_since, ..Standing::default() };
        Candidate { key: key(number), standing, rules: RULES }
    }

    fn next(candidates: &[Candidate]) -> Option<u32> {
        Schedule::new(100).next(NOW, candidates).map(|key| key.partition.0)
    }

    /// S21.
    #[test]
    fn the_dirtiest_log_is_cleaned_first_and_none_that_is_not_dirty_enough() {
        assert_eq!(next(&[log(0, 100, 110), log(1, 10, 90), log(2, 10, 80)]), Some(1));
        assert_eq!(next(&[log(0, 100, 100), log(1, 100, 0), log(2, 0, 0)]), None);
        assert_eq!(next(&[log(3, 0, 10), log(4, 0, 20)]), Some(4), "of equals the larger");
        assert_eq!(next(&[log(6, 0, 10), log(5, 0, 10)]), Some(5));
    }

    /// S21.
    #[test]
    fn what_has_waited_too_long_comes_first_however_clean() {
        let rules = Rules { max_lag_ms: 1_000, ..RULES };
        let late = Candidate { rules, ..log(0, 1_000, 1) };
        let mut later = Candidate { rules, ..log(1, 1_000, 1) };
        later.standing.dirty_since = Some(Time(NOW.0 - 2_000));
        assert_eq!(next(&[log(2, 0, 900), late]), Some(0));
        assert_eq!(next(&[log(2, 0, 900), late, later]), Some(1));
        let early = Candidate { rules: Rules { max_lag_ms: 1_001, ..RULES }, ..late };
        assert_eq!(next(&[early]), None);
    }

    #[test]
    fn no_log_is_cleaned_by_two_at_once() {
        let mut schedule = Schedule::new(100);
        let logs = [log(0, 0, 10), log(1, 0, 5)];
        assert_eq!(schedule.next(NOW, &logs), Some(key(0)));
        assert_eq!(schedule.next(NOW, &logs), Some(key(1)));
        assert_eq!(schedule.next(NOW, &logs), None);
        schedule.ended(NOW, key(0), Ended::Done);
        assert_eq!(schedule.next(NOW, &logs), Some(key(0)));
    }

    #[test]
    fn a_log_that_could_not_be_cleaned_rests_longer_each_time_and_holds_no_other_up() {
        let (mut schedule, mut now) = (Schedule::new(100), NOW);
        let logs = [log(0, 0, 10), log(1, 0, 5)];
        for (how, rest) in [(Ended::Void, 100), (Ended::Failed, 200), (Ended::Void, 400)] {
            assert_eq!(schedule.next(now, &logs), Some(key(0)));
            schedule.ended(now, key(0), how);
            assert_eq!(schedule.rests_until(key(0)), Some(now.plus(rest)));
            assert_eq!(schedule.next(now, &logs), Some(key(1)));
            schedule.ended(now, key(1), Ended::Done);
            now = now.plus(rest);
        }
        assert_eq!(schedule.next(now, &logs), Some(key(0)));
        schedule.ended(now, key(0), Ended::Done);
        assert_eq!(schedule.rests_until(key(0)), None, "a success ends it");
        for _ in 0..40 {
            assert_eq!(schedule.next(now, &logs[..1]), Some(key(0)));
            schedule.ended(now, key(0), Ended::Failed);
            let until = schedule.rests_until(key(0)).unwrap();
            assert!(until <= now.plus(100 << MOST_DOUBLINGS), "{until:?}");
            now = until;
        }
        schedule.forget_others(|_| false);
        assert_eq!(schedule.rests_until(key(0)), None);
    }

    /// S21.
    #[test]
    fn the_longest_lag_has_the_segment_closed_that_takes_the_appends() {
        let due = Standing { active_bytes: 1, roll_due: true, ..Standing::default() };
        assert!(due.must_roll(&RULES));
        assert!(!Standing { roll_due: false, ..due }.must_roll(&RULES));
        assert!(!Standing { active_bytes: 0, ..due }.must_roll(&RULES), "there is nothing in it");
    }

    /// Kafka keeps them until something new has come.
    #[test]
    fn tombstones_whose_time_is_over_go_from_a_log_to_which_nothing_comes_after_all_that_is_dirty()
    {
        let quiet = |number, dirty_bytes| {
            let mut quiet = log(number, 1_000, dirty_bytes);
            quiet.standing.tombstones_due = true;
            quiet
        };
        assert_eq!(next(&[quiet(0, 0)]), Some(0));
        assert_eq!(next(&[quiet(0, 1)]), Some(0), "too little is dirty");
        assert_eq!(next(&[quiet(0, 0), log(1, 10, 90)]), Some(1));
    }

    #[test]
    fn a_log_is_looked_at_before_more_has_come_than_it_may_hold() {
        let whole = Rules { is_read_whole: true, ..RULES };
        let standing = |clean_bytes, dirty_bytes, active_bytes| Standing {
            clean_bytes,
            dirty_bytes,
            active_bytes,
            ..Standing::default()
        };
        assert_eq!(standing(0, 0, 0).bytes_to_next_look(&whole), READ_WHOLE_BYTES);
        let clean = 5 * READ_WHOLE_BYTES;
        assert_eq!(standing(clean, 0, 0).bytes_to_next_look(&whole), clean);
        assert_eq!(standing(clean, 7, 11).bytes_to_next_look(&whole), clean - 18);
        let grown = standing(clean, 0, clean - 18 + 18);
        assert!(grown.must_roll(&whole), "by then the segment is closed");
        let full = standing(0, 9 * READ_WHOLE_BYTES, 0).bytes_to_next_look(&whole);
        assert_eq!(full, READ_WHOLE_BYTES / 2, "it waits for something: not at every append");
        assert!(standing(0, 0, 0).bytes_to_next_look(&RULES) > READ_WHOLE_BYTES);
    }

    /// Whatever `segment.bytes` says: the time that a coordinator takes to load is bounded by this.
    #[test]
    fn what_is_read_whole_has_no_large_segment_that_is_not_cleaned() {
        let rules = Rules { is_read_whole: true, ..RULES };
        let active = |clean_bytes, active_bytes| Standing {
            clean_bytes,
            active_bytes,
            ..Standing::default()
        };
        assert!(active(0, READ_WHOLE_BYTES).must_roll(&rules));
        assert!(!active(0, READ_WHOLE_BYTES - 1).must_roll(&rules));
        assert!(!active(0, READ_WHOLE_BYTES).must_roll(&RULES));
        let clean = 3 * READ_WHOLE_BYTES;
        assert!(!active(clean, clean - 1).must_roll(&rules), "as much again may come");
        assert!(active(clean, clean).must_roll(&rules));
        let waiting = Standing { dirty_bytes: clean, ..active(clean, 1) };
        assert!(!waiting.must_roll(&rules), "what is closed already is no reason");
    }
}

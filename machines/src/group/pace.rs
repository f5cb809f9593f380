//! How often the members of a node commit what they have been acknowledged.
//!
//! A commit is a write on every in-sync replica. A few members commit often, so that little is delivered again after a
//! crash; many commit seldom, and at the same moments: then what all of them bring goes to a coordinator in one call,
//! and into its log as one batch. What somebody waits for is not put off that long, but shares its moments too.

use crate::time::Time;

/// Between two commits of a member that is alone on its node, and for each more of them.
const EACH_MS: u64 = 20;
const MOST_MS: u64 = 1_000;
/// Of the time between two commits, the part for which one waits for those of the others at the same moment: their
/// timers do not ring at once.
const GATHERING_SHARE: u64 = 20;

/// The pace of each of so many members of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    interval_ms: u64,
    is_alone: bool,
}

impl Pace {
    /// `awaited`: somebody waits for the commit.
    pub fn new(members: usize, awaited: bool) -> Self {
        let count = u64::try_from(members).unwrap_or(u64::MAX);
        let interval_ms = match awaited {
            true => EACH_MS,
            false => EACH_MS.saturating_mul(count).clamp(EACH_MS, MOST_MS),
        };
        Self { interval_ms, is_alone: members <= 1 }
    }

    /// Between two commits of a member.
    pub fn interval_ms(self) -> u64 {
        self.interval_ms
    }

    /// When a member commits that has something to commit since `now`, and began to commit at `last`. Of several, all
    /// at the same moments.
    pub fn next_commit(self, now: Time, last: Option<Time>) -> Time {
        if self.is_alone {
            return last.map_or(now, |last| last.plus(self.interval_ms).max(now));
        }
        Time((now.0 / self.interval_ms + 1).saturating_mul(self.interval_ms))
    }

    /// How long a commit waits for those of other members.
    pub fn gathering_ms(self) -> u64 {
        if self.is_alone { 0 } else { self.interval_ms / GATHERING_SHARE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(members: usize, awaited: bool, now: u64, last: Option<u64>) -> Time {
        Pace::new(members, awaited).next_commit(Time(now), last.map(Time))
    }

    #[test]
    fn a_few_commit_soon_and_many_together_and_seldom() {
        let interval = |members| Pace::new(members, false).interval_ms();
        assert_eq!([0, 1, 5, 50, 5_000].map(interval), [20, 20, 100, 1_000, 1_000]);
        assert_eq!(next(1, false, 10_007, None), Time(10_007), "the first at once");
        assert_eq!(next(1, false, 10_007, Some(10_000)), Time(10_020));
        assert_eq!(next(1, false, 10_007, Some(9_000)), Time(10_007));
        for moved in [10_007, 10_500, 10_999] {
            assert_eq!(next(300, false, moved, Some(10_000)), Time(11_000));
        }
        assert_eq!(next(300, false, 11_000, None), Time(12_000));
    }

    #[test]
    fn what_somebody_waits_for_is_soon_committed_and_of_many_members_together_too() {
        assert_eq!(next(1, true, 10_007, Some(10_000)), Time(10_020));
        for moved in [10_001, 10_019] {
            assert_eq!(next(300, true, moved, None), Time(10_020));
        }
    }

    #[test]
    fn nobody_waits_long_for_the_others_and_one_alone_not_at_all() {
        let gathering = |members, awaited| Pace::new(members, awaited).gathering_ms();
        assert_eq!(gathering(1, false), 0);
        assert_eq!([2, 10, 300].map(|members| gathering(members, false)), [2, 10, 50]);
        assert_eq!(gathering(300, true), 1);
    }
}

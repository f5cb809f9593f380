//! How often the members of a node commit what they have been acknowledged.
//!
//! A commit is a write on every in-sync replica. A few members commit often, so that little is delivered again after a
//! crash; many commit seldom, and at the same moments: then a coordinator writes what all of them bring as one batch.

use crate::time::Time;

/// Between two commits of a member that is alone on its node, and for each more of them.
const EACH_MS: u64 = 20;
const MOST_MS: u64 = 1_000;

/// Between two commits of each of so many members of a node.
pub fn commit_interval_ms(members: usize) -> u64 {
    let members = u64::try_from(members).unwrap_or(u64::MAX);
    EACH_MS.saturating_mul(members).clamp(EACH_MS, MOST_MS)
}

/// When a member commits that has something to commit since `now`, and began to commit at `last`. Of several, all at
/// the same ticks.
pub fn next_commit(now: Time, last: Option<Time>, members: usize) -> Time {
    let interval = commit_interval_ms(members);
    if interval == EACH_MS {
        return last.map_or(now, |last| last.plus(interval).max(now));
    }
    Time((now.0 / interval + 1).saturating_mul(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_commit_soon_and_many_together_and_seldom() {
        assert_eq!([0, 1, 5, 50, 5_000].map(commit_interval_ms), [20, 20, 100, 1_000, 1_000]);
        let now = Time(10_007);
        assert_eq!(next_commit(now, None, 1), now, "the first at once");
        assert_eq!(next_commit(now, Some(Time(10_000)), 1), Time(10_020));
        assert_eq!(next_commit(now, Some(Time(9_000)), 1), now);
        for moved in [10_007, 10_500, 10_999] {
            assert_eq!(next_commit(Time(moved), Some(Time(10_000)), 300), Time(11_000));
        }
        assert_eq!(next_commit(Time(11_000), None, 300), Time(12_000));
    }
}

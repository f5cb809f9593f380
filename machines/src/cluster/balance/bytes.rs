//! How much each site has to keep: where replicas and leaderships are even and bytes are not, two replicas of the same
//! kind change places.

use super::layout::Layout;
use std::cmp::Reverse;

/// A site may have so many percent more or less than its share.
const TOLERANCE_PERCENT: i128 = 10;
/// Of those that fit nearly as well, so many are tried on either side.
const NEAREST: usize = 8;

impl Layout {
    /// Swaps replicas until every site has its share of the bytes, or none helps.
    pub fn level_bytes(&mut self) {
        while let Some((goes, from, comes, to)) = self.swap() {
            self.replace(goes, from, to);
            self.replace(comes, to, from);
        }
    }

    /// How much more a site has than replicas of the average size would be, and how much that may be.
    fn excess(&self, site: usize, bytes: i128, replicas: i128) -> (i128, i128) {
        let share = bytes * i128::from(self.loads[site].replicas) / replicas.max(1);
        (i128::from(self.loads[site].bytes) - share, share * TOLERANCE_PERCENT / 100)
    }

    fn swap(&self) -> Option<(usize, usize, usize, usize)> {
        let sum = |of: &dyn Fn(usize) -> u64| self.takers().map(|at| i128::from(of(at))).sum();
        let bytes: i128 = sum(&|site| self.loads[site].bytes);
        let replicas: i128 = sum(&|site| self.loads[site].replicas);
        let excess = |site: usize| self.excess(site, bytes, replicas).0;
        let is_off = |site: usize| {
            let (excess, tolerated) = self.excess(site, bytes, replicas);
            excess.abs() > tolerated
        };
        let mut full: Vec<usize> = self.takers().collect();
        full.sort_by_key(|site| (Reverse(excess(*site)), *site));
        let empty: Vec<usize> = full.iter().rev().copied().collect();
        for &from in &full {
            for &to in &empty {
                let gap = excess(from) - excess(to);
                if gap <= 0 {
                    break;
                }
                if !is_off(from) && !is_off(to) {
                    continue;
                }
                if let Some((goes, comes)) = self.best_swap(from, to, gap) {
                    return Some((goes, from, comes, to));
                }
            }
        }
        None
    }

    /// A replica here and a smaller one there, whose difference comes nearest to half of the gap.
    fn best_swap(&self, from: usize, to: usize, gap: i128) -> Option<(usize, usize)> {
        let size = |partition: usize| i128::from(self.partitions[partition].size);
        let mut there: Vec<usize> =
            self.held[to].iter().copied().filter(|it| self.may_move(*it, to, from)).collect();
        there.sort_by_key(|it| (size(*it), *it));
        let mut best: Option<(i128, usize, usize)> = None;
        let here = self.held[from].iter().copied().filter(|it| self.may_move(*it, from, to));
        for goes in here {
            let wanted = size(goes) - gap / 2;
            let at = there.partition_point(|it| size(*it) < wanted);
            for &comes in &there[at.saturating_sub(NEAREST)..(at + NEAREST).min(there.len())] {
                let leads = self.leader(goes) == Some(from);
                let gain = size(goes) - size(comes);
                // Less than a twentieth of the gap is not worth two copies.
                let helps = gain * 20 > gap && gain < gap;
                if !helps || leads != (self.leader(comes) == Some(to)) {
                    continue;
                }
                let left = (gap - 2 * gain).abs();
                if best.is_none_or(|(least, ..)| left < least) {
                    best = Some((left, goes, comes));
                }
            }
        }
        best.map(|(_, goes, comes)| (goes, comes))
    }
}

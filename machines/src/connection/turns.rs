//! Deficit round robin among the connections of a shard.
//!
//! Whoever runs the shard takes the connections in turn; [`Turns`] says how much each may read in its turn. What a
//! turn costs beyond its allowance, which is known only when it has been read, is owed and paid by the next ones.

/// What a turn allows, in bytes. Large enough that a bulk transfer does not notice that it is one of one.
pub const QUANTUM: i64 = 128 << 10;
/// What a call costs beside its bytes: opening one and answering it takes about as long as reading so much.
pub const CALL_COST: i64 = 4 << 10;

#[derive(Debug, Default)]
pub struct Turns {
    /// Negative: owed.
    left: i64,
}

impl Turns {
    /// The connection's turn has come. What it did not use of the last one is gone.
    pub fn begin(&mut self) {
        self.left = self.left.saturating_add(QUANTUM).min(QUANTUM);
    }

    /// Bytes that may be read now; none: the others first.
    pub fn allowance(&self) -> usize {
        usize::try_from(self.left).unwrap_or(0)
    }

    /// So many bytes were read, in which so many calls begin.
    pub fn spend(&mut self, bytes: usize, calls: u32) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let cost = bytes.saturating_add(CALL_COST.saturating_mul(calls.into()));
        self.left = self.left.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_taken_more_than_a_turn_allows_sits_out_the_next_ones() {
        let mut turns = Turns::default();
        turns.begin();
        let allowed = turns.allowance();
        assert_eq!(allowed as i64, QUANTUM);
        // A burst of calls in few bytes.
        turns.spend(1_000, 100);
        let owed = 100 * CALL_COST + 1_000 - QUANTUM;
        assert!(owed > 0);
        for _ in 0..owed / QUANTUM {
            assert_eq!(turns.allowance(), 0);
            turns.begin();
        }
        turns.begin();
        assert!(turns.allowance() > 0);
    }

    #[test]
    fn nothing_is_saved_up() {
        let mut turns = Turns::default();
        (0..10).for_each(|_| turns.begin());
        assert_eq!(turns.allowance() as i64, QUANTUM);
    }

    /// Over any time, two connections that always want more get the same.
    #[test]
    fn a_caller_of_many_small_calls_and_a_sender_of_bulk_are_served_alike() {
        let (mut calls, mut bulk) = (Turns::default(), Turns::default());
        let (mut calls_cost, mut bulk_cost) = (0, 0);
        for _ in 0..10_000 {
            calls.begin();
            while calls.allowance() > 0 {
                calls.spend(4_096, 150);
                calls_cost += 4_096 + 150 * CALL_COST;
            }
            bulk.begin();
            while bulk.allowance() > 0 {
                let read = bulk.allowance();
                bulk.spend(read, 0);
                bulk_cost += read as i64;
            }
        }
        assert!((calls_cost - bulk_cost).abs() <= 1 << 20, "{calls_cost} {bulk_cost}");
    }
}

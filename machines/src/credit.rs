//! How much of a stream may be under way to its reader: little for one that does not read, as much as the connection
//! needs for one that reads as fast as it comes.
//!
//! ```text
//!            taken                 granted
//!  ────────────┼──── outstanding ─────┼────►   outstanding ≤ window, but for one batch that is larger
//! ```
//!
//! The window begins small. It doubles when the reader waited for what it takes and everything that was granted had
//! been used up: then the connection, not the reader, is what holds it up.

/// Of a reader that has taken nothing yet.
pub const LEAST_BYTES: u64 = 64 << 10;
/// Of one that is far away.
pub const MOST_BYTES: u64 = 4 << 20;
/// Credit is given back in pieces of at least such a part of the window.
const GRANT_PART: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Credit {
    window: u64,
    /// Granted and not taken. Negative after a batch that was larger than what was granted.
    outstanding: i64,
    /// Taken since the window was grown.
    taken: u64,
}

impl Default for Credit {
    fn default() -> Self {
        Credit { window: LEAST_BYTES, outstanding: to_signed(LEAST_BYTES), taken: 0 }
    }
}

impl Credit {
    /// Of a stream that begins: what it is granted.
    pub fn first(&self) -> u64 {
        self.window
    }

    pub fn window(&self) -> u64 {
        self.window
    }

    /// The reader takes so much, for which it `waited` or which was at hand: what is granted now, if anything is.
    pub fn take(&mut self, bytes: usize, waited: bool) -> Option<u64> {
        let bytes = bytes as u64;
        self.outstanding = self.outstanding.saturating_sub(to_signed(bytes));
        self.taken = self.taken.saturating_add(bytes);
        if waited && self.taken >= self.window {
            self.window = (2 * self.window).min(MOST_BYTES);
            self.taken = 0;
        }
        let missing = to_signed(self.window).saturating_sub(self.outstanding);
        let missing = u64::try_from(missing).unwrap_or_default();
        if missing < self.window / GRANT_PART {
            return None;
        }
        self.outstanding = to_signed(self.window);
        Some(missing)
    }
}

fn to_signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads so much in answers of `answer` bytes; all that was granted, and the most that was under way.
    fn read(credit: &mut Credit, total: u64, answer: usize, waits: bool) -> u64 {
        let (mut granted, mut taken, mut most) = (credit.first(), 0, 0);
        while taken < total {
            most = most.max(granted - taken);
            let answer = (answer as u64).min(granted - taken);
            taken += answer;
            granted += credit.take(answer as usize, waits).unwrap_or_default();
            assert!(granted > taken, "it comes to a stop");
            assert!(granted - taken <= MOST_BYTES);
        }
        most
    }

    #[test]
    fn a_reader_that_takes_nothing_costs_little() {
        assert_eq!(Credit::default().first(), 64 << 10);
    }

    #[test]
    fn a_reader_that_waits_soon_has_all_that_the_way_needs() {
        let mut credit = Credit::default();
        // Each window once before the next.
        read(&mut credit, 2 * MOST_BYTES, 16 << 10, true);
        assert_eq!(credit.window(), MOST_BYTES);
        let most = read(&mut Credit::default(), 64 << 20, 256 << 10, true);
        assert!(most > MOST_BYTES / 2, "{most} bytes");
    }

    #[test]
    fn a_reader_for_whom_everything_is_at_hand_has_no_more_under_way_than_at_first() {
        let mut credit = Credit::default();
        assert_eq!(read(&mut credit, 64 << 20, 10_000, false), LEAST_BYTES);
        assert_eq!(credit.window(), LEAST_BYTES);
    }

    #[test]
    fn a_batch_larger_than_the_window_is_paid_for_as_a_whole() {
        let mut credit = Credit::default();
        assert_eq!(credit.take(1 << 20, false), Some(1 << 20), "and the window is open again");
    }
}

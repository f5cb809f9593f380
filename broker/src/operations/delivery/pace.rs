//! How much one message of a stream holds: much for a client that takes much, little for one that does not.
//!
//! A stream that stands still costs the node the message that its client has not taken. So messages begin small, grow
//! with what is taken quickly, and share a total among all streams. Pure: time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// Messages begin with this, and are never kept smaller.
pub const FIRST_BYTES: usize = 16 << 10;
/// No message grows beyond this, but for one record that is larger.
pub const MOST_BYTES: usize = 1 << 20;
/// What the messages of all streams together hold, if all of them stand still.
const TOTAL_BYTES: usize = 64 << 20;
/// Taken so quickly that the next message may be larger.
const QUICK: Duration = Duration::from_millis(500);
/// So much may lie in the client's window without anybody reading it: it says nothing.
const UNREAD_BYTES: usize = 128 << 10;

pub struct Pace {
    bytes: usize,
    taken: usize,
    /// The last message: when, and how much of what it was allowed.
    sent: Option<(Instant, usize)>,
}

impl Pace {
    pub fn new() -> Pace {
        Pace { bytes: FIRST_BYTES, taken: 0, sent: None }
    }

    /// The client takes the next message, one of so many streams: what it may hold.
    pub fn allowed(&mut self, now: Instant, streams: usize) -> usize {
        if let Some((at, bytes)) = self.sent.take() {
            self.taken = self.taken.saturating_add(bytes);
            if now.duration_since(at) > QUICK {
                self.bytes = FIRST_BYTES;
            } else if self.taken > UNREAD_BYTES && 2 * bytes >= self.bytes {
                self.bytes = (2 * self.bytes).min(MOST_BYTES);
            }
        }
        self.bytes.min((TOTAL_BYTES / streams.max(1)).max(FIRST_BYTES))
    }

    pub fn sent(&mut self, now: Instant, bytes: usize) {
        self.sent = Some((now, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_grow_with_what_is_taken_and_shrink_when_it_is_not() {
        let (mut pace, mut now, mut sizes) = (Pace::new(), Instant::now(), Vec::new());
        for _ in 0..20 {
            let allowed = pace.allowed(now, 1);
            sizes.push(allowed);
            pace.sent(now, allowed);
            now += Duration::from_millis(10);
        }
        let window = sizes.iter().scan(0, |sum, size| {
            *sum += size;
            Some((*sum, *size))
        });
        assert!(
            window.filter(|(sum, _)| *sum <= UNREAD_BYTES).all(|(_, size)| size == FIRST_BYTES)
        );
        assert_eq!(sizes.last(), Some(&MOST_BYTES));
        now += QUICK * 2;
        assert_eq!(pace.allowed(now, 1), FIRST_BYTES);
    }

    #[test]
    fn small_messages_prove_nothing() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        for _ in 0..100_000 {
            assert_eq!(pace.allowed(now, 1), FIRST_BYTES);
            pace.sent(now, 100);
        }
    }

    #[test]
    fn all_streams_together_hold_no_more_than_the_total() {
        for streams in [1, 10, 64, 100, 1_000, 4_096] {
            let (mut pace, now) = (Pace::new(), Instant::now());
            let mut allowed = 0;
            for _ in 0..100 {
                allowed = pace.allowed(now, streams);
                pace.sent(now, allowed);
            }
            assert!(allowed * streams <= TOTAL_BYTES, "{streams} streams of {allowed} bytes");
        }
        assert_eq!(Pace::new().allowed(Instant::now(), 1 << 20), FIRST_BYTES);
    }
}

//! How long the only message of a call may take to come.
//!
//! | of the message comes | borne for |
//! |---|---|
//! | nothing, or nothing more | `limit` |
//! | something now and then | `limit`, and a second more for each 1,000 bytes that have come |
//!
//! Only time counts in which the node waits for it: what the node does not read yet, the client may not be able to send.

use crate::time::Time;

/// Slower than this is standing still.
const LEAST_BYTES_PER_MS: u64 = 1;

#[derive(Debug)]
pub struct ReadTimeout {
    limit_ms: u64,
    bytes: u64,
    /// Before the wait of now.
    waited_ms: u64,
    waits_since: Option<Time>,
}

impl ReadTimeout {
    pub fn new(limit_ms: u64) -> ReadTimeout {
        ReadTimeout { limit_ms: limit_ms.max(1), bytes: 0, waited_ms: 0, waits_since: None }
    }

    /// There is nothing to read: until when more is waited for.
    pub fn wait(&mut self, now: Time) -> Time {
        let since = *self.waits_since.get_or_insert(now);
        let earned = self.limit_ms.saturating_add(self.bytes / LEAST_BYTES_PER_MS);
        since.plus(earned.saturating_sub(self.waited_ms).min(self.limit_ms))
    }

    /// So many bytes more have come.
    pub fn take(&mut self, now: Time, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if let Some(since) = self.waits_since.take() {
            self.waited_ms = self.waited_ms.saturating_add(now.0.saturating_sub(since.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Until when it is waited for, if so many bytes come every so often.
    fn end(bytes: usize, every_ms: u64, size: usize) -> Option<Time> {
        let (mut read_timeout, mut came) = (ReadTimeout::new(100), 0);
        for now in (0..).map(Time) {
            if came >= size {
                return None;
            }
            if now >= read_timeout.wait(now) {
                return Some(now);
            }
            if every_ms > 0 && now.0 % every_ms == 0 {
                read_timeout.take(now, bytes);
                came += bytes;
            }
        }
        None
    }

    #[test]
    fn what_does_not_come_and_what_trickles_is_not_waited_for() {
        assert_eq!(end(0, 0, 1), Some(Time(100)));
        let trickling = end(1, 10, 1_000_000).unwrap();
        assert!(trickling > Time(100) && trickling < Time(150), "{trickling:?}");
        // As slow as may be, and as long as it takes.
        assert_eq!(end(20, 20, 1_000_000), None);
        assert_eq!(end(50_000, 99, 64 << 20), None);
    }

    #[test]
    fn what_has_come_fast_buys_no_silence() {
        let mut read_timeout = ReadTimeout::new(100);
        read_timeout.take(Time(5), 60 << 20);
        assert_eq!(read_timeout.wait(Time(7)), Time(107));
        assert_eq!(read_timeout.wait(Time(50)), Time(107), "the same wait");
    }

    #[test]
    fn time_in_which_nobody_reads_does_not_count() {
        let mut read_timeout = ReadTimeout::new(100);
        read_timeout.wait(Time(0));
        read_timeout.take(Time(1), 10);
        assert_eq!(read_timeout.wait(Time(100_000)), Time(100_100));
    }
}

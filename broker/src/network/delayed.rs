//! Bytes that are late: each piece is due at its time, and none before those that came before it.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// What may be under way at once, in bytes: with more, whoever sends waits, as on a real line.
const MOST: usize = 8 << 20;

#[derive(Debug, Default)]
pub(super) struct Delayed {
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
}

impl Delayed {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.bytes >= MOST
    }

    pub fn push(&mut self, now: Instant, delay: Duration, piece: Bytes) {
        let last = self.pieces.back().map_or(now, |(due, _)| *due);
        self.bytes += piece.len();
        self.pieces.push_back((last.max(now + delay), piece));
    }

    /// When the first is due.
    pub fn due(&self) -> Option<Instant> {
        self.pieces.front().map(|(due, _)| *due)
    }

    /// The first, if it is due.
    pub fn first(&self, now: Instant) -> Option<&[u8]> {
        let (due, piece) = self.pieces.front()?;
        (*due <= now).then_some(piece)
    }

    /// So much of the first has arrived.
    pub fn advance(&mut self, taken: usize) {
        let Some((_, piece)) = self.pieces.front_mut() else { return };
        piece.advance(taken);
        self.bytes -= taken;
        if piece.is_empty() {
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_keeps_its_order() {
        let (mut delayed, now) = (Delayed::default(), Instant::now());
        let ms = Duration::from_millis;
        delayed.push(now, ms(50), Bytes::from_static(b"one"));
        delayed.push(now, ms(10), Bytes::from_static(b"two"));
        assert_eq!(delayed.first(now + ms(20)), None, "the second is behind the first");
        assert_eq!(delayed.first(now + ms(50)), Some(&b"one"[..]));
        delayed.advance(2);
        assert_eq!(delayed.first(now + ms(50)), Some(&b"e"[..]));
        delayed.advance(1);
        assert_eq!(delayed.first(now + ms(50)), Some(&b"two"[..]));
        delayed.advance(3);
        assert!(delayed.is_empty() && delayed.due().is_none() && delayed.bytes == 0);
    }
}

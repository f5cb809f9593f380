//! Where a peer is in the HTTP/2 that it sends: in its preface, in a frame, in a block of headers, or between.
//!
//! [`Frames`] walks over the bytes as they come; it looks at the nine bytes before each frame and at nothing else,
//! so a faulty peer is somebody else's to refuse.
//!
//! ```text
//!  preface (24 bytes) | SETTINGS | HEADERS [CONTINUATION…] | DATA | …
//!                     ^ greeted  ^ introduced
//! ```

use crate::time::Time;

/// What every HTTP/2 client says first.
const PREFACE_LEN: u32 = 24;
const HEAD_LEN: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[derive(Debug)]
pub struct Frames {
    preface_left: u32,
    head: [u8; HEAD_LEN],
    head_len: usize,
    /// Of the frame that has begun, without its head.
    payload_left: u32,
    introduced: bool,
    /// Headers have begun, and have not ended with their last frame.
    in_headers: bool,
    /// A frame has begun and is not there as a whole.
    unfinished_since: Option<Time>,
    /// The same of what is no data: the preface, headers up to their end, all small frames.
    unfinished_head_since: Option<Time>,
    last_byte: Time,
    last_frame: Time,
}

impl Frames {
    /// Of a connection that begins.
    pub fn new(now: Time) -> Frames {
        Frames {
            preface_left: PREFACE_LEN,
            head: [0; HEAD_LEN],
            head_len: 0,
            payload_left: 0,
            introduced: false,
            in_headers: false,
            unfinished_since: Some(now),
            unfinished_head_since: Some(now),
            last_byte: now,
            last_frame: now,
        }
    }

    /// Takes what has come. Returns how many calls begin in it.
    pub fn take(&mut self, now: Time, mut bytes: &[u8]) -> u32 {
        let mut calls = 0;
        if !bytes.is_empty() {
            self.last_byte = now;
        }
        while !bytes.is_empty() {
            if self.preface_left > 0 {
                self.preface_left -= skip(&mut bytes, self.preface_left);
            } else if self.head_len < HEAD_LEN {
                self.unfinished_since.get_or_insert(now);
                self.unfinished_head_since.get_or_insert(now);
                self.head[self.head_len] = bytes[0];
                self.head_len += 1;
                bytes = &bytes[1..];
                if self.head_len < HEAD_LEN {
                    continue;
                }
                let [a, b, c, ..] = self.head;
                self.payload_left = u32::from_be_bytes([0, a, b, c]);
                calls += u32::from(self.kind() == HEADERS);
                if self.kind() == DATA {
                    self.end_of_head();
                }
                self.end_if_whole(now);
            } else {
                self.payload_left -= skip(&mut bytes, self.payload_left);
                self.end_if_whole(now);
            }
        }
        calls
    }

    fn kind(&self) -> u8 {
        self.head[3]
    }

    fn end_if_whole(&mut self, now: Time) {
        if self.payload_left > 0 {
            return;
        }
        let (kind, flags) = (self.kind(), self.head[4]);
        self.head_len = 0;
        self.unfinished_since = None;
        self.introduced |= kind == SETTINGS;
        if kind != PING {
            self.last_frame = now;
        }
        self.in_headers = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        self.end_of_head();
    }

    /// What has come is whole, or data, which may take its time.
    fn end_of_head(&mut self) {
        if self.introduced && !self.in_headers {
            self.unfinished_head_since = None;
        }
    }

    /// Whether it has said that it speaks HTTP/2, and how.
    pub fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// Bytes of data that are still to come of the frame that has begun; of other frames none.
    pub fn data_left(&self) -> usize {
        match self.head_len == HEAD_LEN && self.kind() == DATA {
            true => self.payload_left as usize,
            false => 0,
        }
    }

    /// Since when a frame is there in part.
    pub fn unfinished_since(&self) -> Option<Time> {
        self.unfinished_since
    }

    /// Since when a preface, a block of headers or another small thing is there in part.
    pub fn unfinished_head_since(&self) -> Option<Time> {
        self.unfinished_head_since
    }

    /// When the peer was last heard, be it half a frame or the answer to a ping.
    pub fn last_byte(&self) -> Time {
        self.last_byte
    }

    /// When the last frame ended that was no ping.
    pub fn last_frame(&self) -> Time {
        self.last_frame
    }
}

/// Leaves out at most `most` bytes; how many.
fn skip(bytes: &mut &[u8], most: u32) -> u32 {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(most);
    *bytes = &bytes[len as usize..];
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(len).unwrap().to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(0, len));
        frame
    }

    /// Whatever the cuts, the same frames are found.
    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let parts = [
            PREFACE.to_vec(),
            frame(SETTINGS, 0, 6),
            frame(HEADERS, END_HEADERS, 40),
            frame(DATA, 0, 300),
            frame(HEADERS, 0, 10),
            frame(CONTINUATION, END_HEADERS, 0),
            frame(PING, 1, 8),
        ];
        let whole = parts.concat();
        for size in 1..whole.len() {
            let mut frames = Frames::new(Time(0));
            let mut calls = 0;
            for (index, piece) in whole.chunks(size).enumerate() {
                calls += frames.take(Time(index as u64), piece);
            }
            assert_eq!(calls, 2, "in pieces of {size}");
            assert!(frames.is_introduced());
            assert_eq!((frames.unfinished_since(), frames.unfinished_head_since()), (None, None));
        }
    }

    #[test]
    fn half_a_preface_half_a_header_and_headers_without_an_end_are_unfinished() {
        let mut frames = Frames::new(Time(1));
        assert_eq!(frames.unfinished_head_since(), Some(Time(1)));
        frames.take(Time(2), PREFACE);
        assert_eq!(frames.unfinished_head_since(), Some(Time(1)), "no SETTINGS yet");
        frames.take(Time(3), &frame(SETTINGS, 0, 0));
        assert_eq!(frames.unfinished_head_since(), None);
        frames.take(Time(4), &frame(HEADERS, END_HEADERS, 20)[..5]);
        assert_eq!(frames.unfinished_head_since(), Some(Time(4)), "not even a frame's head");
        frames.take(Time(5), &frame(HEADERS, END_HEADERS, 20)[5..15]);
        assert_eq!(frames.unfinished_head_since(), Some(Time(4)));
        // One byte now and then is no progress.
        frames.take(Time(6), &[0]);
        assert_eq!((frames.unfinished_head_since(), frames.last_byte()), (Some(Time(4)), Time(6)));

        let mut frames = Frames::new(Time(1));
        frames.take(Time(1), &[PREFACE, &frame(SETTINGS, 0, 0)].concat());
        frames.take(Time(2), &frame(HEADERS, 0, 5));
        frames.take(Time(9), &frame(CONTINUATION, 0, 5));
        assert_eq!(frames.unfinished_head_since(), Some(Time(2)));
    }

    #[test]
    fn data_may_take_its_time_and_pings_are_no_frames() {
        let mut frames = Frames::new(Time(0));
        frames.take(Time(1), &[PREFACE, &frame(SETTINGS, 0, 0)].concat());
        frames.take(Time(2), &frame(DATA, 0, 100)[..50]);
        assert_eq!(
            (frames.unfinished_head_since(), frames.unfinished_since()),
            (None, Some(Time(2)))
        );
        assert_eq!(frames.data_left(), 59);
        frames.take(Time(3), &[0; 59]);
        assert_eq!((frames.data_left(), frames.last_frame()), (0, Time(3)));
        frames.take(Time(8), &frame(PING, 1, 8));
        assert_eq!((frames.last_frame(), frames.last_byte()), (Time(3), Time(8)));
    }
}

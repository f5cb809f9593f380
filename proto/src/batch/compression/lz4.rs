//! The outline of an lz4 frame, and frames for which more is searched than the fast compressor does.
//!
//! The decoder takes an input that stops between two blocks for a whole frame. Consumers in other
//! languages do not, so the outline is walked first: one frame, its end mark, nothing behind it.

use std::io::{self, Write};

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY: u8 = 1;
const UNCOMPRESSED_BLOCK: u32 = 1 << 31;

/// Appends a frame of `bytes`. `level`: from 1 to 17; beyond 12 there is no more to be had.
pub(super) fn compress_hard(level: i32, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    // The library's own levels below 3 are the fast compressor; the high one has no weaker form than 3.
    let level = u32::try_from(level).unwrap_or(0).max(3);
    let mut encoder = lz4::EncoderBuilder::new()
        .level(level)
        .block_mode(lz4::BlockMode::Independent)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .build(out)?;
    encoder.write_all(bytes)?;
    encoder.finish().1
}

/// Whether `bytes` have the outline of one whole frame.
pub(super) fn check_frame(bytes: &[u8]) -> Result<(), &'static str> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or("it does not start as an lz4 frame")?;
    let (&flags, rest) = rest.split_first().ok_or(CUT)?;
    if flags & DICTIONARY != 0 {
        return Err("it needs a dictionary");
    }
    // The block descriptor, the content size if it is there, the header checksum.
    let descriptor = if flags & CONTENT_SIZE != 0 { 1 + 8 + 1 } else { 1 + 1 };
    let mut rest = rest.get(descriptor..).ok_or(CUT)?;
    let checksum = if flags & BLOCK_CHECKSUMS != 0 { 4 } else { 0 };
    loop {
        let (size, blocks) = rest.split_first_chunk().ok_or(CUT)?;
        let size = u32::from_le_bytes(*size);
        if size == 0 {
            let trailer = if flags & CONTENT_CHECKSUM != 0 { 4 } else { 0 };
            return match blocks.len() {
                len if len == trailer => Ok(()),
                len if len < trailer => Err(CUT),
                _ => Err("bytes are left behind the frame"),
            };
        }
        let len = size & !UNCOMPRESSED_BLOCK;
        if len == 0 {
            return Err("it has an empty block");
        }
        rest = blocks.get(len as usize + checksum..).ok_or(CUT)?;
    }
}

const CUT: &str = "the frame is cut off";

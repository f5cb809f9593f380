//! The codecs. Formats are those that the usual library of any language reads and writes: gzip members,
//! raw snappy blocks (no framing, no Java header), lz4 frames, zstd frames.
//!
//! Promise: unpacking never holds more than its [`Limits`] allow, plus the codec's own window.

mod level;
mod lz4;

pub use level::{LevelOutOfRange, Packing};

use super::BatchError;
use bytes::Bytes;
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// Twice the speed of the library's own default of 3 for a few per cent of size: batches are small, and
/// the producer pays on its hot path.
const ZSTD_LEVEL: i32 = 1;
/// Kafka's default, for which it takes the fast compressor that has no levels.
const LZ4_FAST: i32 = 9;
/// Windows that a zstd frame may always ask for: 8 MiB, what its specification says decoders should grant.
const ZSTD_MIN_WINDOW_LOG: u32 = 23;
const ZSTD_MAX_WINDOW_LOG: u32 = 27;
/// What a payload may unpack to whatever its ratio: a few bytes of zeros compress very well.
const RATIO_FLOOR: usize = 1 << 20;
/// What is unpacked at a time where nothing is held.
const PIECE_BYTES: usize = 64 << 10;
const MIN_PIECE_BYTES: usize = 4 << 10;

/// How a batch's payload is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// How far a payload may unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes after unpacking.
    pub max_bytes: usize,
    /// Bytes after unpacking for each byte before; not applied below 1 MiB.
    pub max_ratio: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_bytes: 64 << 20, max_ratio: 1000 }
    }
}

impl Limits {
    /// The bytes that a payload of `packed` bytes may unpack to.
    pub fn allowed(&self, packed: usize) -> usize {
        packed.saturating_mul(self.max_ratio).max(RATIO_FLOOR).min(self.max_bytes)
    }
}

impl Compression {
    pub const ALL: [Compression; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in the attribute bits.
    pub const fn id(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    pub const fn from_id(id: u32) -> Option<Compression> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// At the codec's default level.
    ///
    /// # Errors
    /// If the codec refuses; it has no reason to.
    pub fn compress(self, bytes: &[u8]) -> Result<Bytes, BatchError> {
        let mut out = Vec::new();
        self.compress_onto(None, bytes, &mut out)?;
        Ok(out.into())
    }

    /// Appends the packed bytes to `out`. `level`: one of the codec's, or none for its default.
    pub(super) fn compress_onto(
        self,
        level: Option<i32>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        out.reserve(bytes.len() / 3);
        match self {
            Self::None => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Self::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok());
                let level =
                    level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                let mut encoder = flate2::write::GzEncoder::new(&mut *out, level);
                encoder.write_all(bytes).and_then(|()| encoder.finish().map(drop))
            }
            Self::Snappy => {
                let start = out.len();
                out.resize(start + snap::raw::max_compress_len(bytes.len()), 0);
                match snap::raw::Encoder::new().compress(bytes, &mut out[start..]) {
                    Ok(written) => {
                        out.truncate(start + written);
                        Ok(())
                    }
                    Err(error) => Err(io::Error::other(error)),
                }
            }
            Self::Lz4 if let Some(level) = level.filter(|&level| level != LZ4_FAST) => {
                lz4::compress_hard(level, bytes, out)
            }
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut *out);
                encoder
                    .write_all(bytes)
                    .and_then(|()| encoder.finish().map(drop).map_err(io::Error::other))
            }
            Self::Zstd => {
                let level = level.unwrap_or(ZSTD_LEVEL);
                zstd::stream::write::Encoder::new(&mut *out, level).and_then(|mut encoder| {
                    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
                    encoder.write_all(bytes)?;
                    encoder.finish().map(drop)
                })
            }
        }
        .map_err(|error| self.bad(error))
    }

    /// # Errors
    /// [`BatchError::Bomb`] as soon as the output passes the limits; [`BatchError::BadCompression`] if the
    /// bytes are not exactly what the codec makes: nothing may be missing or left over.
    pub fn decompress(self, bytes: &[u8], limits: Limits) -> Result<Bytes, BatchError> {
        let limit = limits.allowed(bytes.len());
        match self {
            Self::None if bytes.len() > limits.max_bytes => {
                Err(BatchError::Bomb { limit: limits.max_bytes })
            }
            Self::None => Ok(Bytes::copy_from_slice(bytes)),
            Self::Snappy => self.unpack_snappy(bytes, limit).map(Bytes::from),
            _ => {
                let mut out = Vec::with_capacity(limit.min(bytes.len().saturating_mul(4)));
                let mut bounded = self.decoder(bytes, limits)?.take(limit as u64 + 1);
                bounded.read_to_end(&mut out).map_err(|error| self.bad(error))?;
                if out.len() > limit {
                    return Err(BatchError::Bomb { limit });
                }
                Ok(out.into())
            }
        }
    }

    /// As [`Compression::decompress`], piece by piece: what was visited is not held. A snappy block is one piece, as
    /// its format is not made for streams; how long it unpacks it says itself, and that is checked before.
    ///
    /// # Errors
    /// The same, and what `visit` says.
    pub fn unpack(
        self,
        bytes: &[u8],
        limits: Limits,
        mut visit: impl FnMut(&[u8]) -> Result<(), BatchError>,
    ) -> Result<(), BatchError> {
        let limit = limits.allowed(bytes.len());
        match self {
            Self::None if bytes.len() > limits.max_bytes => {
                return Err(BatchError::Bomb { limit: limits.max_bytes });
            }
            Self::None => return visit(bytes),
            Self::Snappy => return visit(&self.unpack_snappy(bytes, limit)?),
            Self::Gzip | Self::Lz4 | Self::Zstd => {}
        }
        let mut decoder = self.decoder(bytes, limits)?;
        let mut piece =
            vec![0; PIECE_BYTES.min(bytes.len().saturating_mul(4).max(MIN_PIECE_BYTES))];
        let mut unpacked = 0;
        loop {
            let filled = match decoder.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(filled) => filled,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.bad(error)),
            };
            unpacked += filled;
            if unpacked > limit {
                return Err(BatchError::Bomb { limit });
            }
            visit(&piece[..filled])?;
        }
    }

    /// Of the codecs that are made for streams.
    fn decoder(self, bytes: &[u8], limits: Limits) -> Result<Box<dyn Read + '_>, BatchError> {
        match self {
            Self::None | Self::Snappy => Ok(Box::new(bytes)),
            Self::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(bytes))),
            Self::Lz4 => {
                lz4::check_frame(bytes).map_err(|what| self.bad(what))?;
                Ok(Box::new(lz4_flex::frame::FrameDecoder::new(bytes)))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                    .map_err(|error| self.bad(error))?;
                let window = limits.max_bytes.clamp(1, 1 << ZSTD_MAX_WINDOW_LOG);
                let window_log = window.next_power_of_two().ilog2();
                decoder
                    .window_log_max(window_log.clamp(ZSTD_MIN_WINDOW_LOG, ZSTD_MAX_WINDOW_LOG))
                    .map_err(|error| self.bad(error))?;
                Ok(Box::new(decoder))
            }
        }
    }

    /// A snappy block says how long it unpacks: the claim is checked before anything is allocated.
    fn unpack_snappy(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        let len = snap::raw::decompress_len(bytes).map_err(|error| self.bad(error))?;
        if len > limit {
            return Err(BatchError::Bomb { limit });
        }
        let mut out = vec![0; len];
        let written = snap::raw::Decoder::new()
            .decompress(bytes, &mut out)
            .map_err(|error| self.bad(error))?;
        out.truncate(written);
        Ok(out)
    }

    fn bad(self, reason: impl fmt::Display) -> BatchError {
        BatchError::BadCompression { compression: self, reason: reason.to_string() }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No codec has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compression `{0}` is not known; use none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(pub String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Compression::ALL
            .into_iter()
            .find(|compression| compression.name() == name)
            .ok_or_else(|| UnknownCompression(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;

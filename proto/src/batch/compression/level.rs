//! How hard a codec tries: the levels and ranges are Kafka's, the defaults ours.

use super::{Compression, ZSTD_LEVEL};
use std::ops::RangeInclusive;

/// A codec and how hard it tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    compression: Compression,
    level: Option<i32>,
}

/// A level that the codec does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct LevelOutOfRange {
    pub compression: Compression,
    pub level: i32,
}

impl std::fmt::Display for LevelOutOfRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { compression, level } = self;
        match compression.levels() {
            None => write!(f, "{compression} has no levels, so none can be {level}"),
            Some(levels) => {
                let (first, last) = levels.into_inner();
                write!(f, "level {level} is none of {compression}'s, which are {first} to {last}")?;
                if *compression == Compression::Gzip {
                    f.write_str(", or -1 for 6")
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl Compression {
    /// The levels that the codec has, if it has any; more is smaller and slower.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
        }
    }

    /// The level where none is set. Kafka's are 6, 9 and 3. Of lz4 it is the fast compressor, which has no levels.
    pub fn default_level(self) -> Option<i32> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(6),
            Self::Lz4 => Some(super::LZ4_FAST),
            Self::Zstd => Some(ZSTD_LEVEL),
        }
    }
}

impl Packing {
    /// `level`: none is the codec's default; so is -1 of gzip.
    ///
    /// # Errors
    /// [`LevelOutOfRange`].
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Packing, LevelOutOfRange> {
        let level = level.filter(|&level| !(compression == Compression::Gzip && level == -1));
        match level {
            Some(level) if !compression.levels().is_some_and(|levels| levels.contains(&level)) => {
                Err(LevelOutOfRange { compression, level })
            }
            _ => Ok(Packing { compression, level }),
        }
    }

    pub const fn compression(self) -> Compression {
        self.compression
    }

    pub(in crate::batch) fn level(self) -> Option<i32> {
        self.level
    }
}

/// At the codec's default level.
impl From<Compression> for Packing {
    fn from(compression: Compression) -> Self {
        Packing { compression, level: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Limits, RecordSet, RecordSetBuilder};

    fn builder() -> RecordSetBuilder {
        let mut builder = RecordSetBuilder::new();
        for n in 0..2000u32 {
            let value =
                format!("{{\"order\": {n}, \"customer\": {}, \"state\": \"paid\"}}", n % 77);
            builder.push(i64::from(n), None, Some(value.as_bytes()), &[]);
        }
        builder
    }

    #[test]
    fn every_level_is_read_again_and_the_highest_is_the_smallest() {
        for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
            let (first, last) = compression.levels().unwrap().into_inner();
            let mut sizes = Vec::new();
            for level in [Some(first), None, compression.default_level(), Some(last)] {
                let packing = Packing::new(compression, level).unwrap();
                let built = builder().finish(packing, None).unwrap();
                let size = built.payload.len();
                let set = RecordSet::decode(&built.header, built.payload, Limits::default());
                assert_eq!(set.unwrap().iter().count(), 2000, "{compression} {level:?}");
                sizes.push(size);
            }
            assert_eq!(sizes[1], sizes[2], "{compression}: the default is the default");
            assert!(sizes[3] < sizes[0], "{compression}: {sizes:?}");
        }
    }

    #[test]
    fn levels_that_a_codec_has_not_are_refused() {
        for (compression, level) in [
            (Compression::Gzip, 0),
            (Compression::Gzip, 10),
            (Compression::Lz4, 0),
            (Compression::Lz4, 18),
            (Compression::Zstd, 23),
            (Compression::Zstd, -131_073),
            (Compression::Snappy, 1),
            (Compression::None, 1),
        ] {
            let refused = Packing::new(compression, Some(level)).unwrap_err();
            assert_eq!(refused, LevelOutOfRange { compression, level });
            assert!(refused.to_string().contains(&level.to_string()), "{refused}");
        }
        assert_eq!(Packing::new(Compression::Gzip, Some(-1)), Ok(Compression::Gzip.into()));
    }
}

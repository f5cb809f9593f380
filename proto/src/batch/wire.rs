//! Protobuf's wire format, as far as records need it: reading from a slice, writing to a small buffer.
//!
//! Unknown fields are skipped, except groups, which proto3 does not have.

/// Why a slice is not the message it should be. Small, so that results stay in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end within a field.
    Cut,
    LongVarint,
    Tag,
    WireType,
    TooLarge,
    Utf8,
}

impl Fault {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Cut => "a field runs beyond its end",
            Self::LongVarint => "a varint has more than 64 bits",
            Self::Tag => "a tag has no field number",
            Self::WireType => "a field has the wrong type",
            Self::TooLarge => "a number has more than 32 bits",
            Self::Utf8 => "a header's key is not UTF-8",
        }
    }
}

/// Tag, wire type and field number apart.
pub(super) const fn tag_number(tag: u64) -> u64 {
    tag >> 3
}

/// Bytes that are still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            if index == 9 && *byte > 1 {
                return Err(Fault::LongVarint);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { Fault::Cut } else { Fault::LongVarint })
    }

    #[inline(always)]
    pub(super) fn varint32(&mut self) -> Result<u32, Fault> {
        u32::try_from(self.varint()?).map_err(|_| Fault::TooLarge)
    }

    /// A zigzag-coded signed number.
    #[inline(always)]
    pub(super) fn zigzag(&mut self) -> Result<i64, Fault> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Length and as many bytes.
    #[inline(always)]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.varint()?;
        self.take(len)
    }

    #[inline(always)]
    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        if len > self.rest.len() as u64 {
            return Err(Fault::Cut);
        }
        let (taken, rest) = self.rest.split_at(len as usize);
        self.rest = rest;
        Ok(taken)
    }

    /// Skips the content of a field whose tag was read.
    pub(super) fn skip(&mut self, tag: u64) -> Result<(), Fault> {
        if tag_number(tag) == 0 || tag > u64::from(u32::MAX) {
            return Err(Fault::Tag);
        }
        match tag & 7 {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => self.bytes().map(drop),
            5 => self.take(4).map(drop),
            _ => Err(Fault::WireType),
        }
    }
}

/// Bytes that a varint takes.
#[inline(always)]
pub(super) const fn varint_len(value: u64) -> usize {
    ((value | 1).ilog2() as usize * 9 + 73) / 64
}

pub(super) const fn to_zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// A few tags and numbers, gathered before they are copied at once.
pub(super) struct Scratch<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Scratch<N> {
    pub(super) const fn new() -> Self {
        Scratch { bytes: [0; N], len: 0 }
    }

    #[inline(always)]
    pub(super) fn put_u8(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline(always)]
    pub(super) fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// Copies the whole array, whose size is known, and cuts off the rest: faster than a short copy of
    /// unknown length.
    #[inline(always)]
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out.truncate(start + self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_reads_back_and_has_the_length_that_was_said(value in any::<u64>(), shift in 0..64u32) {
            let value = value >> shift;
            let mut scratch = Scratch::<10>::new();
            scratch.put_varint(value);
            prop_assert_eq!(scratch.len, varint_len(value));
            let mut prost = Vec::new();
            prost::encoding::encode_varint(value, &mut prost);
            prop_assert_eq!(&prost[..], &scratch.bytes[..scratch.len]);
            let mut reader = Reader::new(&prost);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.rest.is_empty());
            prop_assert_eq!(Reader::new(&prost[..prost.len() - 1]).varint(), Err(Fault::Cut));
        }

        #[test]
        fn zigzag_reads_back(value in any::<i64>()) {
            let mut scratch = Scratch::<10>::new();
            scratch.put_varint(to_zigzag(value));
            prop_assert_eq!(Reader::new(&scratch.bytes[..scratch.len]).zigzag(), Ok(value));
        }

        #[test]
        fn varints_agree_with_prost(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..=0xffu8], 0..12)) {
            let mut theirs = &bytes[..];
            let mut ours = Reader::new(&bytes);
            match prost::encoding::decode_varint(&mut theirs) {
                Ok(value) => {
                    prop_assert_eq!(ours.varint(), Ok(value));
                    prop_assert_eq!(ours.rest, theirs);
                }
                Err(_) => prop_assert!(ours.varint().is_err()),
            }
        }
    }
}

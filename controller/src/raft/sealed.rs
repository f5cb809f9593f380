//! A value under a checksum, which also covers where it belongs: one that is right but in another's place is found.
//!
//! ```text
//! | format: 1 | crc32c of the place and the value: 4 | value |
//! ```
//!
//! sled has checksums of its own, but takes what does not match them for the end of what was written, and returns
//! what stood there before; and they do not cover all that it keeps.

use super::fault::damage;
use crc_fast::{CrcAlgorithm, Digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

const FORMAT: u8 = 1;
const HEAD: usize = 5;

pub(super) fn seal<T: Serialize>(place: &[u8], value: &T) -> io::Result<Vec<u8>> {
    let value = postcard::to_allocvec(value).map_err(io::Error::other)?;
    let mut sealed = Vec::with_capacity(HEAD + value.len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&checksum(place, &value).to_le_bytes());
    sealed.extend_from_slice(&value);
    Ok(sealed)
}

/// # Errors
/// Damage.
pub(super) fn unseal<T: DeserializeOwned>(place: &[u8], sealed: &[u8]) -> io::Result<T> {
    let value = match sealed.split_first_chunk::<HEAD>() {
        Some(([FORMAT, crc @ ..], value)) if *crc == checksum(place, value).to_le_bytes() => value,
        _ => return Err(damage("a checksum does not match")),
    };
    postcard::from_bytes(value).map_err(damage)
}

pub(super) fn checksum(place: &[u8], value: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(place);
    digest.update(value);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is_and_so_is_another_place() {
        let value = ("a value", 7_u64);
        let sealed = seal(b"here", &value).unwrap();
        assert_eq!(unseal::<(String, u64)>(b"here", &sealed).unwrap(), ("a value".into(), 7));
        assert!(unseal::<(String, u64)>(b"there", &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal::<(String, u64)>(b"here", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(unseal::<(String, u64)>(b"here", &sealed[..length]).is_err());
        }
    }
}

//! The bytes on disk, as pure functions between slices and values; `docs/format.md` is their page.
//!
//! All integers are little-endian, every file opens with a magic, a version and a checksum, zero is
//! never a valid kind, and padding is zero. Nothing here opens a file.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub(crate) mod checksum;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod manifest;
#[cfg(test)]
mod page_test;
pub(crate) mod record;
pub(crate) mod rows;
pub(crate) mod segment_header;
pub(crate) mod sidecar;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod tombstone;
pub(crate) mod twin;

use bytes::{Buf, TryGetError};

/// The format version written, and the only one read.
pub(crate) const VERSION: u32 = 2;

/// Bytes of the preamble that opens every file: magic, version, checksum.
pub(crate) const PREAMBLE_LEN: usize = 16;

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// They are not what was written.
    Damaged(&'static str),
    /// They were written by another version.
    Version(u32),
}

impl From<TryGetError> for Unreadable {
    fn from(_: TryGetError) -> Self {
        Self::Damaged("too short")
    }
}

pub(crate) type Parsed<T> = Result<T, Unreadable>;

/// True if all of these bytes are zeros. Pieces are looked at as a whole, which a compiler makes fast.
pub(crate) fn is_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

/// A version as stored: with its complement in the upper half, so that a damaged one is not taken
/// for another.
pub(crate) fn version_word(version: u32) -> u32 {
    version | (!version << 16)
}

/// Puts the preamble before a body.
pub(crate) fn with_preamble(magic: [u8; 8], checksum: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREAMBLE_LEN + body.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&version_word(VERSION).to_le_bytes());
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Splits off the preamble: gives the stored checksum and the body.
pub(crate) fn split_preamble(magic: [u8; 8], bytes: &[u8]) -> Parsed<(u32, &[u8])> {
    let (mut head, body) =
        bytes.split_at_checked(PREAMBLE_LEN).ok_or(Unreadable::Damaged("too short"))?;
    let mut found = [0; 8];
    head.try_copy_to_slice(&mut found)?;
    if found != magic {
        return Err(Unreadable::Damaged("not a file of this kind"));
    }
    let word = head.try_get_u32_le()?;
    let version = word & 0xffff;
    if word != version_word(version) {
        return Err(Unreadable::Damaged("version"));
    }
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    Ok((head.try_get_u32_le()?, body))
}

/// Takes so many bytes off the front.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Parsed<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Unreadable::Damaged("too short"))?;
    *bytes = rest;
    Ok(taken)
}

/// Takes an array off the front.
pub(crate) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Parsed<[u8; N]> {
    let mut array = [0; N];
    bytes.try_copy_to_slice(&mut array)?;
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_told_from_a_damaged_one() {
        let bytes = with_preamble(*b"ebbtest\0", 7, b"body");
        assert_eq!(split_preamble(*b"ebbtest\0", &bytes), Ok((7, &b"body"[..])));
        assert!(matches!(split_preamble(*b"ebbtesT\0", &bytes), Err(Unreadable::Damaged(_))));
        for version in [0, VERSION - 1, VERSION + 1, 0xffff] {
            let mut other = bytes.clone();
            other[8..12].copy_from_slice(&version_word(version).to_le_bytes());
            let read = split_preamble(*b"ebbtest\0", &other);
            assert_eq!(read, Err(Unreadable::Version(version)));
        }
        for bit in 64..96 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = split_preamble(*b"ebbtest\0", &damaged);
            assert_eq!(read, Err(Unreadable::Damaged("version")), "bit {bit}");
        }
    }
}

//! Laying a table of the page over bytes, and forming the bytes that its rows name.
#![cfg(test)]

use crate::format::checksum::{Seed, plain};
use crate::format::{PREAMBLE_LEN, VERSION, version_word};
use crate::hash::KeyedHash;

pub(super) const PAGE: &str = include_str!("../../../docs/format.md");
pub(super) const SALT: u64 = word(0x10);
pub(super) const NUMBER: u64 = word(0x20);

pub(super) type Fields<'a> = Vec<(&'a str, Vec<u8>)>;

/// Eight bytes that begin with this one and are found nowhere else.
pub(super) const fn word(first: u8) -> u64 {
    u64::from_le_bytes([
        first,
        first + 1,
        first + 2,
        first + 3,
        first + 4,
        first + 5,
        first + 6,
        first + 7,
    ])
}

/// Sixteen such bytes.
pub(super) fn hash(first: u8) -> KeyedHash {
    KeyedHash(u128::from(word(first)) | u128::from(word(first + 8)) << 64)
}

pub(super) fn le8(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub(super) fn le4(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub(super) fn hash_bytes(hash: KeyedHash) -> Vec<u8> {
    hash.0.to_le_bytes().to_vec()
}

pub(super) fn seed() -> Seed {
    Seed::of_file(SALT, NUMBER)
}

/// A bound checksum, formed as the page says.
pub(super) fn bound(offset: u64, bytes: &[u8]) -> Vec<u8> {
    le4(plain(&[&le8(SALT), &le8(NUMBER), &le8(offset), bytes].concat()))
}

/// The rows of the table below a heading.
pub(super) fn table(heading: &str) -> Vec<Vec<String>> {
    let start = PAGE
        .lines()
        .position(|line| line == format!("### {heading}"))
        .unwrap_or_else(|| panic!("the page has no {heading:?}"));
    let below = PAGE.lines().skip(start + 1).take_while(|line| !line.starts_with('#'));
    let rows = below.filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    })
    .collect()
}

/// Lays the table below a heading over these bytes. Lengths may name a field of `outer` as well.
pub(super) fn check(heading: &str, bytes: &[u8], fields: &Fields<'_>, outer: &Fields<'_>) {
    let mut at = 0;
    let mut unseen: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    for row in table(heading) {
        let [offset, len, name, _] = row.as_slice() else { panic!("{heading}: {row:?}") };
        let place = format!("{heading}, {name}");
        if offset != "then" {
            assert_eq!(offset.parse(), Ok(at), "{place}: a gap, or rows that overlap");
        }
        let named = fields.iter().chain(outer).find(|(name, _)| name == len);
        let len = match (len.parse(), named) {
            (Ok(len), _) => len,
            (_, Some((_, length))) => {
                length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
            }
            _ if len == "rest" => bytes.len() - at,
            _ => panic!("{place}: what is {len:?}?"),
        };
        let found = bytes.get(at..at + len).unwrap_or_else(|| panic!("{place}: beyond the end"));
        if name.starts_with("zero") {
            assert!(found.iter().all(|byte| *byte == 0), "{place}: {found:?}");
        } else {
            let known = fields.iter().find(|(known, _)| known == name);
            let (_, expected) = known.unwrap_or_else(|| panic!("{place}: no such field"));
            assert_eq!(found, expected, "{place}");
            unseen.retain(|unseen| unseen != name);
        }
        at += len;
    }
    assert_eq!(at, bytes.len(), "{heading}: the table ends before the bytes do");
    assert!(unseen.is_empty(), "{heading}: the page does not say where {unseen:?} are");
}

/// The fields of a preamble.
pub(super) fn preamble(magic: [u8; 8], checksum: Vec<u8>) -> Fields<'static> {
    vec![
        ("magic", magic.to_vec()),
        ("version word", le4(version_word(VERSION))),
        ("checksum", checksum),
    ]
}

/// The fields of a header: a preamble with a plain checksum of what follows up to `end`.
pub(super) fn header<'a>(
    magic: [u8; 8],
    bytes: &[u8],
    end: usize,
    fields: Fields<'a>,
) -> Fields<'a> {
    let mut all: Fields<'a> = preamble(magic, le4(plain(&bytes[PREAMBLE_LEN..end])));
    all.extend(fields);
    all
}

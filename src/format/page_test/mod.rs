//! Compares `docs/format.md` with the encoders, row by row: neither changes without the other.
//!
//! Each table of fields is laid over bytes that an encoder wrote from distinctive values. Its rows
//! must follow each other without a gap, end where the bytes end, and hold the values they name.
#![cfg(test)]

mod directory;
mod layout;
mod ledger;
mod segments;
mod sidecars;
mod snapshots;
mod tombstones;
mod twins;

use layout::{PAGE, bound, check, le4, preamble, seed, table};

use super::checksum::plain;
use super::record::RecordKind;
use super::segment_header::CAP_OFFSET;
use super::state::{MAX_GENERATION, MAX_LOG_NUMBER};
use super::tombstone::{Reach, Tombstone, TombstoneMode, TombstoneScope};
use super::{
    PREAMBLE_LEN, VERSION, keys, manifest, record, rows, segment_header, sidecar, snapshot, state,
    tombstone, twin, version_word, with_preamble,
};
use crate::disk::MemoryDisk;
use crate::hash::{Hasher, SECRET_LEN};
use crate::retention::{MAX_BUCKETS, MAX_WINDOW_MS, MIN_BUCKETS};
use crate::time::MAX_STEPS;
use crate::{KeyspaceOptions, Retention, Store, options, sequence};

#[test]
fn the_rules_for_all_files() {
    let bytes = with_preamble(*b"ebb.test", 0x1122_3344, &[]);
    check("Preamble", &bytes, &preamble(*b"ebb.test", le4(0x1122_3344)), &vec![]);
    assert!(PAGE.contains(&format!("`{:#010x}`", version_word(VERSION))));
    assert!(PAGE.contains(&format!("`{:#010x}`", plain(b"123456789"))));
    assert_eq!(le4(seed().checksum(77, &[b"ab", b"c"])), bound(77, b"abc"));
    let hasher = Hasher::new([3; SECRET_LEN], [4; SECRET_LEN]);
    let both = hasher.key(b"ebbtide check").0 ^ hasher.tag(b"ebbtide check").0;
    assert_eq!(hasher.check_value(), both as u64);
    assert!(PAGE.contains("`ebbtide check`"));
}

#[test]
fn the_magics() {
    let magics = [
        ("STORE", manifest::STORE_MAGIC),
        ("STATE", state::MAGIC),
        ("KEYSPACE", manifest::KEYSPACE_MAGIC),
        ("LOG", manifest::LOG_MAGIC),
        ("pseudonym.keys", keys::MAGIC),
        ("segment", segment_header::MAGIC),
        ("sidecar", sidecar::MAGIC),
        ("tombstone log", tombstone::MAGIC),
        ("ledger", super::ledger::MAGIC),
        ("INDEX", snapshot::MAGIC),
    ];
    let magics =
        magics.map(|(file, magic)| vec![file.to_owned(), magic.escape_ascii().to_string()]);
    assert_eq!(table("Magics"), magics);
}

#[test]
fn the_constants_and_limits() {
    let len = sidecar::encoded_len;
    let per_block = (1..).find(|count| len(count + 1, 0) > len(1, 0));
    let tags_per_block = (1..).find(|count| len(0, count + 1) > len(0, 1));
    let constants = [
        ("version", u64::from(VERSION)),
        ("preamble length", PREAMBLE_LEN as u64),
        ("secret length", SECRET_LEN as u64),
        ("twin slot length", twin::SLOT_LEN as u64),
        ("twin file length", twin::FILE_LEN as u64),
        ("longest twin payload", twin::MAX_PAYLOAD_LEN as u64),
        ("clock steps in STATE", MAX_STEPS as u64),
        ("highest generation", MAX_GENERATION),
        ("highest number of a tombstone log or ledger file", MAX_LOG_NUMBER),
        ("segment header length", segment_header::HEADER_LEN),
        ("deadline slot offset", CAP_OFFSET),
        ("record header length", record::HEAD_LEN as u64),
        ("record alignment", record::ALIGN),
        ("longest key", record::MAX_KEY_LEN as u64),
        ("longest metadata of a keyed value", record::MAX_METADATA_LEN as u64),
        ("longest value", record::MAX_VALUE_LEN),
        ("most tags of a record", record::MAX_TAGS as u64),
        ("longest tag", options::MAX_TAG_LEN as u64),
        ("most rows of a block", rows::MAX_ROWS as u64),
        ("longest payload of a row", rows::MAX_PAYLOAD_LEN as u64),
        ("entries of a sidecar block", per_block.unwrap()),
        ("entries of a sidecar tag block", tags_per_block.unwrap()),
        ("tombstone region header length", tombstone::REGION_HEADER_LEN),
        ("tombstone entry length", tombstone::ENTRY_LEN as u64),
        ("ledger header length", super::ledger::HEADER_LEN),
        ("ledger entry length", super::ledger::ENTRY_LEN as u64),
        ("counter bits of a sequence number", u64::from(sequence::first_of(1).trailing_zeros())),
        ("counter bits of a segment number", u64::from((first_number() - 1).trailing_zeros())),
        ("shortest window in milliseconds", MIN_BUCKETS * 60_000),
        ("shortest time to erase in milliseconds", options::MIN_ERASE_WITHIN_MS),
        ("longest time to erase in milliseconds", options::MAX_ERASE_WITHIN_MS),
        ("longest window in milliseconds", MAX_WINDOW_MS),
        ("fewest buckets of a window", MIN_BUCKETS),
        ("most buckets of a window", MAX_BUCKETS),
        ("smallest segment", options::MIN_SEGMENT_BYTES),
        ("largest segment asked for", options::MAX_SEGMENT_BYTES),
        ("no capacity", options::NO_CAPACITY),
    ];
    let constants = constants.map(|(name, value)| vec![name.to_owned(), value.to_string()]);
    assert_eq!(table("Constants and limits"), constants);
}

#[test]
fn kinds_and_scopes_have_the_numbers_the_page_gives() {
    let meaning = |heading, field: &str| {
        let row = table(heading).into_iter().find(|row| row.get(2).is_some_and(|f| f == field));
        row.and_then(|row| row.get(3).cloned()).unwrap_or_default()
    };
    let (blob, rows) = (RecordKind::Blob as u8, RecordKind::Rows as u8);
    let kinds = meaning("Record header", "kind");
    assert_eq!(kinds, format!("{blob}: keyed value, {rows}: block of rows"));
    let kinds = meaning("Segment header", "kind");
    assert_eq!(kinds, format!("{blob}: keyed values, {rows}: blocks of rows"));
    let scopes = [TombstoneScope::Keys, TombstoneScope::Tags, TombstoneScope::All];
    let [keys, tags, all] = scopes.map(|scope| scope as u8);
    let scopes = meaning("Tombstone head", "scope");
    assert_eq!(scopes, format!("{keys}: keys, {tags}: tags, {all}: everything of the owner"));
    let modes = [TombstoneMode::Hard, TombstoneMode::Soft, TombstoneMode::Deny];
    let [hard, soft, deny] = modes.map(|mode| mode as u8);
    let modes = meaning("Tombstone head", "mode");
    assert_eq!(modes, format!("{hard}: invisible, {soft}: stale, {deny}: invisible and denied"));
    let reaches = [Reach::Owner(9), Reach::Keyspaces, Reach::Everything];
    let [one, keyspaces, everything] = reaches.map(|reach| {
        let tombstone = Tombstone {
            scope: TombstoneScope::Tags,
            mode: TombstoneMode::Hard,
            reach,
            floor: 1,
            at_ms: 1,
            until_ms: 0,
            hashes: Vec::new(),
        };
        let mut bytes = Vec::new();
        tombstone.encode(&seed(), 0, 0, &mut bytes);
        assert_eq!(bytes[16] == 9, reach == Reach::Owner(9), "an owner id where there is one");
        bytes[37]
    });
    let reaches = meaning("Tombstone head", "reach");
    let page = format!(
        "{one}: the owner, {keyspaces}: all keyspaces, {everything}: all keyspaces and logs"
    );
    assert_eq!(reaches, page);
}

/// The number in the name of the first segment of a store.
fn first_number() -> u64 {
    let disk = MemoryDisk::new(1);
    let store = Store::builder("/data").disk(disk.clone()).background(false).open().unwrap();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    images.insert("cat.jpg", b"bytes").unwrap();
    let files = disk.all_files();
    let segment = files.iter().find(|path| path.extension().is_some_and(|ext| ext == "seg"));
    u64::from_str_radix(segment.unwrap().file_stem().unwrap().to_str().unwrap(), 16).unwrap()
}

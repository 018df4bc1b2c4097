//! The files of a store, as the page lists them.
#![cfg(test)]

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use super::layout::PAGE;
use crate::disk::MemoryDisk;
use crate::time::{ManualClock, Timestamp};
use crate::{KeyspaceOptions, LogOptions, Retention, Row, Store};

/// The files of a small store, by their paths in it: with one bucket in the trash, while a value is
/// being written, and closed in order.
fn files() -> Vec<String> {
    let disk = MemoryDisk::new(1);
    let clock = ManualClock::new(Timestamp::from_millis(1_795_267_800_000));
    let builder = Store::builder("/data").disk(disk.clone()).clock(clock.clone());
    let store = builder.background(false).tombstone_log_bytes(4096).open().unwrap();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
    images.insert("cat.jpg", b"bytes").unwrap();
    access.append(Row::anonymous().payload("row")).unwrap();
    clock.advance(Duration::from_secs(16 * 3600));
    store.drop_expired().unwrap();
    images.insert("cat.jpg", b"bytes").unwrap();
    access.append(Row::anonymous().payload("row")).unwrap();
    images.invalidate("dog.jpg").unwrap();
    store.maintain().unwrap();
    clock.advance(Duration::from_secs(16 * 3600));
    store.drop_expired().unwrap();
    images.insert("cat.jpg", b"bytes").unwrap();
    access.append(Row::anonymous().payload("row")).unwrap();
    let mut long = images.fill("dog.jpg").memory_limit_bytes(0).into_writer().unwrap();
    long.write_all(b"a value").unwrap();
    let mut files = disk.all_files();
    long.abort();
    store.close().unwrap();
    files.extend(disk.all_files());
    files
        .into_iter()
        .map(|path| path.strip_prefix("/data").unwrap().display().to_string())
        .collect()
}

/// A path as the page writes it: with names in place of what differs from store to store.
fn pattern(path: &str) -> String {
    let is_bucket = |part: &str| Timestamp::from_compact(part).is_some();
    let is_number = |part: &str| part.len() == 16 && u64::from_str_radix(part, 16).is_ok();
    let parts: Vec<String> = path
        .split('/')
        .map(|part| match part.split('.').collect::<Vec<_>>()[..] {
            [owner, bucket, number]
                if is_number(owner) && is_bucket(bucket) && is_number(number) =>
            {
                "<owner>.<bucket>.<number>".to_owned()
            }
            [number, extension] if is_number(number) => format!("<number>.{extension}"),
            [bucket] if is_bucket(bucket) => "<bucket>".to_owned(),
            ["images" | "access"] => "<name>".to_owned(),
            _ => part.to_owned(),
        })
        .collect();
    if parts.first().is_some_and(|first| first == "trash") {
        return parts[..2].join("/");
    }
    parts.join("/")
}

#[test]
fn the_directory() {
    let listing = PAGE.split("## The directory\n\n```text\n").nth(1).unwrap();
    let lines = listing.lines().take_while(|line| !line.starts_with("```"));
    let mut listed: BTreeMap<String, bool> =
        lines.map(|line| (line.split(' ').next().unwrap().to_owned(), false)).collect();
    // What is only there for a moment, or after an eviction.
    for name in ["tombstones/spare.tmp", "ledger/spare.tmp", "trash/<owner>.segment.<number>"] {
        assert!(listed.remove(name).is_some(), "{name}");
    }
    for path in files() {
        let seen = listed.get_mut(&pattern(&path));
        *seen.unwrap_or_else(|| panic!("the page does not list {path}")) = true;
    }
    let missing: Vec<_> = listed.iter().filter(|(_, seen)| !**seen).collect();
    assert!(missing.is_empty(), "listed, but not there: {missing:?}");
}

//! Every byte of a store flipped, every file cut at every length, and files made to hurt: errors and
//! misses, never a wrong byte, an older version or an invalidated record.
//!
//! The default run takes every byte of a closed store once, half of them in each mode, two lengths in
//! seven, and a sample of a killed one that moves with the seed; `EBBTIDE_DAMAGE=all` takes all bytes
//! twice, all lengths, and both in each mode.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ebbtide::disk::{Disk, MemoryDisk};
use ebbtide::{
    Error, Keyspace, KeyspaceOptions, LogOptions, Retention, RetentionVerdict, Row, RowId, Store,
    StoreBuilder,
};

use fixture::{MODES, Random, clock, minutes, on_memory, open, seed, try_open, value_of};

const KEYS: u64 = 20;
const LONGEST: u64 = 300;
/// Flips and cuts in the default run, of each variant in each mode.
const SAMPLE: usize = 600;

/// A store on a disk, and what may be read of it.
struct Sample {
    disk: MemoryDisk,
    keys: BTreeMap<String, Key>,
    rows: BTreeMap<RowId, u64>,
}

/// The versions of a key that nothing has invalidated, the newest last.
#[derive(Default)]
struct Key {
    number: u64,
    visible: Vec<u64>,
}

fn builder(disk: &MemoryDisk) -> StoreBuilder {
    let clock = clock();
    clock.advance(minutes(100));
    on_memory(disk, &clock)
}

fn make(closed: bool) -> Sample {
    let disk = MemoryDisk::new(5);
    let clock = clock();
    let store = open(on_memory(&disk, &clock), false);
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(8192);
    let images = store.keyspace("images", options).unwrap();
    let options = LogOptions::new(Retention::hours(16)).segment_bytes(8192);
    let access = store.log("access", options).unwrap();
    let mut sample = Sample { disk, keys: BTreeMap::new(), rows: BTreeMap::new() };
    for version in 0..4 {
        for number in 0..KEYS {
            if (number + version) % 3 != 2 {
                sample.insert(&images, number, version);
            }
        }
        sample.invalidate(&images, version * 3, version);
        sample.invalidate(&images, version * 3 + 1, version + 1);
        for row in 0..6 {
            let version = version * 6 + row;
            let ip = std::net::Ipv4Addr::new(198, 51, 100, row as u8).into();
            let visitor = access.pseudonym(ip, store.now()).unwrap();
            let payload = value_of(99, version, LONGEST);
            let id = access.append(Row::new(visitor).tag("t").payload(payload)).unwrap();
            sample.rows.insert(id, version);
            if row == 0 {
                let mut appender = access.appender();
                for tag in ["erased", "kept", "erased"] {
                    appender.append(Row::anonymous().tag(tag).payload(tag)).unwrap();
                }
                appender.flush().unwrap();
            }
        }
        if version == 2 {
            // In sealed segments, and in those that are written to.
            access.invalidate_tag("erased").unwrap();
            store.scrub().unwrap();
        }
        if version != 3 {
            clock.advance(minutes(30));
            store.maintain().unwrap();
        }
    }
    clock.advance(minutes(10));
    if closed {
        store.close().unwrap();
    } else {
        sample.disk = sample.disk.kill();
    }
    drop(store);
    sample
}

impl Sample {
    fn insert(&mut self, images: &Keyspace, number: u64, version: u64) {
        let name = format!("key-{number}");
        let fill = images.fill(&name).tag(format!("tag-{}", number % 7)).metadata(b"metadata");
        let _ = fill.commit(value_of(number, version, LONGEST)).unwrap();
        let key = self.keys.entry(name).or_default();
        key.number = number;
        key.visible.push(version);
    }

    fn invalidate(&mut self, images: &Keyspace, number: u64, tag: u64) {
        images.invalidate(format!("key-{number}")).unwrap();
        images.invalidate_tag(format!("tag-{tag}")).unwrap();
        for key in self.keys.values_mut() {
            if key.number == number || key.number % 7 == tag {
                key.visible.clear();
            }
        }
    }

    /// All files but LOCK, and their contents. Of the spares, which are zeros and are not read,
    /// only the first bytes.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.disk.all_files().into_iter().filter(|path| !path.ends_with("LOCK"));
        let read = |path: PathBuf| {
            let mut bytes = self.disk.read_file(&path).unwrap();
            if path.ends_with("spare") {
                bytes.truncate(64);
            }
            (path, bytes)
        };
        files.map(read).collect()
    }

    /// The disk with other contents in one file.
    fn with(&self, path: &Path, bytes: &[u8]) -> MemoryDisk {
        let disk = self.disk.fork();
        disk.write_file(path, bytes).unwrap();
        disk
    }

    /// True if what was last written to this file may be lost like after a power cut: it is a
    /// segment that was never sealed.
    fn may_lose_its_end(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "seg")
            && self.disk.read_file(&path.with_extension("idx")).is_err()
    }

    /// Opens and reads everything; true if anything was noticed. Panics on anything wrong.
    fn examine(&self, disk: &MemoryDisk, path: &Path, mapped: bool, again: bool) -> bool {
        let older = self.may_lose_its_end(path);
        let store = match try_open(builder(disk), mapped) {
            Ok(store) => store,
            Err(_) => return true,
        };
        let mut noticed = !store.recovery_report().is_clean();
        noticed |= self.read_keys(&store, older);
        noticed |= self.read_rows(&store);
        if is_beside(path) && again {
            self.read_unharmed(&store);
        }
        noticed |= !store.problems().is_empty();
        noticed |= !store.verify().unwrap().problems.is_empty();
        if again {
            let _ = store.residue().unwrap();
            let disk = disk.kill();
            drop(store);
            if let Ok(store) = try_open(builder(&disk), mapped) {
                self.read_keys(&store, older);
                self.read_rows(&store);
            }
        }
        noticed
    }

    /// Everything is served as it was.
    fn read_unharmed(&self, store: &Store) {
        assert!(!self.read_keys(store, false));
        assert!(!self.read_rows(store));
        let images = store.existing_keyspace("images").unwrap();
        for tag in 0..7 {
            let listed = images.list_tag(format!("tag-{tag}")).unwrap();
            let listed: BTreeSet<_> = listed.iter().map(|entry| entry.key().to_vec()).collect();
            let carry = self.keys.iter().filter(|(_, key)| key.number % 7 == tag);
            let visible = carry.filter(|(_, key)| !key.visible.is_empty());
            assert_eq!(listed, visible.map(|(name, _)| name.clone().into_bytes()).collect());
        }
    }

    /// A byte of the ledger was changed after a clean close: whoever asks is told.
    fn expect_broken_ledger(&self, disk: &MemoryDisk, path: &Path) {
        let store = builder(disk).open_read_only().unwrap();
        let report = store.verify_ledger().unwrap();
        assert!(report.problems.iter().any(|problem| problem.path == path), "{report:?}");
        let proof = store.prove_retention(..).unwrap();
        assert_eq!(proof.verdict, RetentionVerdict::Broken);
        let store = open(builder(disk), false);
        assert!(!store.verify_ledger().unwrap().problems.is_empty(), "kept as it was found");
    }

    fn read_keys(&self, store: &Store, older: bool) -> bool {
        let Ok(images) = store.existing_keyspace("images") else { return true };
        let allowed = |name: &str, value: &[u8]| {
            let key = &self.keys[name];
            let newest = key.visible.len().saturating_sub(1);
            key.visible[if older { 0 } else { newest }..]
                .iter()
                .any(|version| value_of(key.number, *version, LONGEST) == value)
        };
        let mut noticed = false;
        for (name, key) in &self.keys {
            match images.get(name) {
                Ok(Some(value)) => {
                    assert!(
                        allowed(name, &value),
                        "{name}: {:?} of {:?}",
                        &value[..8],
                        key.visible
                    );
                    assert_eq!(value.metadata(), b"metadata");
                }
                Ok(None) => noticed |= !key.visible.is_empty(),
                Err(_) => noticed = true,
            }
        }
        for entry in images.iter() {
            match entry {
                Ok(entry) => {
                    let name = std::str::from_utf8(entry.key()).unwrap();
                    assert!(!self.keys[name].visible.is_empty(), "{name} is invalidated");
                    assert_eq!(entry.stat().metadata(), b"metadata");
                }
                Err(_) => noticed = true,
            }
        }
        noticed
    }

    fn read_rows(&self, store: &Store) -> bool {
        let Ok(access) = store.existing_log("access") else { return true };
        let mut noticed = false;
        for (id, version) in &self.rows {
            match access.get(*id) {
                Ok(Some(row)) => {
                    assert_eq!(row.payload().as_ref(), value_of(99, *version, LONGEST));
                    assert!(row.subject().is_some());
                }
                Ok(None) | Err(_) => noticed = true,
            }
        }
        let mut last = Default::default();
        for row in access.scan(..).into_iter().flatten() {
            let Ok(row) = row else { return true };
            assert!(row.time() >= last);
            last = row.time();
            if row.subject().is_none() {
                assert!(row.payload().as_ref() == b"kept" || row.payload().as_ref() == b"erased");
                continue;
            }
            let version = self.rows[&row.id()];
            assert_eq!(row.payload().as_ref(), value_of(99, version, LONGEST));
        }
        noticed
    }
}

/// Which cases to take: the first one, and how far it is from each to the next, in a closed store
/// `closed_step`, so that the two modes take different ones. `EBBTIDE_DAMAGE` asks for all of them, or for a
/// number.
fn cases(total: usize, closed_step: usize, closed: bool, mapped: bool) -> (usize, usize) {
    let step = match std::env::var("EBBTIDE_DAMAGE") {
        Ok(all) if all == "all" => 1,
        Ok(few) => total.div_ceil(few.parse().unwrap()),
        _ if closed => return (if mapped { closed_step - 1 } else { 0 }, closed_step),
        _ => total.div_ceil(SAMPLE),
    };
    (Random::new(seed("damage")).below(step as u64) as usize, step)
}

/// Runs an examination; a panic in it is told with the case it happened in.
fn examined(what: &str, run: impl FnOnce() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("{what}"))
}

/// True if what can be read does not depend on this file.
fn is_beside(path: &Path) -> bool {
    path.ends_with("INDEX")
        || path.starts_with("/data/ledger")
        || path.extension().is_some_and(|extension| extension == "idx")
}

/// True if every byte of this file is covered by the chain.
fn is_ledger_file(path: &Path) -> bool {
    path.starts_with("/data/ledger") && path.extension().is_some_and(|ext| ext == "log")
}

/// Ranges of a segment in which nothing is told by a checksum: the slot that may lower the deadline,
/// the zeros behind a record and between rows, and what has been scrubbed. Both ends as offsets; the
/// lengths of a record are at fixed places.
fn padding(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::from([512..1024, 0..0]);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 1024;
    while at + 64 <= bytes.len() {
        let expiry = if bytes[at + 10] & 1 == 1 { 8 } else { 0 };
        let tags = 16 * usize::from(bytes[at + 9]);
        let value = at + 64 + 16 + expiry + tags + word(at + 12) + word(at + 16);
        let end = value + word(at + 20);
        let gone = |at: usize| bytes[at..at + 4] == *b"GONE";
        if gone(at + 4) {
            ranges.push(at + 64..end);
        } else if bytes[at + 8] == 2 {
            let mut last = value;
            for entry in bytes[at + 64 + 16 + 8..value].chunks(20) {
                let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
                let (start, len) = (value + word(0) as usize, word(4) as usize);
                ranges.push(last..start);
                last = start + len;
                if gone(start) {
                    ranges.push(start + 4..last);
                }
            }
        }
        at = end.next_multiple_of(8);
        ranges.push(end..at);
    }
    ranges
}

/// Which entry of a tombstone log was written last: no later one tells that it was durable.
fn last_entry(bytes: &[u8]) -> usize {
    let (region, _) = bytes.split_at(bytes.len() / 2);
    let mut entries = region[512..].chunks(64);
    entries.rposition(|entry| entry.iter().any(|byte| *byte != 0)).unwrap_or(0)
}

/// Why a flip there may go unnoticed, if it may.
fn harmless(path: &Path, bytes: &[u8], at: usize) -> Option<&'static str> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let extension = path.extension().map_or("", |extension| extension.to_str().unwrap());
    let half = bytes.len() / 2;
    match (name, extension) {
        _ if is_ledger_file(path) => None,
        ("INDEX", _) => Some("INDEX, a cache"),
        ("spare" | "spare.tmp", _) => Some("a spare"),
        (_, "idx") => Some("sidecar, a cache"),
        (_, "log") if bytes[at] == 0 && (72..512).contains(&(at % half)) => {
            Some("zeros behind the header of a tombstone region")
        }
        (_, "log") if bytes[at - at % 64..][..64].iter().all(|byte| *byte == 0) => {
            Some("an entry of a tombstone log that is not written yet")
        }
        (_, "log") if (at % half).saturating_sub(512) / 64 == last_entry(bytes) => {
            Some("the last entry of a tombstone log, mended from the other region")
        }
        (_, "seg") if padding(bytes).iter().any(|range| range.contains(&at)) => {
            Some("zeros of a segment, or what was scrubbed")
        }
        _ => None,
    }
}

fn flip_everything(closed: bool, mapped: bool) {
    let sample = make(closed);
    let files = sample.files();
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let (mut next, step) = cases(2 * total, 4, closed, mapped);
    let (mut flips, mut unnoticed) = (0, BTreeMap::<&str, u32>::new());
    for (path, bytes) in &files {
        while next < 2 * bytes.len() {
            let (at, mask) = (next / 2, [0x01, 0x80][next % 2]);
            let mut changed = bytes.clone();
            changed[at] ^= mask;
            let what = format!("{} byte {at} xor {mask:#x} (closed {closed})", path.display());
            let disk = sample.with(path, &changed);
            let noticed = examined(&what, || sample.examine(&disk, path, mapped, flips % 4 == 0));
            if closed && is_ledger_file(path) && flips % 4 == 0 {
                sample.expect_broken_ledger(&sample.with(path, &changed), path);
            }
            if closed && !noticed {
                let why = harmless(path, bytes, at).unwrap_or_else(|| panic!("unnoticed: {what}"));
                *unnoticed.entry(why).or_default() += 1;
            }
            flips += 1;
            next += step;
        }
        next -= 2 * bytes.len();
    }
    println!("closed {closed}, mapped {mapped}: {flips} flips of {total} bytes");
    println!("  unnoticed, all harmless: {unnoticed:?}");
}

fn cut_everything(closed: bool, mapped: bool) {
    let sample = make(closed);
    let files = sample.files();
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let (mut len, step) = cases(total, 7, closed, mapped);
    let mut cuts = 0;
    for (path, bytes) in &files {
        while len < bytes.len() {
            let what = format!("{} cut at {len} (closed {closed})", path.display());
            let disk = sample.with(path, &bytes[..len]);
            examined(&what, || sample.examine(&disk, path, mapped, cuts % 4 == 0));
            if closed && is_ledger_file(path) && cuts % 4 == 0 {
                sample.expect_broken_ledger(&sample.with(path, &bytes[..len]), path);
            }
            cuts += 1;
            len += step;
        }
        len -= bytes.len();
        let disk = sample.with(path, &[]);
        examined(&format!("{} empty", path.display()), || {
            sample.examine(&disk, path, mapped, true)
        });
    }
    println!("closed {closed}, mapped {mapped}: {cuts} cuts");
}

#[test]
fn an_undamaged_store_gives_everything() {
    for closed in [true, false] {
        let sample = make(closed);
        for mapped in MODES {
            let disk = sample.disk.fork();
            let store = open(builder(&disk), mapped);
            assert!(!sample.read_keys(&store, false));
            assert!(!sample.read_rows(&store));
            assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
            assert!(store.verify().unwrap().problems.is_empty());
        }
    }
}

#[test]
fn flips_of_a_closed_store_by_position() {
    flip_everything(true, false);
}

#[test]
fn flips_of_a_closed_store_mapped() {
    flip_everything(true, true);
}

#[test]
fn flips_of_a_killed_store_by_position() {
    flip_everything(false, false);
}

#[test]
fn flips_of_a_killed_store_mapped() {
    flip_everything(false, true);
}

#[test]
fn cuts_by_position() {
    cut_everything(true, false);
    cut_everything(false, false);
}

#[test]
fn cuts_mapped() {
    cut_everything(true, true);
    cut_everything(false, true);
}

/// Puts a version that nobody knows in place of the one at an offset.
fn set_version(bytes: &mut [u8], offset: usize) {
    let version = 3_u32;
    bytes[offset + 8..offset + 12].copy_from_slice(&(version | (!version << 16)).to_le_bytes());
}

#[test]
fn an_unknown_version_is_told_and_left_alone() {
    let sample = make(true);
    for (path, bytes) in sample.files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut changed = bytes.clone();
        set_version(&mut changed, 0);
        let is_segment = name.ends_with(".seg");
        match name.as_str() {
            "STORE" | "STATE" | "KEYSPACE" | "LOG" | "pseudonym.keys" => {
                set_version(&mut changed, 4096);
            }
            _ if is_ledger_file(&path) => {
                let disk = sample.with(&path, &changed);
                sample.expect_broken_ledger(&disk, &path);
                assert_eq!(disk.read_file(&path).unwrap(), changed, "{name} was touched");
                continue;
            }
            _ if name.ends_with(".log") => set_version(&mut changed, bytes.len() / 2),
            _ if is_segment => {}
            _ => continue,
        }
        for mapped in MODES {
            let disk = sample.with(&path, &changed);
            match try_open(builder(&disk), mapped) {
                Ok(store) => {
                    assert!(is_segment, "{name} of another version was opened");
                    assert_eq!(
                        store.recovery_report().unknown_versions,
                        std::slice::from_ref(&path)
                    );
                    if path.starts_with("/data/keyspaces") {
                        let images = store.existing_keyspace("images").unwrap();
                        assert_eq!(images.iter().count(), 0, "it may have newer versions");
                    }
                }
                Err(Error::UnknownVersion { path: told, found: 3, known: 2 }) => {
                    assert!(!is_segment);
                    assert_eq!(told, path);
                }
                Err(other) => panic!("{name}: {other}"),
            }
            assert_eq!(disk.read_file(&path).unwrap(), changed, "{name} was touched");
        }
    }
}

#[test]
fn huge_lengths_and_counts_are_refused() {
    for closed in [true, false] {
        let sample = make(closed);
        for (path, bytes) in sample.files() {
            // Every aligned word of the first 128 bytes, which is where lengths and counts stand.
            for at in (16..bytes.len().min(128)).step_by(4) {
                let mut changed = bytes.clone();
                changed[at..at + 4].fill(0xff);
                for mapped in MODES {
                    let disk = sample.with(&path, &changed);
                    let what = format!("{} word {at}", path.display());
                    examined(&what, || sample.examine(&disk, &path, mapped, false));
                }
            }
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + 100_000, 0xff);
            let disk = sample.with(&path, &longer);
            let what = format!("{} made longer", path.display());
            examined(&what, || sample.examine(&disk, &path, false, true));
        }
    }
}

#[test]
fn directories_for_files_and_files_for_directories() {
    for closed in [true, false] {
        let sample = make(closed);
        for (path, _) in sample.files() {
            for mapped in MODES {
                let disk = sample.disk.fork();
                disk.remove_file(&path).unwrap();
                disk.create_dir(&path).unwrap();
                // Without a file, what was in it cannot be missed: older versions are no surprise.
                let what = format!("a directory {}", path.display());
                examined(&what, || match try_open(builder(&disk), mapped) {
                    Ok(store) => {
                        sample.read_keys(&store, true);
                        sample.read_rows(&store);
                        store.verify().is_ok()
                    }
                    Err(_) => true,
                });
            }
        }
    }
}

#[test]
fn unknown_names_are_ignored() {
    let sample = make(true);
    let bucket =
        sample.files().into_iter().find(|(path, _)| path.to_str().unwrap().ends_with(".seg"));
    let bucket = bucket.unwrap().0.parent().unwrap().to_owned();
    for mapped in MODES {
        let disk = sample.disk.fork();
        for dir in [
            "/data",
            "/data/keyspaces",
            "/data/keyspaces/images",
            "/data/tombstones",
            "/data/ledger",
        ] {
            disk.write_file(&Path::new(dir).join("stranger"), b"?").unwrap();
            disk.create_dir(&Path::new(dir).join("Strange-Directory")).unwrap();
        }
        disk.write_file(&bucket.join("1.seg"), b"?").unwrap();
        disk.write_file(&bucket.join("zzzzzzzzzzzzzzzz.seg"), b"?").unwrap();
        disk.create_dir(Path::new("/data/keyspaces/images/20261399T000000000Z")).unwrap();
        let store = open(builder(&disk), mapped);
        assert!(!sample.read_keys(&store, false));
        assert!(!sample.read_rows(&store));
        assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
        assert_eq!(store.keyspaces(), ["images"]);
        store.maintain().unwrap();
        store.close().unwrap();
        assert_eq!(disk.read_file(Path::new("/data/stranger")).unwrap(), b"?");
    }
}

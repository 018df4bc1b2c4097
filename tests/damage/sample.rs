//! A small store with everything in it, and what may be read of it when it is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Keyspace, KeyspaceOptions, LogOptions, Retention, RetentionVerdict, Row, RowId, Store,
    StoreBuilder,
};

use super::fixture::{clock, minutes, on_memory, open, try_open, value_of};

const KEYS: u64 = 10;
/// Versions of each key; half an hour lies between two of them, and the first one is in a bucket of
/// its own.
const VERSIONS: u64 = 3;
/// Rows that are appended with each version.
const ROWS: u64 = 3;
const LONGEST: u64 = 300;

/// A store on a disk, and what may be read of it.
pub(crate) struct Sample {
    pub(crate) disk: MemoryDisk,
    keys: BTreeMap<String, Key>,
    rows: BTreeMap<RowId, u64>,
}

/// Where a changed byte was told of when the store was opened to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Found {
    /// It was not opened.
    ByOpening,
    /// `verify` names a problem.
    ByVerify,
    /// The recovery report does, and `verify` does not.
    InReport,
    /// Nothing was told, and everything was served.
    Nowhere,
}

/// The versions of a key that nothing has invalidated, the newest last.
#[derive(Default)]
struct Key {
    number: u64,
    visible: Vec<u64>,
}

pub(crate) fn builder(disk: &MemoryDisk) -> StoreBuilder {
    let clock = clock();
    clock.advance(minutes(100));
    on_memory(disk, &clock)
}

pub(crate) fn make(closed: bool) -> Sample {
    let disk = MemoryDisk::new(5);
    let clock = clock();
    let store = open(on_memory(&disk, &clock), false);
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    let images = store.keyspace("images", options).unwrap();
    let options = LogOptions::new(Retention::hours(16)).segment_bytes(4096);
    let access = store.log("access", options).unwrap();
    let mut sample = Sample { disk, keys: BTreeMap::new(), rows: BTreeMap::new() };
    for version in 0..VERSIONS {
        for number in 0..KEYS {
            if (number + version) % 3 != 2 {
                sample.insert(&images, number, version);
            }
        }
        sample.invalidate(&images, version * 3, version);
        sample.invalidate(&images, version * 3 + 1, version + 1);
        for row in 0..ROWS {
            let version = version * ROWS + row;
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
        if version == 1 {
            // In sealed segments, and in those that are written to.
            access.invalidate_tag("erased").unwrap();
            store.scrub().unwrap();
        }
        if version != VERSIONS - 1 {
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

    /// All files but LOCK, and their contents.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.disk.all_files().into_iter().filter(|path| !path.ends_with("LOCK"));
        files.map(|path| (path.clone(), self.disk.read_file(&path).unwrap())).collect()
    }

    /// The disk with other contents in one file.
    pub(crate) fn with(&self, path: &Path, bytes: &[u8]) -> MemoryDisk {
        let disk = self.disk.fork();
        disk.write_file(path, bytes).unwrap();
        disk
    }

    /// True if what was last written to this file may be lost like after a power cut: it is a
    /// segment that was never sealed.
    pub(crate) fn may_lose_its_end(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "seg")
            && self.disk.read_file(&path.with_extension("idx")).is_err()
    }

    /// Looks at everything and changes nothing. Panics on anything wrong.
    pub(crate) fn look(&self, disk: &MemoryDisk, path: &Path) -> Found {
        let older = self.may_lose_its_end(path);
        let store = match builder(disk).open_read_only() {
            Ok(store) => store,
            Err(_) => return Found::ByOpening,
        };
        let mut noticed = self.read_keys(&store, older);
        noticed |= self.read_rows(&store);
        if !store.verify().unwrap().problems.is_empty() {
            Found::ByVerify
        } else if !store.recovery_report().is_clean() {
            Found::InReport
        } else {
            assert!(!noticed, "what a reader misses is told");
            Found::Nowhere
        }
    }

    /// Opens for writing and reads everything, and once more after that. Panics on anything wrong.
    pub(crate) fn examine(&self, disk: &MemoryDisk, path: &Path, mapped: bool, again: bool) {
        let older = self.may_lose_its_end(path);
        let Ok(store) = try_open(builder(disk), mapped) else { return };
        self.read_keys(&store, older);
        self.read_rows(&store);
        if again {
            if is_beside(path) {
                self.read_unharmed(&store);
            }
            store.verify().unwrap();
            let _ = store.residue().unwrap();
        }
        // A close would write everything anew.
        let disk = disk.kill();
        drop(store);
        if again && let Ok(store) = try_open(builder(&disk), mapped) {
            self.read_keys(&store, older);
            self.read_rows(&store);
            disk.kill();
        }
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
    pub(crate) fn expect_broken_ledger(&self, disk: &MemoryDisk, path: &Path) {
        let store = builder(disk).open_read_only().unwrap();
        let report = store.verify_ledger().unwrap();
        assert!(report.problems.iter().any(|problem| problem.path == path), "{report:?}");
        let proof = store.prove_retention(..).unwrap();
        assert_eq!(proof.verdict, RetentionVerdict::Broken);
        let store = open(builder(disk), false);
        assert!(!store.verify_ledger().unwrap().problems.is_empty(), "kept as it was found");
    }

    pub(crate) fn read_keys(&self, store: &Store, older: bool) -> bool {
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

    pub(crate) fn read_rows(&self, store: &Store) -> bool {
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

/// True if what can be read does not depend on this file.
fn is_beside(path: &Path) -> bool {
    path.ends_with("INDEX")
        || path.starts_with("/data/ledger")
        || path.extension().is_some_and(|extension| extension == "idx")
}

/// True if every byte of this file is covered by the chain.
pub(crate) fn is_ledger_file(path: &Path) -> bool {
    path.starts_with("/data/ledger") && path.extension().is_some_and(|ext| ext == "log")
}

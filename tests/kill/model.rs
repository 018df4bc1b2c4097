//! What the notes say of the store, and what it must show for that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ebbtide::{
    Error, InvalidatedScope, Keyspace, LedgerKind, Log, Lookup, RetentionVerdict, RowId, Store,
    Timestamp,
};

use crate::fixture::{START, value_of};
use crate::{HOUR_MS, KEYS, LONGEST, LONGEST_ROW, NEEDLE, WINDOW_MS, files, key};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) version: u64,
    pub(crate) tags: u64,
    pub(crate) gone_ms: u64,
    pub(crate) is_stale: bool,
}

#[derive(Debug)]
pub(crate) struct HeldFill {
    pub(crate) key: u64,
    pub(crate) tags: u64,
    /// Something that must win over it came in between.
    pub(crate) covered: bool,
}

#[derive(Debug)]
pub(crate) struct RowKnown {
    pub(crate) id: RowId,
    pub(crate) pseudonym: Option<String>,
    pub(crate) gone_ms: u64,
    pub(crate) tags: u64,
    /// An invalidation that covers it was cut off.
    pub(crate) maybe_gone: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Denial {
    pub(crate) until_ms: u64,
    /// One that was cut off may have set this time.
    pub(crate) maybe_until_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) elapsed_ms: u64,
    /// What a key may hold: one state, and a second one if the last operation was cut off.
    pub(crate) keys: BTreeMap<u64, Vec<Option<Record>>>,
    pub(crate) denials: BTreeMap<u64, Denial>,
    pub(crate) held: Option<HeldFill>,
    pub(crate) rows: BTreeMap<u64, RowKnown>,
    /// Rows whose append was cut off, with their tags.
    pub(crate) maybe_rows: BTreeMap<u64, u64>,
    /// Rows that an invalidation has hidden.
    pub(crate) dead_rows: BTreeSet<u64>,
    pub(crate) pseudonyms: BTreeMap<(u64, u64), String>,
    /// Values of keys that may have been written and have no expiry of their own: version and key.
    pub(crate) written: BTreeMap<u64, u64>,
    /// Buckets that something was stored in, by their owner and start.
    pub(crate) buckets: BTreeSet<(&'static str, u64)>,
    /// Heads of the ledger, by their numbers.
    pub(crate) heads: BTreeMap<u64, String>,
    /// Acknowledged invalidations of keys, tags and everything.
    pub(crate) invalidations: [u64; 3],
    pub(crate) version: u64,
    pub(crate) acknowledged: u64,
}

impl Model {
    pub(crate) fn now_ms(&self) -> u64 {
        START.as_millis() + self.elapsed_ms
    }

    pub(crate) fn bucket_ms(&self) -> u64 {
        self.now_ms() / HOUR_MS * HOUR_MS
    }

    pub(crate) fn gone_ms(&self) -> u64 {
        self.bucket_ms() + WINDOW_MS
    }

    pub(crate) fn take_notes(&mut self, notes: &str) {
        // A line without its end was being written when the process died.
        let lines: Vec<&str> =
            notes.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
        let mut next = 0;
        while let Some(line) = lines.get(next) {
            let intent: Vec<&str> = line.strip_prefix("> ").unwrap().split(' ').collect();
            let answer = lines.get(next + 1).map(|line| line.strip_prefix("< ").unwrap());
            self.apply(&intent, answer);
            next += 2;
        }
        self.held = None;
    }

    pub(crate) fn apply(&mut self, intent: &[&str], answer: Option<&str>) {
        let number = |at: usize| intent[at].parse::<u64>().unwrap();
        self.acknowledged += u64::from(answer.is_some());
        match intent[0] {
            "insert" => self.put(number(1), number(2), 0, u64::MAX, answer),
            "fill" => {
                assert_ne!(answer, Some("superseded"));
                self.put(number(1), number(2), number(3), number(4), answer);
            }
            "abort" => {
                self.version = self.version.max(number(2));
                self.written.insert(number(2), number(1));
            }
            "begin" => {
                self.held = Some(HeldFill { key: number(1), tags: number(2), covered: false });
            }
            "commit" => self.commit(number(2), answer),
            "batch" => self.batch(&intent[1..], answer),
            "row" => self.row(number(1), number(2), number(3), answer),
            "advance" => self.elapsed_ms += number(1),
            "open" | "close" => self.held = None,
            "sync" | "maintain" | "scrub" => self.head(answer),
            _ => self.forget(intent[0], &number, answer),
        }
    }

    pub(crate) fn commit(&mut self, version: u64, answer: Option<&str>) {
        let held = self.held.take().unwrap();
        self.version = self.version.max(version);
        if answer == Some("stored") {
            assert!(!held.covered, "a fill was stored over what came in between");
        }
        if !matches!(answer, Some("superseded" | "late")) {
            self.put(held.key, version, held.tags, u64::MAX, answer);
        }
    }

    pub(crate) fn batch(&mut self, items: &[&str], answer: Option<&str>) {
        let items: Vec<(u64, u64)> = items
            .chunks(2)
            .map(|pair| (pair[0].parse().unwrap(), pair[1].parse().unwrap()))
            .collect();
        if answer == Some("denied") {
            self.version = self.version.max(items.iter().map(|item| item.1).max().unwrap());
            let now_ms = self.now_ms();
            let may_be = |item: &&(u64, u64)| self.may_be_denied(item.0, now_ms);
            let maybe: Vec<_> = items.iter().filter(may_be).collect();
            assert!(!maybe.is_empty(), "nothing of a batch was denied");
            return;
        }
        for (key, version) in items {
            self.put(key, version, 0, u64::MAX, answer);
        }
    }

    pub(crate) fn may_be_denied(&self, key: u64, now_ms: u64) -> bool {
        let denial = self.denials.get(&key);
        denial.is_some_and(|denial| denial.until_ms.max(denial.maybe_until_ms) > now_ms)
    }

    pub(crate) fn head(&mut self, answer: Option<&str>) {
        let Some(answer) = answer else { return };
        let parts: Vec<&str> = answer.split(' ').collect();
        if let ["head", number, hash] = parts[..]
            && number != "0"
        {
            self.heads.insert(number.parse().unwrap(), hash.to_owned());
        }
    }

    pub(crate) fn forget(
        &mut self,
        verb: &str,
        number: &dyn Fn(usize) -> u64,
        answer: Option<&str>,
    ) {
        let scope = match verb {
            "invalidate" | "soft" | "erase" => 0,
            "invalidate_all" => 2,
            _ => 1,
        };
        self.invalidations[scope] += u64::from(answer.is_some());
        let any = |set: u64| move |_: u64, tags: u64| tags & set != 0;
        match verb {
            "invalidate" => self.hide(answer, false, |key, _| key == number(1)),
            "soft" => self.hide(answer, true, |key, _| key == number(1)),
            "invalidate_tags" => self.hide(answer, false, any(number(1))),
            "soft_tag" => self.hide(answer, true, any(number(1))),
            "invalidate_all" => self.hide(answer, false, |_, _| true),
            "invalidate_rows" => self.hide_rows(answer, number(1)),
            "invalidate_everywhere" => {
                self.hide(answer, false, any(number(1)));
                self.hide_rows(answer, number(1));
            }
            "erase" => {
                self.hide(answer, false, |key, _| key == number(1));
                let denial = self.denials.entry(number(1)).or_default();
                let until_ms = match answer {
                    Some(_) => &mut denial.until_ms,
                    None => &mut denial.maybe_until_ms,
                };
                *until_ms = number(2).max(*until_ms);
            }
            other => panic!("{other}"),
        }
    }

    pub(crate) fn put(
        &mut self,
        key: u64,
        version: u64,
        tags: u64,
        until: u64,
        answer: Option<&str>,
    ) {
        self.version = self.version.max(version);
        let now_ms = self.now_ms();
        if answer == Some("denied") {
            assert!(self.may_be_denied(key, now_ms), "key {key} is not denied");
            let denial = self.denials.get_mut(&key).unwrap();
            denial.until_ms = denial.until_ms.max(denial.maybe_until_ms);
            return;
        }
        if let Some(denial) = self.denials.get_mut(&key).filter(|_| answer.is_some()) {
            assert!(denial.until_ms <= now_ms, "key {key} was denied and stored");
            *denial = Denial::default();
        }
        if until == u64::MAX {
            self.written.insert(version, key);
        }
        if answer.is_some() {
            self.buckets.insert(("images", self.bucket_ms()));
        }
        if answer.is_none() && self.denials.get(&key).is_some_and(|d| d.until_ms > now_ms) {
            return;
        }
        let gone_ms = self.gone_ms().min(until);
        let record = Record { version, tags, gone_ms, is_stale: false };
        if let Some(held) = self.held.as_mut().filter(|held| held.key == key) {
            held.covered = true;
        }
        let states = self.keys.entry(key).or_insert_with(|| vec![None]);
        if answer.is_some() {
            states.clear();
        }
        states.push(Some(record));
    }

    /// Hides, or lets be stale, what this applies to.
    pub(crate) fn hide(
        &mut self,
        answer: Option<&str>,
        softly: bool,
        applies: impl Fn(u64, u64) -> bool,
    ) {
        if let Some(held) = &mut self.held {
            held.covered |= applies(held.key, held.tags);
        }
        for (key, states) in &mut self.keys {
            let mut changed = Vec::new();
            for state in states.iter_mut() {
                let Some(record) = state.as_ref().filter(|record| applies(*key, record.tags))
                else {
                    continue;
                };
                let after = softly.then(|| Record { is_stale: true, ..record.clone() });
                match answer {
                    Some(_) => *state = after,
                    None => changed.push(after),
                }
            }
            states.extend(changed);
            states.dedup();
        }
    }

    pub(crate) fn hide_rows(&mut self, answer: Option<&str>, set: u64) {
        if answer.is_none() {
            let covered = self.rows.values_mut().filter(|row| row.tags & set != 0);
            covered.for_each(|row| row.maybe_gone = true);
            return;
        }
        let certain = self.rows.iter().filter(|(_, row)| row.tags & set != 0);
        self.dead_rows.extend(certain.map(|(number, _)| *number));
        let doubtful = self.maybe_rows.iter().filter(|(_, tags)| **tags & set != 0);
        self.dead_rows.extend(doubtful.map(|(number, _)| *number));
        self.rows.retain(|_, row| row.tags & set == 0);
        self.maybe_rows.retain(|_, tags| *tags & set == 0);
    }

    pub(crate) fn row(&mut self, version: u64, visitor: u64, tags: u64, answer: Option<&str>) {
        self.version = self.version.max(version);
        let Some(answer) = answer else {
            self.maybe_rows.insert(version, tags);
            return;
        };
        self.buckets.insert(("access", self.bucket_ms()));
        let parts: Vec<&str> = answer.split(' ').collect();
        let pseudonym = parts[2].to_owned();
        let known = self.pseudonyms.entry((visitor, self.bucket_ms())).or_insert(pseudonym.clone());
        assert_eq!(*known, pseudonym, "one address, one bucket, two pseudonyms");
        let row = RowKnown {
            id: parts[1].parse().unwrap(),
            pseudonym: (visitor != 0).then_some(pseudonym),
            gone_ms: self.gone_ms(),
            tags,
            maybe_gone: false,
        };
        self.rows.insert(version, row);
    }

    /// Compares an open store with what may be there, and takes over what is.
    pub(crate) fn check(&mut self, store: &Store) {
        let report = store.recovery_report();
        assert!(report.corrupt_records.is_empty(), "{report:?}");
        assert!(report.unknown_versions.is_empty(), "{report:?}");
        let now_ms = self.now_ms();
        if let Ok(images) = store.existing_keyspace("images") {
            self.check_images(&images, now_ms);
        } else {
            let certain = |states: &Vec<Option<Record>>| states.iter().all(Option::is_some);
            assert!(!self.keys.values().any(certain), "the keyspace is gone");
        }
        match store.existing_log("access") {
            Ok(access) => self.check_rows(&access, now_ms),
            Err(_) => assert!(self.rows.is_empty(), "the log is gone"),
        }
    }

    pub(crate) fn check_images(&mut self, images: &Keyspace, now_ms: u64) {
        let listed: BTreeSet<String> = images
            .iter()
            .map(|entry| String::from_utf8(entry.unwrap().key().to_vec()).unwrap())
            .collect();
        for number in 0..KEYS {
            let states = self.keys.entry(number).or_insert_with(|| vec![None]);
            states.iter_mut().for_each(|state| {
                if state.as_ref().is_some_and(|record| record.gone_ms <= now_ms) {
                    *state = None;
                }
            });
            let (value, is_stale) = match images.lookup(key(number)).unwrap() {
                Lookup::Fresh(value) => (Some(value), false),
                Lookup::Stale(value) => (Some(value), true),
                Lookup::Absent => (None, false),
            };
            let fresh = images.get(key(number)).unwrap();
            assert_eq!(fresh.is_some(), value.is_some() && !is_stale, "key {number}: stale");
            assert_eq!(fresh.is_some(), listed.contains(&key(number)), "key {number}: iter");
            assert_eq!(fresh.is_some(), images.contains(key(number)).unwrap());
            let found = states.iter().find(|state| match (state, &value) {
                (None, None) => true,
                (Some(record), Some(value)) => {
                    record.is_stale == is_stale
                        && value_of(number, record.version, LONGEST) == value.as_ref()
                }
                _ => false,
            });
            let Some(found) = found.cloned() else {
                let version = value.map(|value| value.as_ref()[..8].to_vec());
                panic!("key {number}: {states:?} expected, {version:?} found, stale {is_stale}");
            };
            if let (Some(record), Some(value)) = (&found, &value) {
                assert_eq!(value.stat().gone_at().as_millis(), record.gone_ms);
                assert_eq!(value.stat().tag_count(), record.tags.count_ones() as usize);
            }
            *states = vec![found];
        }
    }

    pub(crate) fn check_rows(&mut self, access: &Log, now_ms: u64) {
        let dead_rows = &mut self.dead_rows;
        self.rows.retain(|version, row| {
            let read = access.get(row.id).unwrap();
            if now_ms >= row.gone_ms {
                assert!(read.is_none(), "an expired row is read");
                return false;
            }
            if row.maybe_gone && read.is_none() {
                dead_rows.insert(*version);
                return false;
            }
            row.maybe_gone = false;
            let read = read.unwrap_or_else(|| panic!("row {version} is gone"));
            assert_eq!(read.payload().as_ref(), value_of(0, *version, LONGEST_ROW));
            assert_eq!(read.tag_count(), row.tags.count_ones() as usize);
            assert_eq!(read.subject().map(|subject| subject.to_string()), row.pseudonym);
            true
        });
        let mut seen = BTreeSet::new();
        let mut last = Timestamp::default();
        for row in access.scan(..).unwrap() {
            let row = row.unwrap();
            assert!(row.time() >= last, "out of order");
            last = row.time();
            let version = u64::from_le_bytes(row.payload()[..8].try_into().unwrap());
            assert_eq!(row.payload().as_ref(), value_of(0, version, LONGEST_ROW));
            assert!(seen.insert(version), "row {version} twice");
            let expected =
                self.rows.contains_key(&version) || self.maybe_rows.contains_key(&version);
            assert!(expected, "row {version} out of nowhere");
        }
        let missing: Vec<_> = self.rows.keys().filter(|row| !seen.contains(row)).collect();
        assert!(missing.is_empty(), "not scanned: {missing:?}");
    }

    /// What a store that was opened for writing must be, beside what can be read in it.
    pub(crate) fn check_writable(&mut self, store: &Store, dir: &Path) {
        let problems = store.verify().unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        self.check_ledger(store, dir);
        let files = files(&dir.join("data"));
        let is_part =
            |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "part");
        assert_eq!(files.iter().find(is_part), None);
        let now_ms = self.now_ms();
        self.denials.retain(|_, denial| denial.until_ms.max(denial.maybe_until_ms) > now_ms);
        let Ok(images) = store.existing_keyspace("images") else { return };
        for (number, denial) in self.denials.iter().filter(|(_, d)| d.until_ms > now_ms) {
            match images.insert(key(*number), "denied") {
                Err(Error::Denied { until }) => assert!(until.as_millis() >= denial.until_ms),
                other => panic!("key {number} is denied: {other:?}"),
            }
        }
    }

    /// The chain is whole and goes on from every head that was seen, and each bucket on the disk is
    /// open in it, and none else.
    pub(crate) fn check_ledger(&self, store: &Store, dir: &Path) {
        let report = store.verify_ledger().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let proof = store.prove_retention(..).unwrap();
        assert_ne!(proof.verdict, RetentionVerdict::Broken);
        let (mut hashes, mut open) = (BTreeMap::new(), BTreeSet::new());
        for entry in store.ledger().unwrap() {
            let hash: String = entry.hash.iter().map(|byte| format!("{byte:02x}")).collect();
            hashes.insert(entry.number, hash);
            let bucket = || {
                let start = entry.bucket_start.unwrap().to_string().replace(['-', ':', '.'], "");
                (entry.owner.clone().unwrap_or_default(), start)
            };
            match entry.kind {
                LedgerKind::BucketBorn { .. } => assert!(open.insert(bucket()), "born: {entry}"),
                LedgerKind::BucketDropped(_) => assert!(open.remove(&bucket()), "dropped: {entry}"),
                _ => {}
            }
        }
        for (number, hash) in &self.heads {
            assert_eq!(hashes.get(number), Some(hash), "entry {number}");
        }
        let mut dirs = BTreeSet::new();
        for owner in ["keyspaces/images", "logs/access"] {
            let entries = fs::read_dir(dir.join("data").join(owner)).into_iter().flatten();
            let entries = entries.map(Result::unwrap).filter(|entry| entry.path().is_dir());
            let name = owner.split('/').next_back().unwrap().to_owned();
            dirs.extend(entries.map(|e| (name.clone(), e.file_name().into_string().unwrap())));
        }
        // Of a bucket whose making was cut off there may be no directory.
        assert_eq!(open, dirs);
    }

    /// After all upkeep: what was due has left and stands in the ledger, and every invalidation is
    /// counted.
    pub(crate) fn check_maintained(&mut self, store: &Store) {
        let now_ms = self.now_ms();
        let (mut dropped, mut counts) = (BTreeSet::new(), [0; 3]);
        for entry in store.ledger().unwrap() {
            match entry.kind {
                LedgerKind::BucketDropped(_) => {
                    let start_ms = entry.bucket_start.unwrap().as_millis();
                    dropped.insert((entry.owner.unwrap_or_default(), start_ms));
                }
                LedgerKind::Invalidated { scope, count } => {
                    let scope = match scope {
                        InvalidatedScope::Key => 0,
                        InvalidatedScope::Tag => 1,
                        _ => 2,
                    };
                    counts[scope] += count;
                }
                _ => {}
            }
        }
        for (owner, start_ms) in &self.buckets {
            let bucket = ((*owner).to_owned(), *start_ms);
            let is_due = start_ms + WINDOW_MS <= now_ms;
            assert!(!is_due || dropped.contains(&bucket), "{bucket:?} has no entry");
        }
        for (scope, (counted, acknowledged)) in counts.iter().zip(self.invalidations).enumerate() {
            assert!(*counted >= acknowledged, "scope {scope}: {counted} of {acknowledged}");
        }
    }

    /// After a scrub, nothing of what is dead is in any file. The model knows what every key holds.
    pub(crate) fn check_erased(&self, dir: &Path) {
        let live: BTreeSet<u64> =
            self.keys.values().flatten().flatten().map(|record| record.version).collect();
        let values = self.written.iter().filter(|(version, _)| !live.contains(version));
        let values = values.map(|(version, key)| value_of(*key, *version, LONGEST));
        let rows = self.dead_rows.iter().map(|version| value_of(0, *version, LONGEST_ROW));
        let mut needles = BTreeMap::new();
        for value in values.chain(rows).filter(|value| value.len() >= NEEDLE.end) {
            let version = u64::from_le_bytes(value[..8].try_into().unwrap());
            needles.insert(value[NEEDLE].to_vec(), version);
        }
        let firsts: std::collections::HashSet<[u8; 4]> =
            needles.keys().map(|needle| needle[..4].try_into().unwrap()).collect();
        for path in files(&dir.join("data")) {
            let bytes = fs::read(&path).unwrap();
            for window in bytes.windows(NEEDLE.len()) {
                let first: [u8; 4] = window[..4].try_into().unwrap();
                if firsts.contains(&first)
                    && let Some(version) = needles.get(window)
                {
                    panic!("version {version} is dead and in {}", path.display());
                }
            }
        }
    }
}

//! Reading the store under test in every way there is, and comparing each answer with the models.

use std::collections::BTreeMap;

use ebbtide::{Error, Keyspace, LogRow, Lookup, Timestamp, Value};

use super::keys::{Answer, Moment};
use super::model::{key_bytes, metadata, tag_bytes, value};
use super::ops::{KEYS, KEYSPACES, Key, TAGS, bits};
use super::traces::Trace;
use super::world::World;

impl World {
    /// The version a key gives, stale or not, checked; `None` if the disk refused.
    pub(super) fn read(&self, key: Key) -> Option<Option<u32>> {
        self.read_at(key, self.moment(key.space))
    }

    /// The same, of several keys at one moment.
    pub(super) fn read_at(&self, key: Key, moment: Moment) -> Option<Option<u32>> {
        let space = &self.opened().spaces[usize::from(key.space)];
        let name = key_bytes(key.key);
        let value = self.good(space.get(&name), "get")?;
        let id = value.as_ref().map(|value| self.identify(key, value));
        let model = &self.model.spaces[usize::from(key.space)];
        let answer = self.look_up(key, moment)?;
        let fresh = matches!(answer, Answer::Fresh(_)).then(|| answer.id()).flatten();
        assert_eq!(fresh, id, "get and lookup of {key:?} do not agree");
        if let Some(stat) = self.good(space.stat(&name), "stat") {
            assert_eq!(stat.is_some(), id.is_some(), "get and stat of {key:?} do not agree");
            if let (Some(stat), Some(id)) = (stat, id) {
                let version = model.version(key.key, id).expect("checked");
                assert!(stat.sequence() >= version.seq, "{stat:?} of {version:?}");
                assert!(stat.sequence() <= self.model.highest_seq.max(version.seq) + 64);
                let expires = version.expires.unwrap_or(u64::MAX);
                let due = version.due.earliest.min(expires)..=version.due.latest.min(expires);
                assert!(due.contains(&stat.gone_at().as_millis()), "{stat:?} of {version:?}");
            }
        }
        Some(answer.id())
    }

    /// What a look-up gives, checked; `None` if the disk refused.
    pub(super) fn look_up(&self, key: Key, moment: Moment) -> Option<Answer> {
        let space = &self.opened().spaces[usize::from(key.space)];
        let answer = match self.good(space.lookup(key_bytes(key.key)), "look up")? {
            Lookup::Fresh(value) => Answer::Fresh(self.identify(key, &value)),
            Lookup::Stale(value) => Answer::Stale(self.identify(key, &value)),
            Lookup::Absent => Answer::Absent,
        };
        self.model.spaces[usize::from(key.space)].check(key.key, answer, moment);
        Some(answer)
    }

    /// Which version a value is; fails if one byte of it is wrong.
    pub(super) fn identify(&self, key: Key, found: &Value) -> u32 {
        let id = Trace::read(found).expect("a value carries its number").number;
        let written = self.model.written.get(id as usize).expect("a value somebody wrote");
        assert_eq!(written.key, key, "the value of another key");
        assert_eq!(found.as_ref(), value(id, key, written.len), "wrong bytes");
        let wanted = if written.metadata { metadata(id) } else { Vec::new() };
        assert_eq!(found.metadata(), wanted, "wrong metadata");
        id
    }

    /// Reads everything in every way there is.
    pub(crate) fn read_all(&self) {
        let moments = self.moments();
        for (space, moment) in (0..KEYSPACES).zip(moments) {
            let keyspace = &self.opened().spaces[usize::from(space)];
            let mut seen = BTreeMap::new();
            for entry in keyspace {
                let Some(entry) = self.good(entry, "iterate") else { return };
                let key = String::from_utf8(entry.key().to_vec()).unwrap();
                let before = seen.insert(key, entry.stat().sequence());
                assert_eq!(before, None, "iteration gives a key twice");
            }
            let mut tagged = vec![Vec::new(); usize::from(TAGS)];
            for key in 0..KEYS {
                let Some(found) = self.read_at(Key { space, key }, moment) else { return };
                let name = key_bytes(key);
                let Some(stat) = self.good(keyspace.stat(&name), "stat") else { return };
                let stat = stat.map(|stat| stat.sequence());
                assert_eq!(seen.remove(&name), stat, "iteration and stat of {name} do not agree");
                let model = &self.model.spaces[usize::from(space)];
                let version = found.filter(|_| stat.is_some());
                let version = version.and_then(|id| model.version(key, id));
                for tag in bits(version.map_or(0, |version| version.tags)) {
                    tagged[usize::from(tag)].push((stat, name.clone()));
                }
            }
            if !self.check_tagged(keyspace, tagged) {
                return;
            }
            assert!(seen.is_empty(), "iteration gives keys nobody wrote: {seen:?}");
        }
        self.check_rows((0, u64::MAX));
        let [.., moment] = moments;
        for (id, row) in self.model.rows.placed() {
            let Some(found) = self.good(self.opened().log.get(id), "get row") else { return };
            self.model.rows.check_get(row, found.as_ref(), moment);
        }
    }

    /// Fails unless these are the records that are listed for each tag; false if the disk refused.
    pub(super) fn check_tagged(
        &self,
        keyspace: &Keyspace,
        tagged: Vec<Vec<(Option<u64>, String)>>,
    ) -> bool {
        for (tag, mut wanted) in (0..TAGS).zip(tagged) {
            let name = tag_bytes(tag);
            let Some(listed) = self.good(keyspace.list_tag(&name), "list a tag") else {
                return false;
            };
            let Some(count) = self.good(keyspace.count_tag(&name), "count a tag") else {
                return false;
            };
            assert_eq!(count, listed.len() as u64, "count and list of {name} do not agree");
            let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
            let listed: Vec<_> =
                listed.iter().map(|e| (Some(e.stat().sequence()), text(e.key()))).collect();
            wanted.sort();
            assert_eq!(listed, wanted, "what is listed for {name}");
        }
        true
    }

    pub(super) fn scan_all(&self) -> Option<Vec<LogRow>> {
        let scan = self.good(self.opened().log.scan(..), "scan")?;
        let rows: Result<Vec<LogRow>, Error> = scan.collect();
        self.good(rows, "scan")
    }

    pub(super) fn check_rows(&self, (first, last): (u64, u64)) {
        let range = Timestamp::from_millis(first)..=Timestamp::from_millis(last);
        let Some(scan) = self.good(self.opened().log.scan(range), "scan") else { return };
        let rows: Result<Vec<LogRow>, Error> = scan.collect();
        let Some(rows) = self.good(rows, "scan") else { return };
        self.model.rows.check_scan(&rows, (first, last), self.moment(KEYSPACES));
    }

    pub(super) fn hold(&mut self, key: Key) {
        let space = &self.opened().spaces[usize::from(key.space)];
        if let Some(Some(value)) = self.good(space.get(key_bytes(key.key)), "get") {
            let id = self.identify(key, &value);
            self.held.push((value, id));
        }
    }

    pub(super) fn check_held(&self) {
        for (value, id) in &self.held {
            let key = self.model.written[*id as usize].key;
            assert_eq!(self.identify(key, value), *id, "a held value changed");
        }
    }
}

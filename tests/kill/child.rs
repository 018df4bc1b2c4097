//! The process that is killed: it notes what it begins and what it was told.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use ebbtide::{Durability, Fill, Keyspace, Log, ManualClock, Row, Scope, Store, Timestamp};

use crate::fixture::{Random, minutes, value_of};
use crate::{KEYS, LONGEST, LONGEST_ROW, TAGS, ip, key, outcome, stored, tag, tags_of, with_tags};

pub(crate) struct Child {
    pub(crate) notes: File,
    pub(crate) clock: ManualClock,
    pub(crate) choices: Random,
    pub(crate) version: u64,
    pub(crate) held: Option<(u64, Fill)>,
}

impl Child {
    pub(crate) fn note(&mut self, line: &str) {
        self.notes.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub(crate) fn step(&mut self, store: &Store, images: &Keyspace, access: &Log) {
        let key_number = self.choices.below(KEYS);
        match self.choices.below(100) {
            0..20 => {
                let version = self.next_version();
                self.note(&format!("> insert {key_number} {version}"));
                let value = value_of(key_number, version, LONGEST);
                let result = images.insert(key(key_number), value);
                self.note(stored(result, |()| "< stored"));
            }
            20..32 => self.fill(images, key_number),
            32..38 => self.stream(images, key_number),
            38..45 => {
                let set = self.tag_set();
                self.note(&format!("> begin {key_number} {set}"));
                let mut fill = with_tags(images.fill(key(key_number)), set);
                if self.choices.below(4) > 0 {
                    fill = fill.time_limit(Duration::from_secs(86_400));
                }
                self.held = Some((key_number, fill));
                self.note("< ok");
            }
            45..52 => self.commit_held(),
            52..57 => self.batch(images),
            57..77 => self.forget(store, images, access, key_number),
            77..80 => {
                self.note("> sync");
                store.sync().unwrap();
                self.note_head(store);
            }
            80..89 => self.row(store, access),
            89..93 => {
                let by_ms = (1 + self.choices.below(50)) * 60_000;
                self.note(&format!("> advance {by_ms}"));
                self.clock.advance(Duration::from_millis(by_ms));
                self.note("< ok");
            }
            93..96 => {
                self.note("> scrub");
                store.scrub().unwrap();
                self.note("< ok");
            }
            _ => {
                self.note("> maintain");
                store.maintain().unwrap();
                self.note_head(store);
            }
        }
    }

    pub(crate) fn tag_set(&mut self) -> u64 {
        self.choices.below(1 << TAGS) & self.choices.below(1 << TAGS)
    }

    /// Notes what the ledger's newest durable entry is.
    pub(crate) fn note_head(&mut self, store: &Store) {
        let head = store.ledger_head().unwrap();
        let hash: String = head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        self.note(&format!("< head {} {hash}", head.number));
    }

    /// One of all the ways to hide something.
    pub(crate) fn forget(
        &mut self,
        store: &Store,
        images: &Keyspace,
        access: &Log,
        key_number: u64,
    ) {
        let tag_number = self.choices.below(TAGS);
        let set = self.tag_set().max(1);
        let forgotten = match self.choices.below(20) {
            0..6 => {
                self.note(&format!("> invalidate {key_number}"));
                images.invalidate(key(key_number))
            }
            6..8 => {
                self.note(&format!("> invalidate_tags {set}"));
                images.invalidate_tags(tags_of(set))
            }
            8..10 => {
                self.note(&format!("> invalidate_everywhere {}", 1 << tag_number));
                store.invalidate_tag(tag(tag_number), Scope::Everything)
            }
            10..12 => {
                self.note(&format!("> invalidate_rows {}", 1 << tag_number));
                access.invalidate_tag(tag(tag_number))
            }
            12..14 => {
                self.note(&format!("> soft {key_number}"));
                images.invalidate_soft(key(key_number))
            }
            14..16 => {
                self.note(&format!("> soft_tag {}", 1 << tag_number));
                images.invalidate_tag_soft(tag(tag_number))
            }
            16..19 => {
                let until = store.now() + minutes(1 + self.choices.below(200));
                self.note(&format!("> erase {key_number} {}", until.as_millis()));
                images.erase(key(key_number)).deny_until(until).commit()
            }
            _ => {
                self.note("> invalidate_all");
                images.invalidate_all()
            }
        };
        forgotten.unwrap();
        self.note("< ok");
    }

    /// A value longer than the memory allowed, so that it goes to a file of its own.
    pub(crate) fn stream(&mut self, images: &Keyspace, key_number: u64) {
        let (version, set) = (self.next_version(), self.tag_set());
        let is_aborted = self.choices.once_in(4);
        let verb = if is_aborted { "abort" } else { "fill" };
        self.note(&format!("> {verb} {key_number} {version} {set} {}", u64::MAX));
        let fill = with_tags(images.fill(key(key_number)), set).memory_limit_bytes(64);
        let mut writer = fill.into_writer().unwrap();
        for piece in value_of(key_number, version, LONGEST).chunks(200) {
            writer.write_all(piece).unwrap();
        }
        if is_aborted {
            writer.abort();
            self.note("< ok");
        } else {
            self.note(stored(writer.commit(), outcome));
        }
    }

    pub(crate) fn fill(&mut self, images: &Keyspace, key_number: u64) {
        let (version, set) = (self.next_version(), self.tag_set());
        let expires_ms = match self.choices.once_in(4) {
            true => self.clock_ms() + (1 + self.choices.below(300)) * 60_000,
            false => u64::MAX,
        };
        self.note(&format!("> fill {key_number} {version} {set} {expires_ms}"));
        let mut fill = with_tags(images.fill(key(key_number)), set).metadata(b"meta");
        if expires_ms != u64::MAX {
            fill = fill.expires_at(Timestamp::from_millis(expires_ms));
        }
        if self.choices.once_in(4) {
            fill = fill.durability(Durability::Sync);
        }
        let result = fill.commit(value_of(key_number, version, LONGEST));
        self.note(stored(result, outcome));
    }

    pub(crate) fn commit_held(&mut self) {
        let Some((key_number, fill)) = self.held.take() else { return };
        let version = self.next_version();
        self.note(&format!("> commit {key_number} {version}"));
        let result = fill.commit(value_of(key_number, version, LONGEST));
        self.note(stored(result, outcome));
    }

    pub(crate) fn batch(&mut self, images: &Keyspace) {
        let count = 2 + self.choices.below(6);
        let items: Vec<(u64, u64)> =
            (0..count).map(|_| (self.choices.below(KEYS), self.next_version())).collect();
        let text: Vec<String> = items.iter().map(|(k, v)| format!("{k} {v}")).collect();
        self.note(&format!("> batch {}", text.join(" ")));
        let pairs = items.iter().map(|(k, v)| (key(*k), value_of(*k, *v, LONGEST)));
        let result = images.insert_batch(pairs);
        self.note(stored(result, |()| "< stored"));
    }

    pub(crate) fn row(&mut self, store: &Store, access: &Log) {
        let version = self.next_version();
        let visitor = self.choices.below(4);
        let set = if visitor == 0 { 0 } else { self.tag_set() };
        self.note(&format!("> row {version} {visitor} {set}"));
        let pseudonym = access.pseudonym(ip(visitor), store.now()).unwrap();
        let row = match visitor {
            0 => Row::anonymous(),
            _ => Row::new(pseudonym),
        };
        let row = tags_of(set).iter().fold(row, |row, tag| row.tag(tag));
        let id = access.append(row.payload(value_of(0, version, LONGEST_ROW))).unwrap();
        self.note(&format!("< row {id} {pseudonym}"));
    }

    pub(crate) fn clock_ms(&self) -> u64 {
        ebbtide::Clock::wall(&self.clock).as_millis()
    }
}

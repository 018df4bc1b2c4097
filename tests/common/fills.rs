//! Storing values in the store under test: at once, as a batch, and by fills that stay open for a while.

use std::io::Write;
use std::time::Duration;

use ebbtide::{Clock, Durability, Error, Fill, Outcome, Timestamp};

use super::MINUTE;
use super::due::Due;
use super::keys::{Is, Version};
use super::model::{key_bytes, metadata, tag_bytes};
use super::ops::{Key, Op, bits};
use super::world::World;

pub(super) struct OpenFill {
    pub(super) fill: Fill,
    key: Key,
    tags: u8,
    metadata: bool,
    expires: Option<u64>,
    sync: bool,
    seq: u64,
    /// The boot time from which it is too late.
    over_ms: u64,
}

impl OpenFill {
    pub(super) fn commit(self, bytes: &[u8], memory: Option<u16>) -> Result<Outcome, Error> {
        let Some(memory) = memory else { return self.fill.commit(bytes) };
        let mut writer = self.fill.memory_limit_bytes(memory.into()).into_writer()?;
        for piece in bytes.chunks(700) {
            writer
                .write_all(piece)
                .map_err(|e| e.downcast::<Error>().expect("an error of ours"))?;
        }
        writer.commit()
    }
}

impl World {
    pub(super) fn version(&self, id: u32, seq: u64) -> Version {
        let due = Due::of(self.now());
        Version { id, seq, tags: 0, due, expires: None, durable: false, acked: true }
    }

    /// Takes the result of a write that may be denied; `None` if it was.
    pub(super) fn admitted<T>(
        &self,
        result: Result<T, Error>,
        denied: Is,
    ) -> Option<Result<T, Error>> {
        match result {
            Err(Error::Denied { until }) => {
                assert!(denied != Is::No, "denied until {until} for no reason");
                assert!(until.as_millis() > self.now(), "denied until {until}, which has passed");
                None
            }
            Ok(_) => {
                assert!(denied != Is::Yes, "what is denied was taken");
                Some(result)
            }
            Err(_) => Some(result),
        }
    }

    pub(super) fn insert(&mut self, key: Key, len: u16) {
        let seq = self.probe() + 1;
        let (id, bytes) = self.model.write(key, len, false);
        let version = self.version(id, seq);
        let space = &self.opened().spaces[usize::from(key.space)];
        let result = space.insert(key_bytes(key.key), bytes);
        let denied = self.model.denials.check(key, 0, self.now());
        let Some(result) = self.admitted(result, denied) else { return };
        match self.written(result, key.space, "insert") {
            Some(()) => self.model.space(key.space).stored(key.key, version),
            None => self.model.failed(key, version, false),
        }
    }

    pub(super) fn batch(&mut self, space: u8, items: &[(u8, u16)]) {
        let first = self.probe() + 1;
        let mut pairs = Vec::new();
        let mut versions = Vec::new();
        let mut denied = Is::No;
        for ((key, len), seq) in items.iter().zip(first..) {
            let key = Key { space, key: *key };
            let (id, bytes) = self.model.write(key, *len, false);
            pairs.push((key_bytes(key.key), bytes));
            versions.push((key, self.version(id, seq)));
            denied = denied.max(self.model.denials.check(key, 0, self.now()));
        }
        let result = self.opened().spaces[usize::from(space)].insert_batch(pairs);
        let Some(result) = self.admitted(result, denied) else { return };
        let stored = self.written(result, space, "insert a batch").is_some();
        for (key, version) in versions {
            if stored {
                self.model.space(space).stored(key.key, version);
            } else {
                self.model.failed(key, version, true);
            }
        }
    }

    pub(super) fn begin(&mut self, op: &Op) {
        let Op::Begin { key, tags, metadata, expires, sync, limit } = *op else { return };
        let expires = expires.map(|minutes| self.now() + u64::from(minutes) * MINUTE);
        self.probe();
        let mut fill = self.opened().spaces[usize::from(key.space)].fill(key_bytes(key.key));
        let limit = Duration::from_millis(u64::from(limit.max(1)) * MINUTE);
        fill = fill.time_limit(limit);
        let seq = fill.sequence();
        assert!(seq > self.model.highest_seq);
        self.model.highest_seq = seq;
        for tag in bits(tags) {
            fill = fill.tag(tag_bytes(tag));
        }
        if let Some(expires) = expires {
            fill = fill.expires_at(Timestamp::from_millis(expires));
        }
        if sync {
            fill = fill.durability(Durability::Sync);
        }
        let over_ms = self.clock.boot_ms() + limit.as_millis() as u64;
        let fill = OpenFill { fill, key, tags, metadata, expires, sync, seq, over_ms };
        self.opened_mut().fills.push(fill);
    }

    pub(super) fn commit(&mut self, which: u8, len: u16, memory: Option<u16>) {
        if self.opened().fills.is_empty() {
            return;
        }
        let at = usize::from(which) % self.opened().fills.len();
        let mut open = self.opened_mut().fills.remove(at);
        let (key, seq, tags, sync) = (open.key, open.seq, open.tags, open.sync);
        let (id, bytes) = self.model.write(key, len, open.metadata);
        if open.metadata {
            open.fill = open.fill.metadata(metadata(id));
        }
        let version = Version { tags, expires: open.expires, ..self.version(id, seq) };
        let superseded = self.model.space(key.space).supersedes(key.key, tags, seq);
        let denied = self.model.denials.check(key, tags, self.now());
        let is_over = self.clock.boot_ms() >= open.over_ms;
        let spills = memory.is_some_and(|memory| bytes.len() > usize::from(memory));
        let result = open.commit(&bytes, memory);
        if let Err(Error::FillTimedOut { .. }) = result {
            assert!(is_over, "{version:?} of {key:?} was in time");
            return;
        }
        assert!(!is_over || result.is_err(), "{version:?} of {key:?} was over");
        let Some(result) = self.admitted(result, denied) else { return };
        let stats = self.store().stats();
        let something_left = stats.buckets_dropped + stats.segments_evicted > 0;
        match self.written(result, key.space, "commit a fill") {
            Some(Outcome::Stored) => {
                assert_ne!(superseded, Some(true), "{version:?} of {key:?} came too late");
                self.model.space(key.space).stored(key.key, version);
                if sync || spills {
                    self.model.space(key.space).version_synced(key.key, id);
                }
            }
            Some(Outcome::Superseded) => {
                let wrong = superseded == Some(false) && !something_left && !self.has_failed();
                assert!(!wrong, "{version:?} of {key:?} was in time");
            }
            // A part for which there was no room is gone.
            None if spills && !self.has_failed() => {}
            None if superseded == Some(true) => self.model.written[id as usize].failed = true,
            None => self.model.failed(key, version, !spills || sync),
        }
    }
}

//! Going through a keyspace.

use std::sync::Arc;

use super::KeyspaceCore;
use crate::error::Result;
use crate::index::{Index, Location};
use crate::value::{Entry, Stat};

/// Iterates over the visible records of a keyspace. See [`Keyspace::iter`](super::Keyspace::iter).
#[derive(Debug)]
pub struct Iter {
    core: Arc<KeyspaceCore>,
    next_shard: usize,
    pending: Vec<(u64, Location)>,
}

impl Iter {
    pub(super) fn new(core: Arc<KeyspaceCore>) -> Self {
        Self { core, next_shard: 0, pending: Vec::new() }
    }

    fn entry(&self, fingerprint: u64, location: Location) -> Result<Option<Entry>> {
        let core = &self.core;
        core.owner.engine.check_open()?;
        let Some((segment, offset)) = core.resolve(location) else { return Ok(None) };
        match segment.read_prefix(offset) {
            Ok(view) => {
                let visible = view.head.hash.fingerprint() == fingerprint
                    && core.judge(&view, &segment)?.is_ok()
                    && core.still_named(fingerprint, location);
                Ok(visible.then(|| Entry::new(Stat::new(view, segment.deadline()))))
            }
            Err(damage) if core.still_named(fingerprint, location) => {
                core.miss(damage, &segment, offset)
            }
            Err(_) => Ok(None),
        }
    }
}

impl Iterator for Iter {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            while let Some((fingerprint, location)) = self.pending.pop() {
                if let Some(entry) = self.entry(fingerprint, location).transpose() {
                    return Some(entry);
                }
            }
            let Some(shard) = self.core.index.next_filled(self.next_shard) else {
                // What comes into a shard that has been passed is not gone back to.
                self.next_shard = Index::SHARD_COUNT;
                return None;
            };
            self.pending = self.core.index.shard_entries(shard);
            self.next_shard = shard + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::MemoryDisk;
    use crate::keyspace::Keyspace;
    use crate::options::KeyspaceOptions;
    use crate::retention::Retention;
    use crate::store::Store;
    use crate::time::{ManualClock, Timestamp};
    use std::time::Duration;

    /// So many that shards hold several.
    const KEYS: u32 = 400;
    const OLD: &str = "an old value";
    const NEW: &str = "a newer value";

    fn put_all(images: &Keyspace, value: &str) {
        for number in 0..KEYS {
            let _ = images.fill(format!("key-{number}")).tag(value).commit(value).unwrap();
        }
    }

    /// What becomes of the records whose places an iterator has found.
    type Event = fn(&Store, &Keyspace, &ManualClock);

    const EVENTS: [(&str, Event); 6] = [
        ("purged", |_, images, _| drop(images.invalidate_tag(OLD).unwrap())),
        ("purged one by one", |_, images, _| {
            (0..KEYS).for_each(|number| drop(images.invalidate(format!("key-{number}")).unwrap()));
        }),
        ("purged and scrubbed", |store, images, _| {
            let _ = images.invalidate_tag(OLD).unwrap();
            store.scrub().unwrap();
        }),
        ("replaced", |_, images, _| put_all(images, NEW)),
        ("replaced and scrubbed", |store, images, _| {
            put_all(images, NEW);
            store.scrub().unwrap();
        }),
        ("dropped", |store, _, clock| {
            clock.advance(Duration::from_secs(31 * 24 * 3600));
            store.maintain().unwrap();
        }),
    ];

    #[test]
    fn a_place_that_was_found_before_is_not_believed_any_more() {
        for (name, event) in EVENTS {
            let clock = ManualClock::new(Timestamp::from_millis(1_795_267_800_000));
            let builder = Store::builder("/data").disk(MemoryDisk::new(1)).clock(clock.clone());
            let store = builder.background(false).open().unwrap();
            let options = KeyspaceOptions::new(Retention::days(30));
            let images = store.keyspace("images", options).unwrap();
            put_all(&images, OLD);
            store.sync().unwrap();
            let mut iter = images.iter();
            while iter.pending.is_empty() {
                iter.next().unwrap().unwrap();
            }
            event(&store, &images, &clock);
            let lengths = iter.map(|entry| entry.unwrap().stat().value_len());
            assert!(lengths.into_iter().all(|len| len == NEW.len() as u64), "{name}");
            assert_eq!(store.stats().corrupt_reads, 0, "{name}");
        }
    }
}

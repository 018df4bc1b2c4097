//! fjall: a log-structured merge tree.
//!
//! A keyspace a day, so that a day goes by unlinking its files; images apart from their keys and not
//! compressed. The bloom filters make a probe of the wrong day cheap. Memtables of a day that is over
//! are flushed, and the journals kept small: both make it open sooner.

use std::path::Path;

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use fjall::{PersistMode, config::PinningPolicy};

use super::days::{ABSENT, Days, name, number, show};
use crate::peer::{Contestant, Peer, Result, Setup};

pub const CONTESTANT: Contestant = Contestant {
    name: "fjall",
    remark: "a keyspace a day, images separated from their keys",
    survives_crash: true,
    open,
};

struct Fjall {
    database: Database,
    days: Days<Keyspace>,
    blobs: bool,
}

fn open(path: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    let mut builder = Database::builder(path)
        .cache_size(setup.cache_bytes)
        .max_journaling_size(128 << 20)
        .max_cached_files(Some(4096));
    if setup.blobs {
        builder = builder.journal_compression(CompressionType::None);
    }
    let database = builder.open()?;
    let mut days = Vec::new();
    for name in database.list_keyspace_names() {
        if let Some(day) = number(&name) {
            days.push((day, database.keyspace(&name, || options(setup.blobs))?));
        }
    }
    Ok(Box::new(Fjall { database, days: Days::new(days), blobs: setup.blobs }))
}

fn options(blobs: bool) -> KeyspaceCreateOptions {
    // A get asks the filters of all days up to the right one: none of them is to be looked up in the
    // cache of blocks first.
    let options = KeyspaceCreateOptions::default()
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_partitioning_policy(PinningPolicy::all(false))
        .index_block_pinning_policy(PinningPolicy::all(true));
    if !blobs {
        return options;
    }
    let apart = KvSeparationOptions::default().compression(CompressionType::None);
    options.with_kv_separation(Some(apart))
}

impl Fjall {
    fn persist(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }
}

impl Peer for Fjall {
    fn begin_day(&self, day: u32) -> Result<()> {
        if self.days.has(day) {
            return Ok(());
        }
        if let Ok(over) = self.days.newest() {
            over.rotate_memtable()?;
        }
        self.days.add(day, self.database.keyspace(&name(day), || options(self.blobs))?);
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.days.newest()?.insert(key, value)?)
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let newest = self.days.newest()?;
        let mut batch = self.database.batch();
        for (key, value) in items {
            batch.insert(&newest, key.as_slice(), value.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.insert(key, value)?;
        self.persist()
    }

    fn sync(&self) -> Result<()> {
        self.persist()
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        for (_, keyspace) in self.days.read().iter() {
            if let Some(value) = keyspace.get(key)? {
                return Ok(show(&value, look));
            }
        }
        Ok(false)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        let newest = self.days.newest()?;
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for key in keys {
            batch.insert(&newest, *key, ABSENT);
        }
        Ok(batch.commit()?)
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        // Its files go with the last handle, which is this one.
        if let Some(keyspace) = self.days.remove(day) {
            self.database.delete_keyspace(keyspace)?;
        }
        Ok(())
    }

    fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        for (_, keyspace) in self.days.read().iter() {
            keyspace.rotate_memtable_and_wait()?;
        }
        self.persist()
    }
}

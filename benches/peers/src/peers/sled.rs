//! sled: a B-link tree over a log-structured page store.
//!
//! A tree a day. Nothing is flushed on the side while nobody may; otherwise twice a second, as it
//! does by itself. A value is handed out from sled's own buffer.

use std::path::Path;

use sled::{Batch, Config, Db, Mode, Tree};

use super::days::{ABSENT, Days, name, number, show};
use crate::peer::{Contestant, Peer, Result, Setup};

pub const CONTESTANT: Contestant = Contestant {
    name: "sled",
    remark: "a tree a day; the format is a beta since 2021",
    survives_crash: true,
    open,
};

struct Sled {
    database: Db,
    days: Days<Tree>,
}

fn open(path: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    let database = Config::new()
        .path(path)
        .cache_capacity(setup.cache_bytes)
        .mode(Mode::HighThroughput)
        .flush_every_ms((!setup.quiet).then_some(500))
        .open()?;
    let mut days = Vec::new();
    for name in database.tree_names() {
        if let Some(day) = std::str::from_utf8(&name).ok().and_then(number) {
            days.push((day, database.open_tree(&name)?));
        }
    }
    Ok(Box::new(Sled { database, days: Days::new(days) }))
}

impl Peer for Sled {
    fn begin_day(&self, day: u32) -> Result<()> {
        if !self.days.has(day) {
            self.days.add(day, self.database.open_tree(name(day))?);
        }
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.days.newest()?.insert(key, value)?;
        Ok(())
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in items {
            batch.insert(key.as_slice(), value.as_slice());
        }
        Ok(self.days.newest()?.apply_batch(batch)?)
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.insert(key, value)?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        self.database.flush()?;
        Ok(())
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        for (_, tree) in self.days.read().iter() {
            if let Some(value) = tree.get(key)? {
                return Ok(show(&value, look));
            }
        }
        Ok(false)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        let mut batch = Batch::default();
        for key in keys {
            batch.insert(*key, ABSENT);
        }
        self.days.newest()?.apply_batch(batch)?;
        self.sync()
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        if self.days.remove(day).is_some() {
            self.database.drop_tree(name(day))?;
        }
        self.sync()
    }

    fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

//! redb: a copy-on-write B+tree in one file.
//!
//! A table a day. Readers share one snapshot with its tables open until something is committed, which
//! saves them most of the cost of a read transaction. Inserts commit without durability, and a sync
//! makes them durable with one more commit; that one saves the state of the allocator too (quick
//! repair), so that opening after a kill need not walk the file.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};
use redb::{TableHandle, WriteTransaction};

use super::days::{ABSENT, Days, name, number, show};
use crate::peer::{Contestant, Peer, Result, Setup};

pub const CONTESTANT: Contestant = Contestant {
    name: "redb",
    remark: "a table a day, readers share a snapshot between commits; dropping frees bytes by compact()",
    survives_crash: true,
    open,
};

type Bytes = &'static [u8];
type Tables = Arc<Vec<ReadOnlyTable<Bytes, Bytes>>>;

struct Redb {
    database: RwLock<Database>,
    days: Days<()>,
    snapshot: RwLock<Snapshot>,
}

/// What readers share, and how many commits there were.
#[derive(Default)]
struct Snapshot {
    commits: u64,
    tables: Option<Tables>,
}

fn open(path: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    std::fs::create_dir_all(path)?;
    let database = Builder::new()
        .set_cache_size(usize::try_from(setup.cache_bytes)?)
        .create(path.join("store.redb"))?;
    let reading = database.begin_read()?;
    let days =
        reading.list_tables()?.filter_map(|table| Some((number(table.name())?, ()))).collect();
    drop(reading);
    Ok(Box::new(Redb {
        database: RwLock::new(database),
        days: Days::new(days),
        snapshot: RwLock::default(),
    }))
}

fn table(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

impl Redb {
    fn database(&self) -> RwLockReadGuard<'_, Database> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        durability: Durability,
        work: impl FnOnce(&mut WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let database = self.database();
        let mut transaction = database.begin_write()?;
        transaction.set_durability(durability)?;
        work(&mut transaction)?;
        transaction.commit()?;
        let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        snapshot.commits += 1;
        snapshot.tables = None;
        Ok(())
    }

    fn put<'a>(
        &self,
        durability: Durability,
        items: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<()> {
        let newest = self.newest()?;
        self.write(durability, |transaction| {
            let mut table = transaction.open_table(table(&newest))?;
            for (key, value) in items {
                table.insert(key, value)?;
            }
            Ok(())
        })
    }

    fn newest(&self) -> Result<String> {
        self.days.newest()?;
        Ok(self.days.read().first().map(|&(day, ())| name(day)).unwrap_or_default())
    }

    fn tables(&self) -> Result<Tables> {
        let commits = {
            let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(tables) = &snapshot.tables {
                return Ok(tables.clone());
            }
            snapshot.commits
        };
        let transaction = self.database().begin_read()?;
        let days = self.days.read();
        let tables: std::result::Result<Vec<_>, _> =
            days.iter().map(|&(day, ())| transaction.open_table(table(&name(day)))).collect();
        let tables = Arc::new(tables?);
        let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        if snapshot.commits == commits {
            snapshot.tables = Some(tables.clone());
        }
        Ok(tables)
    }
}

impl Peer for Redb {
    fn begin_day(&self, day: u32) -> Result<()> {
        if self.days.has(day) {
            return Ok(());
        }
        self.write(Durability::None, |transaction| {
            transaction.open_table(table(&name(day)))?;
            Ok(())
        })?;
        self.days.add(day, ());
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(Durability::None, std::iter::once((key, value)))
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let items = items.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        self.put(Durability::None, items)
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(Durability::Immediate, std::iter::once((key, value)))
    }

    fn sync(&self) -> Result<()> {
        self.write(Durability::Immediate, |transaction| {
            transaction.set_quick_repair(true);
            Ok(())
        })
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        for table in self.tables()?.iter() {
            if let Some(value) = table.get(key)? {
                return Ok(show(value.value(), look));
            }
        }
        Ok(false)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        self.put(Durability::Immediate, keys.iter().map(|key| (*key, ABSENT)))
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        if self.days.remove(day).is_none() {
            return Ok(());
        }
        self.write(Durability::Immediate, |transaction| {
            transaction.delete_table(table(&name(day)))?;
            Ok(())
        })
    }

    fn reclaim(&self) -> Result<()> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // A snapshot would keep the pages.
        self.snapshot.write().unwrap_or_else(PoisonError::into_inner).tables = None;
        database.compact()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

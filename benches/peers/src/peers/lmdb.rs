//! LMDB: a copy-on-write B+tree in one memory map.
//!
//! A database a day in one environment. Nothing is synced on commit, which is what makes it fast at
//! inserting; what has to be durable is synced by hand afterwards. Without a sync before the root is
//! written, a crash may leave a root whose pages are not there, so nothing is safe from a crash. The
//! map is larger than any disk, and is not read ahead, as images are read one by one.

#![allow(unsafe_code)]

use std::path::Path;

use heed::types::{Bytes, Str};
use heed::{Database, Env, EnvFlags, EnvOpenOptions, RwTxn};

use super::days::{ABSENT, Days, name, number, show};
use crate::peer::{Contestant, Peer, Result, Setup};

pub const CONTESTANT: Contestant = Contestant {
    name: "lmdb",
    remark: "a database a day, NOSYNC and a sync by hand; dropping frees pages for reuse only",
    survives_crash: false,
    open,
};

type Day = Database<Bytes, Bytes>;

struct Lmdb {
    env: Env,
    days: Days<Day>,
}

fn open(path: &Path, _: Setup) -> Result<Box<dyn Peer>> {
    std::fs::create_dir_all(path)?;
    let mut options = EnvOpenOptions::new();
    options.map_size(1 << 40).max_dbs(2048).max_readers(256);
    // SAFETY: without a sync a crash of the machine may break the file; nobody reads it after one.
    unsafe {
        options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_READ_AHEAD | EnvFlags::NO_MEM_INIT);
    }
    // SAFETY: nobody but the store opened here writes to the file, and it does so through LMDB.
    let env = unsafe { options.open(path)? };
    let mut txn = env.write_txn()?;
    let mut days = Vec::new();
    if let Some(names) = env.open_database::<Str, Bytes>(&txn, None)? {
        let names: std::result::Result<Vec<_>, _> =
            names.iter(&txn)?.map(|entry| entry.map(|(name, _)| name.to_owned())).collect();
        for name in names? {
            if let Some(day) = number(&name) {
                days.push((day, env.create_database(&mut txn, Some(&name))?));
            }
        }
    }
    txn.commit()?;
    Ok(Box::new(Lmdb { env, days: Days::new(days) }))
}

impl Lmdb {
    fn write(&self, work: impl FnOnce(Day, &mut RwTxn<'_>) -> heed::Result<()>) -> Result<()> {
        let newest = self.days.newest()?;
        let mut txn = self.env.write_txn()?;
        work(newest, &mut txn)?;
        Ok(txn.commit()?)
    }
}

impl Peer for Lmdb {
    fn begin_day(&self, day: u32) -> Result<()> {
        if self.days.has(day) {
            return Ok(());
        }
        let mut txn = self.env.write_txn()?;
        let database = self.env.create_database(&mut txn, Some(&name(day)))?;
        txn.commit()?;
        self.days.add(day, database);
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(|day, txn| day.put(txn, key, value))
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.write(|day, txn| items.iter().try_for_each(|(key, value)| day.put(txn, key, value)))
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.insert(key, value)?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let days = self.days.read();
        let txn = self.env.read_txn()?;
        for (_, day) in days.iter() {
            if let Some(value) = day.get(&txn, key)? {
                return Ok(show(value, look));
            }
        }
        Ok(false)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        self.write(|day, txn| keys.iter().try_for_each(|key| day.put(txn, key, ABSENT)))?;
        self.sync()
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        let Some(database) = self.days.remove(day) else { return Ok(()) };
        let mut txn = self.env.write_txn()?;
        // SAFETY: `get` holds the list of days for as long as its transaction; the handle was taken
        // from the list, so no reader has it any more. Writers use the newest day only, one at a time.
        unsafe { database.remove(&mut txn)? };
        txn.commit()?;
        self.sync()
    }

    fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()?;
        let closing = self.env.clone().prepare_for_closing();
        drop(self);
        closing.wait();
        Ok(())
    }
}

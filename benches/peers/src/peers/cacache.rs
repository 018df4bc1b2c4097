//! cacache: content-addressed files and an index of small files, as npm has them.
//!
//! A cache of its own for each day, so that a day goes as a directory, renamed away first. XXH3 finds
//! the content, as the keys are not an adversary's. It syncs nothing: a sync is one of the file
//! system, and nobody would do that for every insert. Small records are nothing that anyone would
//! keep so.

use std::fs::File;
use std::path::{Path, PathBuf};

use cacache::Algorithm;
use xxhash_rust::xxh3::xxh3_128;

use super::days::{self, Days, name, number};
use crate::peer::{Contestant, Peer, Result, Setup, Unsupported};

pub const CONTESTANT: Contestant = Contestant {
    name: "cacache",
    remark: "a cache a day, XXH3; syncs by syncing the file system, so no durable insert",
    survives_crash: true,
    open,
};

struct Cacache {
    dir: PathBuf,
    days: Days<PathBuf>,
}

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    if !setup.blobs {
        return Err(Unsupported.into());
    }
    std::fs::create_dir_all(dir)?;
    let mut days = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let day = entry.file_name().to_str().and_then(number);
        days.extend(day.map(|day| (day, entry.path())));
    }
    Ok(Box::new(Cacache { dir: dir.to_owned(), days: Days::new(days) }))
}

/// Keys are text there.
fn text(key: &[u8]) -> String {
    format!("{:032x}", xxh3_128(key))
}

impl Peer for Cacache {
    fn begin_day(&self, day: u32) -> Result<()> {
        if !self.days.has(day) {
            let path = self.dir.join(name(day));
            std::fs::create_dir(&path)?;
            self.days.add(day, path);
        }
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let day = self.days.newest()?;
        cacache::write_sync_with_algo(Algorithm::Xxh3, day, text(key), value)?;
        Ok(())
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        items.iter().try_for_each(|(key, value)| self.insert(key, value))
    }

    fn insert_durable(&self, _: &[u8], _: &[u8]) -> Result<()> {
        Err(Unsupported.into())
    }

    fn sync(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.dir)?)?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let key = text(key);
        for (_, day) in self.days.read().iter() {
            if let Some(entry) = cacache::index::find(day, &key)? {
                look(&cacache::read_hash_sync(day, &entry.integrity)?);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        for key in keys {
            let key = text(key);
            for (_, day) in self.days.read().iter() {
                if cacache::index::find(day, &key)?.is_some() {
                    cacache::remove_sync(day, &key)?;
                }
            }
        }
        self.sync()
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        if let Some(path) = self.days.remove(day) {
            days::set_aside(&path)?;
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    fn reclaim(&self) -> Result<()> {
        days::reclaim(&self.dir)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

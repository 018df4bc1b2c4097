//! Plain files: one for each key, in a directory for each day, written under another name first and
//! then renamed, so that none is ever there in part. The name is the XXH3-128 of the key. Small
//! records are nothing that anyone would keep so.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use xxhash_rust::xxh3::xxh3_128;

use super::days;
use crate::peer::{Contestant, Peer, Result, Setup, Unsupported};

pub const CONTESTANT: Contestant = Contestant {
    name: "files",
    remark: "one file a key, renamed into a directory a day; nothing is checked",
    survives_crash: true,
    open,
};

struct Files {
    dir: PathBuf,
    /// The newest last.
    days: RwLock<Vec<u32>>,
    /// Tells files apart that are being written.
    next: AtomicU64,
}

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    if !setup.blobs {
        return Err(Unsupported.into());
    }
    std::fs::create_dir_all(dir)?;
    let mut days = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        days.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    days.sort_unstable();
    Ok(Box::new(Files { dir: dir.to_owned(), days: RwLock::new(days), next: AtomicU64::new(0) }))
}

fn name_of(key: &[u8]) -> String {
    format!("{:032x}", xxh3_128(key))
}

fn sync_dir(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}

impl Files {
    fn day_dir(&self, day: u32) -> PathBuf {
        self.dir.join(format!("{day:05}"))
    }

    /// The directories that a key may lie in, the likeliest first.
    fn days(&self) -> Vec<PathBuf> {
        let days = self.days.read().unwrap_or_else(PoisonError::into_inner);
        days.iter().rev().map(|day| self.day_dir(*day)).collect()
    }

    fn today(&self) -> Result<PathBuf> {
        let days = self.days.read().unwrap_or_else(PoisonError::into_inner);
        Ok(self.day_dir(*days.last().ok_or("no day has begun")?))
    }

    fn write(&self, key: &[u8], value: &[u8], durable: bool) -> Result<()> {
        let day = self.today()?;
        let tmp = day.join(format!("{}.tmp", self.next.fetch_add(1, Ordering::Relaxed)));
        let mut file = File::create_new(&tmp)?;
        file.write_all(value)?;
        if durable {
            file.sync_data()?;
        }
        std::fs::rename(&tmp, day.join(name_of(key)))?;
        if durable { sync_dir(&day) } else { Ok(()) }
    }
}

impl Peer for Files {
    fn begin_day(&self, day: u32) -> Result<()> {
        std::fs::create_dir(self.day_dir(day))?;
        sync_dir(&self.dir)?;
        self.days.write().unwrap_or_else(PoisonError::into_inner).push(day);
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(key, value, false)
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        items.iter().try_for_each(|(key, value)| self.insert(key, value))
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(key, value, true)
    }

    fn sync(&self) -> Result<()> {
        // One call for all files, however many.
        Ok(rustix::fs::syncfs(File::open(&self.dir)?)?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let name = name_of(key);
        for day in self.days() {
            match std::fs::read(day.join(&name)) {
                Ok(value) => {
                    look(&value);
                    return Ok(true);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        let names: Vec<String> = keys.iter().map(|key| name_of(key)).collect();
        for day in self.days() {
            let mut removed = false;
            for name in &names {
                match std::fs::remove_file(day.join(name)) {
                    Ok(()) => removed = true,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if removed {
                sync_dir(&day)?;
            }
        }
        Ok(())
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        let dir = self.day_dir(day);
        days::set_aside(&dir)?;
        sync_dir(&self.dir)?;
        self.days.write().unwrap_or_else(PoisonError::into_inner).retain(|kept| *kept != day);
        Ok(())
    }

    fn reclaim(&self) -> Result<()> {
        days::reclaim(&self.dir)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

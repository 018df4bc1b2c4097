//! foyer: a hybrid cache, in memory and on the disk.
//!
//! It knows no days: a value begins with its day, and a day that was dropped is remembered, so that
//! its values are taken for absent until the cache evicts them; that is what frees their bytes. All
//! is written on insertion, in blocks, and waited for before the cache would give up what it cannot
//! write soon enough. Removals go to its tombstone log. It syncs nothing and promises nothing after a
//! crash; a sync waits for its writers and then syncs the file system.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use foyer::{BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder};
use foyer::{HybridCachePolicy, PsyncIoEngineConfig};
use tokio::runtime::Runtime;

use crate::peer::{Contestant, Peer, Result, Setup, Unsupported};

pub const CONTESTANT: Contestant = Contestant {
    name: "foyer",
    remark: "no days: values carry theirs, dropped ones are evicted later; no durable insert",
    survives_crash: false,
    open,
};

/// What may wait to be written: half of what the cache holds before it gives up inserts.
const UNWRITTEN_BYTES: u64 = 64 << 20;
/// More than the comparison writes, if nothing else is asked for.
const CAPACITY_BYTES: u64 = 32 << 30;
const DAY_BYTES: usize = size_of::<u32>();

struct Foyer {
    runtime: Runtime,
    cache: HybridCache<Vec<u8>, Vec<u8>>,
    dir: PathBuf,
    day: AtomicU32,
    dropped: RwLock<HashSet<[u8; DAY_BYTES]>>,
    /// Bytes inserted since the writers were waited for.
    unwritten: AtomicU64,
}

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    std::fs::create_dir_all(dir)?;
    let dropped = match std::fs::read(dir.join("dropped")) {
        Ok(bytes) => bytes.as_chunks().0.iter().copied().collect(),
        Err(_) => HashSet::new(),
    };
    let capacity = usize::try_from(setup.capacity_bytes.unwrap_or(CAPACITY_BYTES))?;
    let device = FsDeviceBuilder::new(dir.join("blocks")).with_capacity(capacity).build()?;
    let blocks = BlockEngineConfig::new(device)
        .with_block_size((capacity / 64).clamp(16 << 20, 64 << 20))
        .with_buffer_pool_size(2 * usize::try_from(UNWRITTEN_BYTES)?)
        .with_tombstone_log(true);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let cache = runtime.block_on(
        HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .memory(usize::try_from(setup.cache_bytes)?)
            .with_weighter(|key: &Vec<u8>, value: &Vec<u8>| key.len() + value.len())
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(blocks)
            .build(),
    )?;
    Ok(Box::new(Foyer {
        runtime,
        cache,
        dir: dir.to_owned(),
        day: AtomicU32::new(0),
        dropped: RwLock::new(dropped),
        unwritten: AtomicU64::new(0),
    }))
}

impl Foyer {
    fn wait(&self) {
        self.unwritten.store(0, Ordering::Relaxed);
        self.runtime.block_on(self.cache.storage().wait());
    }
}

impl Peer for Foyer {
    fn begin_day(&self, day: u32) -> Result<()> {
        self.day.store(day, Ordering::Relaxed);
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = (key.len() + value.len()).next_multiple_of(4096) as u64;
        if self.unwritten.fetch_add(bytes, Ordering::Relaxed) > UNWRITTEN_BYTES {
            self.wait();
        }
        let mut of_day = Vec::with_capacity(DAY_BYTES + value.len());
        of_day.extend_from_slice(&self.day.load(Ordering::Relaxed).to_le_bytes());
        of_day.extend_from_slice(value);
        self.cache.insert(key.to_vec(), of_day);
        Ok(())
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        items.iter().try_for_each(|(key, value)| self.insert(key, value))
    }

    fn insert_durable(&self, _: &[u8], _: &[u8]) -> Result<()> {
        Err(Unsupported.into())
    }

    fn sync(&self) -> Result<()> {
        self.wait();
        Ok(rustix::fs::syncfs(File::open(&self.dir)?)?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let entry = match self.cache.get(key).try_unwrap() {
            Ok(entry) => Some(entry),
            Err(disk) => self.runtime.block_on(disk)?,
        };
        let Some(entry) = entry else { return Ok(false) };
        let Some((day, value)) = entry.value().split_first_chunk() else { return Ok(false) };
        if self.dropped.read().unwrap_or_else(PoisonError::into_inner).contains(day) {
            return Ok(false);
        }
        look(value);
        Ok(true)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        for key in keys {
            self.cache.remove(&key.to_vec());
        }
        self.sync()
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        let day = day.to_le_bytes();
        self.dropped.write().unwrap_or_else(PoisonError::into_inner).insert(day);
        let path = self.dir.join("dropped");
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(&day)?;
        file.sync_all()?;
        Ok(File::open(&self.dir)?.sync_all()?)
    }

    fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    fn keeps_capacity(&self) -> bool {
        true
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()?;
        Ok(self.runtime.block_on(self.cache.close())?)
    }
}

//! RocksDB: a log-structured merge tree.
//!
//! A column family a day, so that a day goes by unlinking its files; images in blob files and not
//! compressed, small records with LZ4. Whole-key bloom filters, kept in memory, make a probe of the
//! wrong day cheap. A day that is over is flushed, and the log kept small, so that it opens sooner.
//!
//! Debian's build of 7.8.3 is what this is linked with (see `install-rocksdb`): a build from source
//! takes over an hour on two cores. It computes CRC32C without the processor's instruction.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType};
use rocksdb::{DBWithThreadMode, FlushOptions, MultiThreaded, Options, WriteBatch, WriteOptions};

use super::days::{ABSENT, Days, name, number, show};
use crate::peer::{Contestant, Failure, Peer, Result, Setup};

pub const CONTESTANT: Contestant = Contestant {
    name: "rocksdb",
    remark: "Debian's 7.8.3, without fast crc32; a column family a day, images in blob files",
    survives_crash: true,
    open,
};

struct RocksDb {
    database: DBWithThreadMode<MultiThreaded>,
    /// The names of the column families.
    days: Days<String>,
    options: Options,
}

fn open(path: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.increase_parallelism(2);
    options.set_max_total_wal_size(128 << 20);
    options.set_max_open_files(-1);
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&Cache::new_lru_cache(usize::try_from(setup.cache_bytes)?)?);
    tables.set_bloom_filter(10.0, false);
    tables.set_format_version(5);
    options.set_block_based_table_factory(&tables);
    if setup.blobs {
        options.set_compression_type(DBCompressionType::None);
        options.set_enable_blob_files(true);
        options.set_min_blob_size(1024);
    } else {
        options.set_compression_type(DBCompressionType::Lz4);
    }
    let names = match path.join("CURRENT").exists() {
        true => DBWithThreadMode::<MultiThreaded>::list_cf(&options, path)?,
        false => vec!["default".to_owned()],
    };
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
    let database = DBWithThreadMode::open_cf_descriptors(&options, path, families)?;
    let days = names.into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    Ok(Box::new(RocksDb { database, days: Days::new(days), options }))
}

fn write_options(durable: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(durable);
    options
}

impl RocksDb {
    fn write<'a>(
        &self,
        durable: bool,
        items: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<()> {
        let newest = self.days.newest()?;
        let family = self.database.cf_handle(&newest).ok_or(Failure::from("no such day"))?;
        let mut batch = WriteBatch::default();
        for (key, value) in items {
            batch.put_cf(&family, key, value);
        }
        Ok(self.database.write_opt(batch, &write_options(durable))?)
    }

    fn flush(&self, day: &str, wait: bool) -> Result<()> {
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        if let Some(family) = self.database.cf_handle(day) {
            self.database.flush_cf_opt(&family, &options)?;
        }
        Ok(())
    }
}

impl Peer for RocksDb {
    fn begin_day(&self, day: u32) -> Result<()> {
        if self.days.has(day) {
            return Ok(());
        }
        if let Ok(over) = self.days.newest() {
            self.flush(&over, false)?;
        }
        self.database.create_cf(name(day), &self.options)?;
        self.days.add(day, name(day));
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(false, std::iter::once((key, value)))
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.write(false, items.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(true, std::iter::once((key, value)))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        for (_, day) in self.days.read().iter() {
            let Some(family) = self.database.cf_handle(day) else { continue };
            if let Some(value) = self.database.get_pinned_cf(&family, key)? {
                return Ok(show(&value, look));
            }
        }
        Ok(false)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        self.write(true, keys.iter().map(|key| (*key, ABSENT)))
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        // Its files go with the last handle; the manifest is synced.
        if let Some(name) = self.days.remove(day) {
            self.database.drop_cf(&name)?;
        }
        Ok(())
    }

    fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        for (_, day) in self.days.read().iter() {
            self.flush(day, true)?;
        }
        self.sync()
    }
}

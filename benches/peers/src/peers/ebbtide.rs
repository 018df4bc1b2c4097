//! The engine itself: once mapped, once reading by position.
//!
//! As a user would have it: the background thread syncs every second and does the upkeep, also while
//! drops are timed; only where the setup asks for quiet it is off. The days pass by a clock that is
//! moved.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ebbtide::{
    BootId, Clock, Durability, Keyspace, KeyspaceOptions, Outcome, Retention, Store, StoreBuilder,
    SystemClock, Timestamp,
};

use crate::peer::{Contestant, Peer, Result, Setup};

pub const MAPPED: Contestant = Contestant {
    name: "ebbtide",
    remark: "mapped, with its defaults",
    survives_crash: true,
    open: |dir, setup| open(dir, setup, true),
};

pub const POSITIONAL: Contestant = Contestant {
    name: "ebbtide-positional",
    remark: "reading by position, with its defaults",
    survives_crash: true,
    open: |dir, setup| open(dir, setup, false),
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const HOUR_MS: u64 = 60 * 60 * 1000;

/// The system's clocks, moved so that a store is made at one in the morning and no day ends while it
/// is measured; and then by whole days.
#[derive(Debug, Clone)]
struct Days {
    back_ms: u64,
    day: Arc<AtomicU32>,
}

impl Days {
    /// The clock that goes by the note of whoever opened the store before, or a new one.
    fn of(note: &Path) -> Result<Self> {
        let number = |text: Option<&str>| -> Result<u64> { Ok(text.ok_or("no clock")?.parse()?) };
        let (back_ms, day) = match std::fs::read_to_string(note) {
            Ok(text) => {
                let mut words = text.split(' ');
                (number(words.next())?, number(words.next())? as u32)
            }
            Err(_) => (SystemClock.wall().as_millis() % DAY_MS + DAY_MS - HOUR_MS, 0),
        };
        Ok(Self { back_ms, day: Arc::new(AtomicU32::new(day)) })
    }

    fn moved_ms(&self) -> u64 {
        u64::from(self.day.load(Ordering::Relaxed)) * DAY_MS
    }

    /// Lets this day begin.
    fn set(&self, day: u32, note: &Path) -> Result<()> {
        std::fs::write(note, format!("{} {day}", self.back_ms))?;
        self.day.store(day, Ordering::Relaxed);
        Ok(())
    }
}

impl Clock for Days {
    fn wall(&self) -> Timestamp {
        let now_ms = SystemClock.wall().as_millis() - self.back_ms + self.moved_ms();
        Timestamp::default() + Duration::from_millis(now_ms)
    }

    fn boot_ms(&self) -> u64 {
        SystemClock.boot_ms() + self.moved_ms()
    }

    fn boot_id(&self) -> BootId {
        SystemClock.boot_id()
    }
}

struct Ebbtide {
    store: Store,
    images: Keyspace,
    clock: Days,
    note: std::path::PathBuf,
    /// Of the window.
    days: u32,
}

fn open(dir: &Path, setup: Setup, mapped: bool) -> Result<Box<dyn Peer>> {
    std::fs::create_dir_all(dir)?;
    let note = dir.join("clock");
    let clock = Days::of(&note)?;
    let mut builder = Store::builder(dir.join("store")).clock(clock.clone());
    if setup.quiet {
        builder = builder.background(false).sync_interval(Duration::from_secs(3600));
    }
    let store = if mapped { open_mapped(builder)? } else { builder.open()? };
    let mut options = KeyspaceOptions::new(Retention::days(setup.days));
    if let Some(bytes) = setup.capacity_bytes {
        options = options.capacity_bytes(bytes);
    }
    let images = store.keyspace("images", options)?;
    Ok(Box::new(Ebbtide { store, images, clock, note, days: setup.days }))
}

#[allow(unsafe_code)]
fn open_mapped(builder: StoreBuilder) -> Result<Store> {
    // SAFETY: the directory was made by this program for this store alone, on a local disk, and
    // nothing else writes to it.
    Ok(unsafe { builder.open_mapped() }?)
}

impl Peer for Ebbtide {
    fn begin_day(&self, day: u32) -> Result<()> {
        self.clock.set(day, &self.note)?;
        // What the background thread would have done since yesterday.
        Ok(self.store.maintain()?)
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.images.insert(key, value)?)
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        Ok(self.images.insert_batch(items.iter().map(|(key, value)| (key, value)))?)
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        match self.images.fill(key).durability(Durability::Sync).commit(value)? {
            Outcome::Stored => Ok(()),
            outcome => Err(format!("not stored: {outcome:?}").into()),
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(self.store.sync()?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let Some(value) = self.images.get(key)? else { return Ok(false) };
        look(&value);
        Ok(true)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        self.images.invalidate_keys(keys)?;
        Ok(())
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        self.clock.set(day + self.days, &self.note)?;
        match self.store.drop_expired()? {
            // The background thread may have come first; it holds the lock until the drop is done.
            0 | 1 => Ok(()),
            days => Err(format!("{days} days were dropped").into()),
        }
    }

    fn reclaim(&self) -> Result<()> {
        Ok(self.store.maintain()?)
    }

    fn keeps_capacity(&self) -> bool {
        true
    }

    fn index_bytes(&self) -> Option<u64> {
        self.store.stats().keyspaces.first().map(|keyspace| keyspace.index_bytes)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}

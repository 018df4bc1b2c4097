//! No store at all: what the machine can do, if as little as possible is done about it.
//!
//! One plain file a day with blocks set aside 16 MiB ahead, as in the engine; `pwritev` of keys and
//! values; a hash map in memory; mapped slices for reading. A value's XXH3-128 is formed when it is
//! inserted and compared when it is read for the first time after the file was opened, and the key in
//! the file is compared at every read. An invalidation is 64 bytes and more at two distant places of a
//! file zeroed beforehand, with one `fdatasync`; whoever arrives meanwhile shares the next one.
//! Every second what was written is synced, so that a power cut takes no more than from the engine.
//!
//! What it lacks: it finds its way again by walking all files, forgets what was invalidated then,
//! believes every length in a file, and knows no torn write.

mod day;
mod index;
mod notes;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use self::day::{Active, Day};
use self::index::Index;
use self::notes::Notes;
use crate::peer::{Contestant, Peer, Result, Setup};

pub const CONTESTANT: Contestant = Contestant {
    name: "baseline",
    remark: "no store: pwrite to plain files, a hash map, mapped slices; it promises nothing",
    survives_crash: false,
    open,
};

/// Small records are written together up to this many bytes.
const BATCH_BYTES: usize = 256 << 10;
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

struct Baseline {
    dir: PathBuf,
    index: Index,
    days: RwLock<Vec<Option<Arc<Day>>>>,
    active: Arc<Mutex<Option<Active>>>,
    notes: Notes,
    /// Tells the thread that syncs to stop.
    syncing: Option<(Sender<()>, JoinHandle<()>)>,
}

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    std::fs::create_dir_all(dir)?;
    let active = Arc::new(Mutex::new(None));
    let syncing = (!setup.quiet).then(|| sync_in_the_background(Arc::clone(&active)));
    let baseline = Baseline {
        dir: dir.to_owned(),
        index: Index::new(),
        days: RwLock::default(),
        active,
        notes: Notes::open(&dir.join("notes"))?,
        syncing,
    };
    baseline.take_up()?;
    Ok(Box::new(baseline))
}

fn sync_in_the_background(active: Arc<Mutex<Option<Active>>>) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = channel();
    let thread = std::thread::spawn(move || {
        while stopped.recv_timeout(SYNC_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let day = lock(&active).as_ref().map(|active| Arc::clone(&active.day));
            if day.is_some_and(|day| day.sync.sync().is_err()) {
                return;
            }
        }
    });
    (stop, thread)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Baseline {
    fn day(&self, number: u32) -> Option<Arc<Day>> {
        let days = self.days.read().unwrap_or_else(PoisonError::into_inner);
        days.get(number as usize)?.clone()
    }

    fn set_day(&self, number: u32, day: Option<Arc<Day>>) {
        let mut days = self.days.write().unwrap_or_else(PoisonError::into_inner);
        if days.len() <= number as usize {
            days.resize(number as usize + 1, None);
        }
        days[number as usize] = day;
    }

    /// Runs something on the file of the present day.
    fn with_active<T>(&self, run: impl FnOnce(&mut Active) -> Result<T>) -> Result<T> {
        let mut active = lock(&self.active);
        run(active.as_mut().ok_or("no day has begun")?)
    }

    /// Finds all records of the files that are there.
    fn take_up(&self) -> Result<()> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".day"));
            numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        for number in numbers {
            let (day, end) = Day::open(&self.dir, number, &self.index)?;
            let day = Arc::new(day);
            self.set_day(number, Some(Arc::clone(&day)));
            *lock(&self.active) = Some(Active::new(day, end));
        }
        Ok(())
    }

    fn end_day(&self) -> Result<()> {
        let active = lock(&self.active).take();
        active.map_or(Ok(()), Active::finish)
    }
}

impl Peer for Baseline {
    fn begin_day(&self, number: u32) -> Result<()> {
        self.end_day()?;
        let day = Arc::new(Day::create(&self.dir, number)?);
        self.set_day(number, Some(Arc::clone(&day)));
        *lock(&self.active) = Some(Active::new(day, 0));
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let place = self.with_active(|active| active.append(key, value))?;
        self.index.put(key, place);
        Ok(())
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.with_active(|active| {
            let mut rest = items;
            while !rest.is_empty() {
                let places = active.append_some(rest, BATCH_BYTES)?;
                for ((key, _), place) in rest.iter().zip(&places) {
                    self.index.put(key, *place);
                }
                rest = &rest[places.len()..];
            }
            Ok(())
        })
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let (place, day) = self.with_active(|active| {
            let place = active.append(key, value)?;
            Ok((place, Arc::clone(&active.day)))
        })?;
        self.index.put(key, place);
        day.sync.sync()
    }

    fn sync(&self) -> Result<()> {
        let day = lock(&self.active).as_ref().map(|active| Arc::clone(&active.day));
        day.map_or(Ok(()), |day| day.sync.sync())
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let Some(place) = self.index.get(key) else { return Ok(false) };
        let Some(day) = self.day(place.day) else { return Ok(false) };
        let Some(value) = day.value(place, key)? else { return Ok(false) };
        look(value);
        Ok(true)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        keys.iter().for_each(|key| self.index.remove(key));
        self.notes.write(keys)
    }

    fn drop_day(&self, number: u32) -> Result<()> {
        let path = self.dir.join(format!("{number:05}.day"));
        std::fs::rename(&path, path.with_extension("gone"))?;
        File::open(&self.dir)?.sync_all()?;
        self.set_day(number, None);
        Ok(())
    }

    fn reclaim(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "gone") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        if let Some((stop, thread)) = self.syncing.take() {
            drop(stop);
            thread.join().map_err(|_| "the thread that syncs has died")?;
        }
        self.end_day()
    }
}

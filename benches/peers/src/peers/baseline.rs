//! No store at all: what the machine can do, if as little as possible is done about it.
//!
//! One plain file a day with blocks set aside 16 MiB ahead, as in the engine; `pwritev` of keys and
//! values; a hash map in memory; mapped slices for reading. A value's XXH3-128 is formed when it is
//! inserted and compared when it is read for the first time after the file was opened, and the key in
//! the file is compared at every read. An invalidation is 64 bytes and more at two distant places of a
//! file zeroed beforehand, with one `fdatasync`; whoever arrives meanwhile shares the next one.
//! Every second what was written is synced, so that a power cut takes no more than from the engine.
//!
//! What it lacks: it finds its way again after a kill by walking all files, forgets what was
//! invalidated then, believes every length in a file, and knows no torn write.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use memmap2::{Advice, Mmap};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::group_sync::GroupSync;
use crate::map;
use crate::peer::{Contestant, Peer, Result, Setup};

pub const CONTESTANT: Contestant = Contestant {
    name: "baseline",
    remark: "no store: pwrite to plain files, a hash map, mapped slices; after a crash it promises nothing",
    survives_crash: false,
    open,
};

/// Address space for the file of a day.
const MAX_DAY_BYTES: usize = 16 << 30;
/// How far ahead of the writes blocks are set aside.
const AHEAD_BYTES: u64 = 16 << 20;
/// Small records are written together up to this many bytes.
const BATCH_BYTES: usize = 256 << 10;
/// Lengths of key and value, hash of the value.
const HEAD_LEN: usize = 24;
const ALIGN: usize = 8;
const SHARDS: usize = 256;
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
const NOTES_BYTES: u64 = 1 << 20;
const NOTE_BYTES: usize = 64;

/// The map's keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type Shard = RwLock<HashMap<u64, Place, BuildHasherDefault<Identity>>>;

/// Where a record is.
#[derive(Clone, Copy)]
struct Place {
    day: u32,
    /// Divided by 8.
    position: u32,
}

/// The file of a day.
struct Day {
    number: u32,
    file: Arc<File>,
    map: Mmap,
    sync: GroupSync,
    /// Which records have been compared since the file was opened; none need be if this process has
    /// written them.
    compared: Option<OnceLock<Box<[AtomicU64]>>>,
}

/// Where the next record goes.
struct Active {
    day: Arc<Day>,
    end: u64,
    ahead: u64,
    scratch: Vec<u8>,
}

struct Notes {
    file: Arc<File>,
    next: u64,
}

struct Baseline {
    dir: PathBuf,
    shards: Vec<Shard>,
    days: RwLock<Vec<Option<Arc<Day>>>>,
    active: Arc<Mutex<Option<Active>>>,
    notes: Mutex<Notes>,
    notes_sync: GroupSync,
    /// Tells the thread that syncs to stop.
    syncing: Option<(Sender<()>, JoinHandle<()>)>,
}

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    std::fs::create_dir_all(dir)?;
    let notes = Arc::new(zeroed(&dir.join("notes"))?);
    let active = Arc::new(Mutex::new(None));
    let syncing = (!setup.quiet).then(|| sync_in_the_background(Arc::clone(&active)));
    let baseline = Baseline {
        dir: dir.to_owned(),
        shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        days: RwLock::default(),
        active,
        notes_sync: GroupSync::new(Arc::clone(&notes)),
        notes: Mutex::new(Notes { file: notes, next: 0 }),
        syncing,
    };
    baseline.take_up()?;
    Ok(Box::new(baseline))
}

/// The file for invalidations: of fixed length, written with zeros before it is used.
fn zeroed(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() != NOTES_BYTES {
        file.write_all_at(&vec![0; NOTES_BYTES as usize], 0)?;
        file.sync_all()?;
    }
    Ok(file)
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

impl Day {
    fn create(dir: &Path, number: u32) -> Result<Self> {
        let path = dir.join(format!("{number:05}.day"));
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        File::open(dir)?.sync_all()?;
        Self::new(number, file, None)
    }

    fn new(number: u32, file: File, compared: Option<OnceLock<Box<[AtomicU64]>>>) -> Result<Self> {
        let map = map::map(&file, MAX_DAY_BYTES)?;
        // Advice only: a refusal costs speed, nothing else.
        let _ = map.advise(Advice::Random);
        let file = Arc::new(file);
        Ok(Self { number, sync: GroupSync::new(Arc::clone(&file)), file, map, compared })
    }

    /// Compares a value's hash unless that has been done.
    fn check(&self, offset: usize, start: usize, value: &[u8]) -> Result<bool> {
        let Some(compared) = &self.compared else { return Ok(true) };
        let words = match compared.get() {
            Some(words) => words,
            None => {
                let count = self.file.metadata()?.len().div_ceil((ALIGN * 64) as u64);
                compared.get_or_init(|| (0..count).map(|_| AtomicU64::new(0)).collect())
            }
        };
        let (word, bit) = (offset / ALIGN / 64, 1 << (offset / ALIGN % 64));
        let Some(word) = words.get(word) else { return Ok(true) };
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(true);
        }
        let _ = self.map.advise_range(Advice::WillNeed, start, value.len());
        let stored = &self.map[offset + 8..offset + HEAD_LEN];
        if stored != xxh3_128(value).to_le_bytes() {
            return Ok(false);
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(true)
    }
}

impl Active {
    /// Sets blocks aside for so many bytes more.
    fn reserve(&mut self, len: u64) {
        let end = self.end + len;
        if end > self.ahead {
            self.ahead = end + AHEAD_BYTES;
            let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
            // It only saves time.
            let _ = rustix::fs::fallocate(&self.day.file, flags, self.end, self.ahead - self.end);
        }
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.reserve(len as u64);
        let written = rustix::io::pwritev(&self.day.file, parts, self.end)?;
        if written != len {
            return Err("a write was cut short".into());
        }
        self.end += len as u64;
        Ok(())
    }

    /// Writes one record, its value from where it is.
    fn append(&mut self, key: &[u8], value: &[u8]) -> Result<Place> {
        let place = self.place(0);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let padding = encode(key, value, &mut scratch);
        let zeros = [0; ALIGN];
        let parts = [IoSlice::new(&scratch), IoSlice::new(value), IoSlice::new(&zeros[..padding])];
        self.write(&parts)?;
        self.scratch = scratch;
        Ok(place)
    }

    /// Where a record lies so many bytes behind the end.
    fn place(&self, behind: usize) -> Place {
        let position = (self.end as usize + behind) / ALIGN;
        Place { day: self.day.number, position: position as u32 }
    }
}

/// Appends all of a record but its value; gives the count of zeros behind it.
fn encode(key: &[u8], value: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(&xxh3_128(value).to_le_bytes());
    out.extend_from_slice(key);
    let len = HEAD_LEN + key.len() + value.len();
    len.next_multiple_of(ALIGN) - len
}

/// Lengths of key and value.
fn lengths(head: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)? as usize, number(4)? as usize))
}

impl Baseline {
    fn shard(&self, hash: u64) -> &Shard {
        // The map itself goes by the highest and the lowest bits.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    fn put(&self, key: &[u8], place: Place) {
        let hash = xxh3_64(key);
        let mut shard = self.shard(hash).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(hash, place);
    }

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

    /// Syncs the file of the present day and gives back the blocks that were set aside for more.
    fn end_day(&self) -> Result<()> {
        let Some(active) = lock(&self.active).take() else { return Ok(()) };
        active.day.file.set_len(active.end)?;
        active.day.sync.sync()
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
            let path = self.dir.join(format!("{number:05}.day"));
            let file = File::options().read(true).write(true).open(path)?;
            let end = file.metadata()?.len();
            self.walk(&file, number, end)?;
            let day = Arc::new(Day::new(number, file, Some(OnceLock::new()))?);
            self.set_day(number, Some(Arc::clone(&day)));
            *lock(&self.active) = Some(Active { day, end, ahead: end, scratch: Vec::new() });
        }
        Ok(())
    }

    /// Goes from record to record without reading the longer values.
    fn walk(&self, file: &File, day: u32, end: u64) -> Result<()> {
        let mut window = vec![0; 64 << 10];
        let (mut start, mut filled) = (0, 0);
        let mut offset = 0;
        while offset < end {
            let mut skip = (offset - start) as usize;
            // The longest key used here is far shorter than this.
            if skip + 256 > filled && start + (filled as u64) < end {
                filled = file.read_at(&mut window, offset)?;
                (start, skip) = (offset, 0);
            }
            let record = window.get(skip..filled).ok_or("a file was cut short")?;
            let (key_len, value_len) = lengths(record).ok_or("a file was cut short")?;
            let key = record.get(HEAD_LEN..HEAD_LEN + key_len).ok_or("a key was cut short")?;
            self.put(key, Place { day, position: (offset / ALIGN as u64) as u32 });
            offset += (HEAD_LEN + key_len + value_len).next_multiple_of(ALIGN) as u64;
        }
        Ok(())
    }
}

impl Peer for Baseline {
    fn begin_day(&self, number: u32) -> Result<()> {
        self.end_day()?;
        let day = Arc::new(Day::create(&self.dir, number)?);
        self.set_day(number, Some(Arc::clone(&day)));
        *lock(&self.active) = Some(Active { day, end: 0, ahead: 0, scratch: Vec::new() });
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let place = self.with_active(|active| active.append(key, value))?;
        self.put(key, place);
        Ok(())
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.with_active(|active| {
            let mut rest = items;
            let mut places = Vec::with_capacity(items.len());
            while !rest.is_empty() {
                let mut scratch = std::mem::take(&mut active.scratch);
                scratch.clear();
                places.clear();
                for (key, value) in rest {
                    places.push(active.place(scratch.len()));
                    let padding = encode(key, value, &mut scratch);
                    scratch.extend_from_slice(value);
                    scratch.resize(scratch.len() + padding, 0);
                    if scratch.len() >= BATCH_BYTES {
                        break;
                    }
                }
                active.write(&[IoSlice::new(&scratch)])?;
                active.scratch = scratch;
                for ((key, _), place) in rest.iter().zip(&places) {
                    self.put(key, *place);
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
        self.put(key, place);
        day.sync.sync()
    }

    fn sync(&self) -> Result<()> {
        let day = lock(&self.active).as_ref().map(|active| Arc::clone(&active.day));
        day.map_or(Ok(()), |day| day.sync.sync())
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let hash = xxh3_64(key);
        let place = {
            let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
            shard.get(&hash).copied()
        };
        let Some(place) = place else { return Ok(false) };
        let Some(day) = self.day(place.day) else { return Ok(false) };
        let offset = place.position as usize * ALIGN;
        let (key_len, value_len) = lengths(&day.map[offset..]).ok_or("no record")?;
        let start = offset + HEAD_LEN + key_len;
        if &day.map[offset + HEAD_LEN..start] != key {
            return Ok(false);
        }
        let value = &day.map[start..start + value_len];
        if !day.check(offset, start, value)? {
            return Err("a value has changed".into());
        }
        look(value);
        Ok(true)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        for key in keys {
            let hash = xxh3_64(key);
            self.shard(hash).write().unwrap_or_else(PoisonError::into_inner).remove(&hash);
        }
        // As long as the engine's note: 64 bytes, and as much again for every three keys more.
        let len = NOTE_BYTES * (1 + (keys.len() - 1).div_ceil(3));
        let mut note = Vec::with_capacity(len);
        for key in keys {
            note.extend_from_slice(&xxh3_128(key).to_le_bytes());
        }
        note.resize(len, 1);
        {
            let mut notes = lock(&self.notes);
            if notes.next + len as u64 > NOTES_BYTES / 2 {
                notes.next = 0;
            }
            for half in [0, NOTES_BYTES / 2] {
                notes.file.write_all_at(&note, half + notes.next)?;
            }
            notes.next += len as u64;
        }
        self.notes_sync.sync()
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

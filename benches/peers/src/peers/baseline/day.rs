//! The file of a day: writing at its end, reading from its mapping.

use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::{Advice, Mmap};
use xxhash_rust::xxh3::xxh3_128;

use super::index::{Index, Place};
use crate::map;
use crate::peer::Result;
use crate::peers::group_sync::GroupSync;

/// Address space for the file.
const MAX_BYTES: usize = 16 << 30;
/// How far ahead of the writes blocks are set aside.
const AHEAD_BYTES: u64 = 16 << 20;
/// Lengths of key and value, hash of the value.
const HEAD_LEN: usize = 24;
const ALIGN: usize = 8;

pub struct Day {
    number: u32,
    file: Arc<File>,
    map: Mmap,
    pub sync: GroupSync,
    /// Which records have been compared since the file was opened; none need be if this process has
    /// written them.
    compared: Option<OnceLock<Box<[AtomicU64]>>>,
}

impl Day {
    pub fn create(dir: &Path, number: u32) -> Result<Self> {
        let path = dir.join(format!("{number:05}.day"));
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        File::open(dir)?.sync_all()?;
        Self::new(number, file, None)
    }

    /// Takes up a file that is there, and puts its records into the index; gives its end too.
    pub fn open(dir: &Path, number: u32, index: &Index) -> Result<(Self, u64)> {
        let path = dir.join(format!("{number:05}.day"));
        let file = File::options().read(true).write(true).open(path)?;
        let end = file.metadata()?.len();
        walk(&file, number, end, index)?;
        Ok((Self::new(number, file, Some(OnceLock::new()))?, end))
    }

    fn new(number: u32, file: File, compared: Option<OnceLock<Box<[AtomicU64]>>>) -> Result<Self> {
        let map = map::map(&file, MAX_BYTES)?;
        // Advice only: a refusal costs speed, nothing else.
        let _ = map.advise(Advice::Random);
        let file = Arc::new(file);
        Ok(Self { number, sync: GroupSync::new(Arc::clone(&file)), file, map, compared })
    }

    /// The value at a place, unless it belongs to another key.
    pub fn value(&self, place: Place, key: &[u8]) -> Result<Option<&[u8]>> {
        let offset = place.position as usize * ALIGN;
        let (key_len, value_len) = lengths(&self.map[offset..]).ok_or("no record")?;
        let start = offset + HEAD_LEN + key_len;
        if &self.map[offset + HEAD_LEN..start] != key {
            return Ok(None);
        }
        let value = &self.map[start..start + value_len];
        if self.check(offset, start, value)? {
            Ok(Some(value))
        } else {
            Err("a value has changed".into())
        }
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
        // What lies behind has been written since.
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

/// Where the next record goes.
pub struct Active {
    pub day: Arc<Day>,
    end: u64,
    ahead: u64,
    scratch: Vec<u8>,
}

impl Active {
    pub fn new(day: Arc<Day>, end: u64) -> Self {
        Self { day, end, ahead: end, scratch: Vec::new() }
    }

    /// Writes one record, its value from where it is.
    pub fn append(&mut self, key: &[u8], value: &[u8]) -> Result<Place> {
        let place = self.place(0);
        self.scratch.clear();
        let padding = encode(key, value, &mut self.scratch);
        self.reserve((self.scratch.len() + value.len() + padding) as u64);
        let zeros = [0; ALIGN];
        let parts =
            [IoSlice::new(&self.scratch), IoSlice::new(value), IoSlice::new(&zeros[..padding])];
        self.end += write(&self.day.file, &parts, self.end)?;
        Ok(place)
    }

    /// Writes the first of these records together, up to so many bytes; gives where they are.
    pub fn append_some(
        &mut self,
        items: &[(Vec<u8>, Vec<u8>)],
        most_bytes: usize,
    ) -> Result<Vec<Place>> {
        let mut places = Vec::with_capacity(items.len());
        self.scratch.clear();
        for (key, value) in items {
            places.push(self.place(self.scratch.len()));
            let padding = encode(key, value, &mut self.scratch);
            self.scratch.extend_from_slice(value);
            self.scratch.resize(self.scratch.len() + padding, 0);
            if self.scratch.len() >= most_bytes {
                break;
            }
        }
        self.reserve(self.scratch.len() as u64);
        self.end += write(&self.day.file, &[IoSlice::new(&self.scratch)], self.end)?;
        Ok(places)
    }

    /// Syncs the file and gives back the blocks that were set aside for more.
    pub fn finish(self) -> Result<()> {
        self.day.file.set_len(self.end)?;
        self.day.sync.sync()
    }

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

    /// Where a record lies so many bytes behind the end.
    fn place(&self, behind: usize) -> Place {
        let position = (self.end as usize + behind) / ALIGN;
        Place { day: self.day.number, position: position as u32 }
    }
}

fn write(file: &File, parts: &[IoSlice<'_>], offset: u64) -> Result<u64> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let written = rustix::io::pwritev(file, parts, offset)?;
    if written == len { Ok(len as u64) } else { Err("a write was cut short".into()) }
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

/// Goes from record to record without reading the longer values.
fn walk(file: &File, day: u32, end: u64, index: &Index) -> Result<()> {
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
        index.put(key, Place { day, position: (offset / ALIGN as u64) as u32 });
        offset += (HEAD_LEN + key_len + value_len).next_multiple_of(ALIGN) as u64;
    }
    Ok(())
}

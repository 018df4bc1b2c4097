//! Where invalidations are written down: a file of fixed length, zeroed before it is used.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_128;

use crate::peer::Result;
use crate::peers::group_sync::GroupSync;

const LEN: u64 = 1 << 20;
/// A note of one key.
const NOTE_LEN: usize = 64;
/// Keys that 64 bytes more have room for.
const KEYS_MORE: usize = 3;

pub struct Notes {
    file: Arc<File>,
    next: Mutex<u64>,
    sync: GroupSync,
}

impl Notes {
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() != LEN {
            file.write_all_at(&vec![0; LEN as usize], 0)?;
            file.sync_all()?;
        }
        let file = Arc::new(file);
        Ok(Self { sync: GroupSync::new(Arc::clone(&file)), file, next: Mutex::new(0) })
    }

    /// Writes keys down at two distant places, and returns when that is on the disk.
    pub fn write(&self, keys: &[&[u8]]) -> Result<()> {
        let len = NOTE_LEN * (1 + keys.len().saturating_sub(1).div_ceil(KEYS_MORE));
        let mut note = Vec::with_capacity(len);
        for key in keys {
            note.extend_from_slice(&xxh3_128(key).to_le_bytes());
        }
        note.resize(len, 1);
        {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            if *next + len as u64 > LEN / 2 {
                *next = 0;
            }
            for half in [0, LEN / 2] {
                self.file.write_all_at(&note, half + *next)?;
            }
            *next += len as u64;
        }
        self.sync.sync()
    }
}

//! Open files of sealed segments, at most so many, the least recently used closed first.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Access, Disk, DiskFile, is_out_of_descriptors};
use crate::sync::Mutex;

/// The most descriptors kept open for reading.
pub(crate) const MAX_DESCRIPTORS: usize = 256;

/// The cache of open files.
#[derive(Debug)]
pub(crate) struct Descriptors {
    disk: Arc<dyn Disk>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<u64, (Arc<dyn DiskFile>, u64)>,
    tick: u64,
}

impl Descriptors {
    /// An empty cache.
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default() }
    }

    /// The file of a segment, opened if need be.
    pub(crate) fn get(&self, number: u64, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        {
            let mut open = self.open.lock();
            open.tick += 1;
            let tick = open.tick;
            if let Some((file, used)) = open.files.get_mut(&number) {
                *used = tick;
                return Ok(Arc::clone(file));
            }
        }
        let file = self.relieve(|| self.disk.open(path, Access::Read))?;
        let mut open = self.open.lock();
        let tick = open.tick;
        if open.files.len() >= MAX_DESCRIPTORS {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                open.files.remove(&oldest);
            }
        }
        open.files.insert(number, (Arc::clone(&file), tick));
        Ok(file)
    }

    /// Does what takes a descriptor. If the process may open no more it closes the files kept here, and tries
    /// once more.
    pub(super) fn relieve<T>(&self, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match call() {
            Err(e) if is_out_of_descriptors(&e) => {
                let held = std::mem::take(&mut self.open.lock().files);
                drop(held);
                call()
            }
            done => done,
        }
    }

    /// True if there is a file at this path, whatever is kept open.
    pub(crate) fn is_there(&self, path: &Path) -> io::Result<bool> {
        match self.relieve(|| self.disk.open(path, Access::Read)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            opened => opened.map(|_| true),
        }
    }

    /// Closes the file of a segment that is gone.
    pub(crate) fn forget(&self, number: u64) {
        self.open.lock().files.remove(&number);
    }
}

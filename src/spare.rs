//! A zeroed file that waits beside a log, so that the log can go on without asking for space.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile, read_full_at, write_all_at};
use crate::error::{Error, Result};
use crate::format::is_zeros;

/// Its name.
pub(crate) const SPARE: &str = "spare";
const TMP_NAME: &str = "spare.tmp";
/// What is read or written in one go.
const PIECE_LEN: usize = 64 * 1024;

/// The spare of a directory.
#[derive(Debug)]
pub(crate) struct Spare {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_len: u64,
}

impl Spare {
    /// The spare of this directory, a file of this length; it need not be there yet.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, file_len: u64) -> Self {
        Self { disk, dir, file_len }
    }

    /// The file, while it waits.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(SPARE)
    }

    /// Bytes of the file.
    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Makes sure that it waits.
    pub(crate) fn ensure(&self) -> Result<()> {
        match self.disk.open(&self.path(), Access::Read) {
            Ok(file) if file.len().is_ok_and(|len| len == self.file_len) => Ok(()),
            _ => self.make(),
        }
    }

    /// Opens it for writing, all zeros; makes it if it is missing.
    pub(crate) fn open(&self) -> Result<Arc<dyn DiskFile>> {
        let path = self.path();
        match self.disk.open(&path, Access::ReadWrite) {
            Ok(file)
                if file.len().is_ok_and(|len| len == self.file_len)
                    && self.clear(&*file).is_ok() =>
            {
                Ok(file)
            }
            _ => {
                self.make()?;
                let opened = self.disk.open(&path, Access::ReadWrite);
                opened.map_err(|e| Error::io("open", &path, e))
            }
        }
    }

    /// Gives it its name in the log. If it waits no more afterwards, it was renamed, whatever the system says.
    pub(crate) fn rename(&self, to: &Path) -> Result<()> {
        let path = self.path();
        let is_gone = || {
            let opened = self.disk.open(&path, Access::Read);
            opened.is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        };
        match self.disk.rename(&path, to) {
            Err(e) if !is_gone() => Err(Error::io("rename", &path, e)),
            _ => Ok(()),
        }
    }

    /// Overwrites what is not zeros, which takes no space: a file was begun in it and given up, or it
    /// was damaged while it waited.
    fn clear(&self, file: &dyn DiskFile) -> io::Result<()> {
        let mut piece = vec![0_u8; PIECE_LEN];
        let mut offset = 0;
        let mut changed = false;
        while offset < self.file_len {
            let read = read_full_at(file, &mut piece, offset)?;
            let piece = piece.get_mut(..read).filter(|piece| !piece.is_empty());
            let piece = piece.ok_or(io::ErrorKind::UnexpectedEof)?;
            if !is_zeros(piece) {
                piece.fill(0);
                write_all_at(file, &mut [IoSlice::new(piece)], offset).map_err(|e| e.source)?;
                changed = true;
            }
            offset += read as u64;
        }
        if changed { file.sync_data() } else { Ok(()) }
    }

    fn make(&self) -> Result<()> {
        let tmp = self.dir.join(TMP_NAME);
        let _ = self.disk.remove_file(&tmp);
        let made = self.write_zeros(&tmp);
        if made.is_err() {
            let _ = self.disk.remove_file(&tmp);
        }
        made?;
        let path = self.path();
        self.disk.rename(&tmp, &path).map_err(|e| Error::io("rename", &tmp, e))?;
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))
    }

    fn write_zeros(&self, path: &Path) -> Result<()> {
        let file = self.disk.create(path).map_err(|e| Error::io("create", path, e))?;
        let zeros = vec![0_u8; PIECE_LEN];
        let mut offset = 0;
        while offset < self.file_len {
            let len = (self.file_len - offset).min(zeros.len() as u64) as usize;
            let part = zeros.get(..len).unwrap_or_default();
            write_all_at(&*file, &mut [IoSlice::new(part)], offset)
                .map_err(|e| Error::io("write", path, e.source))?;
            offset += len as u64;
        }
        file.sync_data().map_err(|e| Error::io("sync", path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn a_spare_that_waits_is_left_alone_and_one_of_another_length_is_not() {
        let memory = MemoryDisk::new(1);
        memory.create_dir(Path::new("/spares")).unwrap();
        let spare = |len| Spare::new(Arc::new(memory.clone()), PathBuf::from("/spares"), len);
        spare(8192).ensure().unwrap();
        let path = spare(8192).path();
        // It would be zeros again if it had been made anew.
        memory.write_file(&path, &[1; 8192]).unwrap();
        spare(8192).ensure().unwrap();
        assert!(memory.read_file(&path).unwrap() == [1; 8192]);
        spare(4096).ensure().unwrap();
        assert!(memory.read_file(&path).unwrap() == [0; 4096]);
    }
}

//! What makes a directory a store: its directories, its lock, and who it is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::paths::Paths;
use crate::disk::{Disk, DiskLock, LockOutcome, TOUCH};
use crate::error::{Error, Result};
use crate::format::VERSION;
use crate::format::manifest::{STORE_MAGIC, StoreManifest};
use crate::format::record::RecordKind;
use crate::hash::SECRET_LEN;
use crate::owner::owners_dir;
use crate::recovery::{owner_names, touch};
use crate::store::StoreBuilder;
use crate::twin_file::{TwinFile, unreadable};

/// Refuses a directory that other machines may change, or the place for one, before anything is done
/// there.
pub(super) fn refuse_network(builder: &StoreBuilder) -> Result<()> {
    if builder.allow_network_file_system {
        return Ok(());
    }
    // What is missing will be where its parent is.
    for dir in builder.path.ancestors() {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match builder.disk.remote_file_system(dir) {
            Ok(None) => return Ok(()),
            Ok(Some(file_system)) => {
                return Err(Error::NetworkFileSystem { path: builder.path.clone(), file_system });
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("ask for the file system of", dir, e)),
        }
    }
    Ok(())
}

pub(super) fn create_directories(disk: &dyn Disk, root: &Path) -> Result<()> {
    create_dir_all(disk, root)?;
    for dir in directories(root) {
        match disk.create_dir(&dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::io("create", &dir, e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes the names durable that an earlier process has left: it may have ended between making one and syncing
/// its directory, and what is acknowledged from now on lies below them. Those in the directories of keyspaces
/// and logs are recovery's part. If it was not closed in order, one of its syncs may have failed just before, and
/// another have nothing to write.
pub(super) fn settle_names(disk: &dyn Disk, paths: &Paths, was_closed: bool) -> Result<()> {
    if !was_closed {
        let files = [paths.state().with_extension("tmp"), paths.trash().join(TOUCH)];
        files.iter().try_for_each(|file| touch(disk, file))?;
    }
    let root = &paths.root;
    let mut dirs = std::iter::once(root.to_owned()).chain(directories(root));
    dirs.try_for_each(|dir| disk.sync_dir(&dir).map_err(|e| Error::io("sync", &dir, e)))
}

/// The directories in a store's directory.
fn directories(root: &Path) -> [PathBuf; 5] {
    let owners = |kind| owners_dir(root, kind);
    let [tombstones, trash, ledger] = ["tombstones", "trash", "ledger"].map(|name| root.join(name));
    [tombstones, trash, ledger, owners(RecordKind::Blob), owners(RecordKind::Rows)]
}

/// Makes a directory and those above it that are missing, durably each before what lies in it.
fn create_dir_all(disk: &dyn Disk, path: &Path) -> Result<()> {
    let failed = |e| Error::io("create", path, e);
    match disk.create_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let Some(parent) = parent else { return Err(failed(e)) };
            create_dir_all(disk, parent)?;
            disk.create_dir(path).map_err(failed)?;
        }
        Err(e) => return Err(failed(e)),
    }
    sync_parent(disk, path).inspect_err(|_| {
        // As that of a file.
        let _ = disk.remove_dir(path);
    })
}

/// Makes the name of a new file durable. If that fails, syncing it again could lie: the next attempt makes another.
pub(super) fn name_durably(disk: &dyn Disk, path: &Path) -> Result<()> {
    sync_parent(disk, path).inspect_err(|_| {
        let _ = disk.remove_file(path);
    })
}

/// Makes the entry of a file or directory durable.
fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    disk.sync_dir(parent).map_err(|e| Error::io("sync", parent, e))
}

pub(super) fn lock(disk: &dyn Disk, paths: &Paths) -> Result<Arc<dyn DiskLock>> {
    match disk.lock(&paths.lock()).map_err(|e| Error::io("lock", &paths.lock(), e))? {
        LockOutcome::Acquired(lock) => Ok(Arc::from(lock)),
        LockOutcome::Held(pid) => Err(Error::Locked { path: paths.root.clone(), pid }),
    }
}

pub(super) fn read_store(disk: &dyn Disk, path: &Path) -> Result<StoreManifest> {
    let twin = TwinFile::read(disk, path, STORE_MAGIC)?;
    if let Some(found) = twin.foreign_version() {
        return Err(Error::UnknownVersion { path: path.to_owned(), found, known: VERSION });
    }
    let newest = twin.newest().and_then(|(_, slot)| StoreManifest::decode(&slot.payload).ok());
    newest.ok_or_else(|| unreadable(path, &twin))
}

/// Refuses a store that another version made before anything is added to it.
pub(super) fn refuse_foreign(disk: &dyn Disk, paths: &Paths) -> Result<()> {
    match read_store(disk, &paths.store()) {
        Err(e @ Error::UnknownVersion { .. }) => Err(e),
        // Whatever else there is to say is said under the lock.
        _ => Ok(()),
    }
}

/// Makes a new store. Its last step is the STORE file: before that, there is none.
pub(super) fn create_store(builder: &StoreBuilder, paths: &Paths) -> Result<StoreManifest> {
    let disk = &*builder.disk;
    for kind in [RecordKind::Blob, RecordKind::Rows] {
        if !owner_names(disk, &paths.root, kind)?.is_empty() {
            let what = "it is missing, though there are keyspaces or logs";
            return Err(Error::Corrupt { path: paths.store(), offset: 0, what });
        }
    }
    let mut random = vec![0; 16 + 2 * SECRET_LEN];
    disk.fill_random(&mut random)
        .map_err(|e| Error::io("read randomness for", &paths.store(), e))?;
    let wall = builder.clock.wall().as_millis();
    let mut payload = random;
    payload.splice(16..16, wall.to_le_bytes());
    let broken = |_| Error::Corrupt { path: paths.store(), offset: 0, what: "random bytes" };
    let manifest = StoreManifest::decode(&payload).map_err(broken)?;
    // The directory, and those above it, may have been made by an attempt that did not come this far.
    for dir in paths.root.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        match sync_parent(disk, dir) {
            // One that may not even be read is not ours.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    let path = paths.store();
    TwinFile::create_whole(disk, &path, STORE_MAGIC, &manifest.encode())?;
    name_durably(disk, &path)?;
    Ok(manifest)
}

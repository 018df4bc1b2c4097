//! A store: one directory, one process writing it, any number of keyspaces and logs.
//!
//! `builder` holds the options, `open` takes up a directory, `invalidate` hides in all of it, `upkeep`
//! does what the background thread does, `closing` ends it, `stats` and `verify` look inside.

mod builder;
mod closing;
#[cfg(test)]
mod collisions;
mod invalidate;
mod ledger;
mod open;
mod reconcile;
mod residue;
mod stats;
mod upkeep;
mod verify;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use builder::StoreBuilder;
pub use invalidate::Scope;
pub use ledger::LedgerReport;
pub use residue::{Residue, ResidueKind, ResidueOwner};
pub use stats::{BucketStats, KeyspaceStats, LogStats, StoreStats};

use crate::disk::{DiskLock, TOUCH, touch_dir};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::manifest::OwnerManifest;
use crate::format::record::RecordKind;
use crate::janitor::Janitor;
use crate::keyspace::{Keyspace, KeyspaceCore};
use crate::ledger::Event;
use crate::log::{Log, LogCore};
use crate::options::{KeyspaceOptions, LogOptions, OwnerOptions, check_name, check_same_window};
use crate::owner::{Owner, manifest_file, owners_dir};
use crate::report::{Problem, RecoveryReport};
use crate::sync::{Mutex, RwLock};
use crate::time::Timestamp;
use crate::twin_file::TwinFile;

/// An open store. Clones are cheap and share it; all methods take `&self`.
///
/// Dropping the last clone closes it as well as it can; [`Store::close`] says whether that went
/// well. Handles of keyspaces and logs do not keep it open.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// Closes the store when the last handle goes.
#[derive(Debug)]
struct Shared {
    core: Arc<StoreCore>,
    janitor: Mutex<Option<Janitor>>,
}

/// What the handles and the background thread share.
#[derive(Debug)]
pub(crate) struct StoreCore {
    pub(crate) engine: Arc<Engine>,
    keyspaces: RwLock<BTreeMap<String, Arc<KeyspaceCore>>>,
    logs: RwLock<BTreeMap<String, Arc<LogCore>>>,
    /// What hides records of a keyspace or log that could not be taken up is not forgotten.
    has_orphans: bool,
    report: RecoveryReport,
    /// Held until the store is closed.
    lock: Mutex<Option<Arc<dyn DiskLock>>>,
    upkeep: Mutex<upkeep::Due>,
    pub(crate) sync_interval: Duration,
    max_pin: Duration,
}

impl Store {
    /// Opens a store, creating it if it is missing; values are read by position and copied.
    ///
    /// # Errors
    ///
    /// [`Locked`](Error::Locked) if another opener has it, [`UnknownVersion`](Error::UnknownVersion),
    /// [`Corrupt`](Error::Corrupt) if what the store cannot do without is damaged in all copies,
    /// [`NetworkFileSystem`](Error::NetworkFileSystem), and the system's own.
    ///
    /// ```
    /// use ebbtide::{KeyspaceOptions, Retention, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// let store = Store::open(&path)?;
    /// let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30)))?;
    /// images.insert("cat.jpg?w=320", b"bytes")?;
    /// assert_eq!(images.get("cat.jpg?w=320")?.as_deref(), Some(&b"bytes"[..]));
    /// store.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Opens a store, creating it if it is missing; durable values are handed out without a copy,
    /// from mapped files.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    ///
    /// # Safety
    ///
    /// While the store, or any value read from it, lives:
    /// nothing but this store may write to, cut or replace files in the directory,
    /// the directory must be on a local file system,
    /// and its device must stay attached.
    #[allow(unsafe_code)]
    pub unsafe fn open_mapped(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open_with(true)
    }

    /// Opens an existing store to look at it, also while another process writes it: takes no lock,
    /// repairs nothing, and shows what was there at this moment, less what is invalidated or expires
    /// from then on.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Error::NotFound) if there is no store, and as [`Store::open`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open_read_only()
    }

    /// Options for opening.
    pub fn builder(path: impl AsRef<Path>) -> StoreBuilder {
        StoreBuilder::new(path.as_ref())
    }

    /// The keyspace of this name, created with these options if it is missing.
    ///
    /// # Errors
    ///
    /// [`OptionsConflict`](Error::OptionsConflict) if it exists with another window or bucket width,
    /// [`InvalidName`](Error::InvalidName), [`Limit`](Error::Limit), and the system's own.
    pub fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let core = &self.shared.core;
        core.engine.check_process()?;
        let mut keyspaces = core.keyspaces.write();
        if let Some(existing) = keyspaces.get(name) {
            core.check_options(&existing.owner, options.into_inner())?;
            return Ok(Keyspace { core: Arc::clone(existing) });
        }
        let owner = core.create_owner(RecordKind::Blob, name, options.into_inner())?;
        let created =
            Arc::new(KeyspaceCore::new(owner, crate::index::Index::new(), Default::default()));
        keyspaces.insert(name.to_owned(), Arc::clone(&created));
        Ok(Keyspace { core: created })
    }

    /// The log of this name, created with these options if it is missing.
    ///
    /// # Errors
    ///
    /// As [`Store::keyspace`].
    pub fn log(&self, name: &str, options: LogOptions) -> Result<Log> {
        let core = &self.shared.core;
        core.engine.check_process()?;
        let mut logs = core.logs.write();
        if let Some(existing) = logs.get(name) {
            core.check_options(&existing.owner, options.into_inner())?;
            return Ok(Log { core: Arc::clone(existing) });
        }
        let owner = core.create_owner(RecordKind::Rows, name, options.into_inner())?;
        let created = Arc::new(LogCore::new(owner, Default::default()));
        logs.insert(name.to_owned(), Arc::clone(&created));
        Ok(Log { core: created })
    }

    /// The names of all keyspaces, ordered.
    pub fn keyspaces(&self) -> Vec<String> {
        self.shared.core.keyspaces.read().keys().cloned().collect()
    }

    /// The names of all logs, ordered.
    pub fn logs(&self) -> Vec<String> {
        self.shared.core.logs.read().keys().cloned().collect()
    }

    /// A keyspace that exists, with the options it has.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Error::NotFound).
    pub fn existing_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.shared.core.engine.check_process()?;
        let keyspaces = self.shared.core.keyspaces.read();
        let core = keyspaces.get(name).cloned();
        let missing = || Error::NotFound { what: "keyspace", name: name.to_owned() };
        core.map(|core| Keyspace { core }).ok_or_else(missing)
    }

    /// A log that exists, with the options it has.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Error::NotFound).
    pub fn existing_log(&self, name: &str) -> Result<Log> {
        self.shared.core.engine.check_process()?;
        let logs = self.shared.core.logs.read();
        let core = logs.get(name).cloned();
        let missing = || Error::NotFound { what: "log", name: name.to_owned() };
        core.map(|core| Log { core }).ok_or_else(missing)
    }

    /// Makes everything written before durable: it survives a power cut from then on.
    ///
    /// # Errors
    ///
    /// The system's own. After a failed sync nothing more is written until the store is opened
    /// again, since the kernel may have dropped what it could not write.
    pub fn sync(&self) -> Result<()> {
        self.shared.core.sync()
    }

    /// Does all that the background thread does, now, to the end: syncs, drops what is past its
    /// deadline, seals, keeps capacities, and gives space back.
    ///
    /// # Errors
    ///
    /// The first one met; the rest is done all the same. [`Poisoned`](Error::Poisoned) if writing has
    /// stopped, since nothing was synced then.
    pub fn maintain(&self) -> Result<()> {
        self.shared.core.maintain_fully()
    }

    /// Drops the buckets whose deadline has passed, durably, and gives their number. Their space is
    /// given back by the upkeep. Constant time for each bucket, whatever it holds.
    ///
    /// # Errors
    ///
    /// The first one met; what could be dropped is dropped all the same.
    pub fn drop_expired(&self) -> Result<usize> {
        self.shared.core.drop_due()
    }

    /// Erases the bytes of everything that is dead, now: what was invalidated or replaced, in every
    /// keyspace and log. Buckets whose deadline has passed are dropped. The upkeep does so by itself
    /// within [`erase_within`](KeyspaceOptions::erase_within). Records whose segment has values that are
    /// still held are erased once those are dropped.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](Error::Poisoned) if writing has stopped, and the system's own: what could not be
    /// erased is tried again by the upkeep.
    pub fn scrub(&self) -> Result<()> {
        self.shared.core.scrub_now()
    }

    /// What opening found.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.shared.core.report
    }

    /// Damaged records met by reads since the store was opened, the first 64 of them.
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.core.engine.problems()
    }

    /// The time by which buckets are chosen and dropped. It follows the wall clock, but never goes
    /// back, and does not believe large steps at once.
    pub fn now(&self) -> Timestamp {
        self.shared.core.engine.trusted_now()
    }

    /// Believes a step of the wall clock that is still suspect, and drops at the next upkeep what is
    /// due by it.
    ///
    /// # Errors
    ///
    /// The system's own, while it is written down.
    pub fn confirm_clock(&self) -> Result<()> {
        self.shared.core.confirm_clock()
    }

    /// Takes the wall clock's word even if it is behind: for when the clock had been wrong in the
    /// future. Deadlines of buckets born in that future are brought forward, none is put off.
    /// Waits for writes under way and holds others up.
    ///
    /// # Errors
    ///
    /// The system's own, while it is written down. The time is as before then, or it is set, and upkeep
    /// brings forward what is left, as it does after a stop in between; nothing is lost either way.
    pub fn reset_clock(&self) -> Result<()> {
        self.shared.core.reset_clock()
    }

    /// Makes everything durable, leaves what the next open needs to be fast, and closes the store
    /// for all handles. Waits for calls that are under way; what was being written in pieces is
    /// removed. Values already read stay valid. Those of a mapped store lie in its files: until
    /// the last of them is dropped it stays locked, so that no later opening erases what they show.
    ///
    /// # Errors
    ///
    /// The first one met; the store is closed all the same, and the next open recovers.
    /// [`Forked`](Error::Forked) in a child that a `fork` has made: the store stays its parent's.
    pub fn close(&self) -> Result<()> {
        self.shared.close()
    }
}

impl Shared {
    fn close(&self) -> Result<()> {
        self.core.engine.check_process()?;
        if let Some(janitor) = self.janitor.lock().take() {
            janitor.stop();
        }
        self.core.close()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The caller who wants to know calls `close`.
        let _ = self.close();
    }
}

impl StoreCore {
    pub(crate) fn keyspace_cores(&self) -> Vec<Arc<KeyspaceCore>> {
        self.keyspaces.read().values().cloned().collect()
    }

    pub(crate) fn log_cores(&self) -> Vec<Arc<LogCore>> {
        self.logs.read().values().cloned().collect()
    }

    /// Compares the options of an owner that exists, and takes over those that may change.
    fn check_options(&self, owner: &Owner, options: OwnerOptions) -> Result<()> {
        self.engine.check_open()?;
        let stored = owner.manifest();
        let given = options.to_manifest(&owner.name, stored.owner_id, stored.created_ms)?;
        check_same_window(&owner.name, stored.window, given.window)?;
        if self.engine.is_read_only() {
            return Ok(());
        }
        owner.update_manifest(|manifest| {
            *manifest = OwnerManifest { floor: manifest.floor, ..given };
        })
    }

    /// Makes a new owner; when this returns, it is durable.
    fn create_owner(&self, kind: RecordKind, name: &str, options: OwnerOptions) -> Result<Owner> {
        let engine = &self.engine;
        engine.write_side()?;
        check_name(name)?;
        let parent = owners_dir(&engine.root, kind);
        let dir = parent.join(name);
        let mut id = [0; 8];
        let disk = &*engine.disk;
        disk.fill_random(&mut id).map_err(|e| Error::io("read randomness for", &dir, e))?;
        let now = engine.trusted_now().as_millis();
        let manifest = options.to_manifest(name, u64::from_le_bytes(id), now)?;
        engine.check_writable()?;
        match disk.create_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                check_leftover(disk, &dir, manifest_file(kind).0)?;
                // The sync of its name may have failed.
                let file = parent.join(TOUCH);
                touch_dir(disk, &file).map_err(|e| Error::io("create", &file, e))?;
            }
            other => other.map_err(|e| Error::io("create", &dir, e))?,
        }
        let (file_name, magic) = manifest_file(kind);
        let path = dir.join(file_name);
        let made = TwinFile::create_whole(disk, &path, magic, &manifest.encode());
        let named =
            |file| engine.sync_dir(&dir).and_then(|()| engine.sync_dir(&parent)).map(|()| file);
        let file = made.and_then(named).inspect_err(|_| {
            // Another attempt would take it for one whose manifest was lost. If its directory was not synced, syncing
            // that again could lie: the next attempt makes another.
            let _ = disk.remove_file(&path);
            let _ = disk.remove_dir(&dir);
        })?;
        let made = Event::OwnerMade { owner_id: manifest.owner_id, kind, found: false };
        engine.write_side()?.ledger.note(engine.trusted_now(), made);
        Ok(Owner::new(Arc::clone(engine), kind, Some(file), manifest))
    }
}

/// An owner's directory without an owner in the table may be left over from an attempt to make one;
/// if it holds a manifest or buckets, it is one whose manifest was lost, and is not written over.
fn check_leftover(disk: &dyn crate::disk::Disk, dir: &Path, manifest: &str) -> Result<()> {
    let entries = disk.read_dir(dir).map_err(|e| Error::io("list", dir, e))?;
    let in_use = |name: &str| name == manifest || Timestamp::from_compact(name).is_some();
    if entries.iter().any(|entry| in_use(&entry.name)) {
        return Err(Error::Corrupt { path: dir.join(manifest), offset: 0, what: "both copies" });
    }
    Ok(())
}

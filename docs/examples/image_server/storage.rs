//! The store: which keyspaces and logs there are, and for how long they keep what they hold.

use std::path::Path;
use std::time::Duration;

use ebbtide::{Keyspace, KeyspaceOptions, LogOptions, Receipt, Retention, Scope, Store};

use crate::access_log::AccessLog;
use crate::variants::Variants;

/// How long variants and rows are kept, at most.
const RETENTION: Retention = Retention::days(30);
/// How long previews are kept: the shortest window there is, so that buckets can be watched as
/// they go, one a minute.
const PREVIEW_WINDOW: Duration = Duration::from_secs(16 * 60);
/// The most the variants may take on the disk; beyond it the oldest go early.
const CAPACITY_BYTES: u64 = 1 << 30;
/// The keyspace of remarks about what is in the store; the page does not list it.
pub(crate) const NOTES: &str = "notes";

/// An open store and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// The store.
    pub(crate) store: Store,
    /// The rendered variants.
    pub(crate) variants: Variants,
    /// The requests.
    pub(crate) access: AccessLog,
    /// Remarks, kept as long as what they are about.
    pub(crate) notes: Keyspace,
}

impl Storage {
    /// Opens the store in a directory, with values answered straight from mapped files.
    #[allow(unsafe_code)]
    pub(crate) fn open(dir: &Path) -> ebbtide::Result<Self> {
        // SAFETY: the directory was made by this program for the store alone, and the store's lock
        // keeps other openers out. Whoever names another with `--data` vouches for the same: that
        // it is on a local disk that stays attached, and that nothing else writes to it.
        let store = unsafe { Store::open_mapped(dir) }?;
        Self::of(store)
    }

    /// Takes up what is in an open store, and makes what is missing.
    pub(crate) fn of(store: Store) -> ebbtide::Result<Self> {
        let images = KeyspaceOptions::new(RETENTION).capacity_bytes(CAPACITY_BYTES);
        let previews = KeyspaceOptions::new(Retention::window(PREVIEW_WINDOW));
        Ok(Self {
            variants: Variants {
                images: store.keyspace("images", images)?,
                previews: store.keyspace("previews", previews)?,
            },
            access: AccessLog::new(store.log("access", LogOptions::new(RETENTION))?),
            notes: store.keyspace(NOTES, KeyspaceOptions::new(RETENTION))?,
            store,
        })
    }

    /// Hides all variants of a photo in all keyspaces, with one durable write. Their bytes follow
    /// within the hour.
    pub(crate) fn purge(&self, photo: &str) -> ebbtide::Result<Receipt> {
        self.store.invalidate_tag(photo, Scope::Keyspaces)
    }
}

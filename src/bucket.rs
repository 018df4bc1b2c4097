//! A bucket: one slice of time of one owner, a directory on disk, the unit of forgetting.

use std::path::{Path, PathBuf};

use crate::pseudonym::KeyRing;
use crate::retention::Window;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::Timestamp;

/// A live bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    deadline_ms: AtomicU64,
    dir: PathBuf,
    /// The keys of a log bucket.
    keys: Mutex<Option<KeyRing>>,
}

impl Bucket {
    /// The deadline of one that has left, and may still be there, or be back: over whatever the time is.
    pub(crate) const CONDEMNED: Timestamp = Timestamp::from_millis(0);

    /// The bucket that starts at this moment, in its owner's directory.
    pub(crate) fn new(owner_dir: &Path, window: Window, start: Timestamp) -> Self {
        Self {
            start,
            end: window.bucket_end(start),
            deadline_ms: AtomicU64::new(window.deadline(start).as_millis()),
            dir: owner_dir.join(start.compact()),
            keys: Mutex::new(None),
        }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// When all of it is gone.
    pub(crate) fn deadline(&self) -> Timestamp {
        Timestamp::from_millis(self.deadline_ms.load(Ordering::Acquire))
    }

    /// Brings the deadline forward; it is never put off.
    pub(crate) fn lower_deadline(&self, deadline: Timestamp) {
        self.deadline_ms.fetch_min(deadline.as_millis(), Ordering::AcqRel);
    }

    /// True if it has left, and is still there.
    pub(crate) fn is_condemned(&self) -> bool {
        self.deadline() == Self::CONDEMNED
    }

    /// Brings the deadline forward if the bucket lies in a future that was wrong: the time was set to
    /// this moment after it was born. It then leaves no later than any bucket born from that moment on, so
    /// that what is older still leaves first.
    pub(crate) fn correct(&self, window: Window, to: Timestamp) {
        if self.start >= to {
            self.lower_deadline(window.deadline(window.bucket_start(to)));
        }
    }

    /// A copy of the keys, which wipes itself.
    pub(crate) fn keys(&self) -> Option<KeyRing> {
        self.keys.lock().clone()
    }

    /// Sets the keys, or forgets them.
    pub(crate) fn set_keys(&self, keys: Option<KeyRing>) {
        *self.keys.lock() = keys;
    }
}

//! What reading gives: [`Value`], [`Stat`] and [`Entry`].

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::format::record::RecordKind;
use crate::segment::RecordView;
use crate::time::Timestamp;

/// What is known of a record without reading its value. It holds nothing of the store, unless it is that
/// of a [`Value`].
#[derive(Clone)]
pub struct Stat {
    view: RecordView,
    deadline: Timestamp,
}

impl Stat {
    pub(crate) fn new(view: RecordView, deadline: Timestamp) -> Self {
        debug_assert_eq!(view.head.kind, RecordKind::Blob);
        Self { view, deadline }
    }

    /// One with bytes of its own.
    pub(crate) fn detached(self) -> Self {
        Self { view: self.view.detached(), ..self }
    }

    /// The opaque metadata it was written with.
    pub fn metadata(&self) -> &[u8] {
        self.view.metadata()
    }

    /// The value's length in bytes.
    pub fn value_len(&self) -> u64 {
        self.view.head.value_len as u64
    }

    /// XXH3-128 of the value: the same bytes have the same hash in any store, which makes it fit
    /// for a strong `ETag`.
    pub fn value_hash(&self) -> u128 {
        self.view.prefix.value_hash
    }

    /// How many tags it carries.
    pub fn tag_count(&self) -> usize {
        self.view.tags().len()
    }

    /// The sequence number that orders it among all writes and invalidations of the store.
    pub fn sequence(&self) -> u64 {
        self.view.head.seq
    }

    /// When it was written, by the engine's time.
    pub fn written_at(&self) -> Timestamp {
        Timestamp::from_millis(self.view.head.written_at_ms)
    }

    /// When it becomes invisible at the latest: its bucket's deadline, or its own earlier expiry.
    pub fn gone_at(&self) -> Timestamp {
        match self.view.prefix.expires_at_ms {
            Some(expires_at_ms) => self.deadline.min(Timestamp::from_millis(expires_at_ms)),
            None => self.deadline,
        }
    }
}

impl fmt::Debug for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stat")
            .field("value_len", &self.value_len())
            .field("sequence", &self.sequence())
            .field("written_at", &self.written_at())
            .field("gone_at", &self.gone_at())
            .finish_non_exhaustive()
    }
}

/// A value that was read; derefs to its bytes.
///
/// In a mapped store, bytes that are durable are not copied: the value and any [`Bytes`] made from
/// it stay valid and unchanged after an overwrite, an invalidation, the drop of the bucket and the
/// close of the store. While one is held, no record of its segment can be erased, and the disk space
/// of the segment cannot be given back; keep [`Value::to_owned`] of what is kept for long.
#[derive(Debug, Clone)]
pub struct Value {
    stat: Stat,
}

impl Value {
    pub(crate) fn new(view: RecordView, deadline: Timestamp) -> Self {
        Self { stat: Stat::new(view, deadline) }
    }

    /// What is known besides the bytes.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// The opaque metadata it was written with.
    pub fn metadata(&self) -> &[u8] {
        self.stat.metadata()
    }

    /// A copy that holds nothing of the store: for what is kept long, so that it does not delay the
    /// erasing of records that lie in the same segment.
    #[allow(clippy::should_implement_trait)]
    pub fn to_owned(&self) -> Self {
        Self { stat: self.stat.clone().detached() }
    }

    /// The bytes, shared with this value.
    pub fn bytes(&self) -> Bytes {
        self.stat.view.clone().into_value()
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.stat.view.into_value()
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.stat.view.value()
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// One visible record, as iteration gives it. It holds nothing of the store: many of them may be kept.
#[derive(Debug, Clone)]
pub struct Entry {
    stat: Stat,
}

impl Entry {
    pub(crate) fn new(stat: Stat) -> Self {
        Self { stat: stat.detached() }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.stat.view.key()
    }

    /// What is known without reading the value.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }
}

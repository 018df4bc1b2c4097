//! Getting a value or making it: one caller does the work, and those who wait for it get its bytes
//! if nothing has come in between that forbids it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use super::fill::{Fill, Outcome};
use super::flight::{Landing, Lead, Role};
use super::{Keyspace, KeyspaceCore};
use crate::error::{Error, Result};
use crate::hash::KeyedHash;
use crate::sequence::Ticket;
use crate::time::Timestamp;
use crate::value::Value;

/// A value to be stored, with what belongs to it: what the work of [`Keyspace::try_get_with`] gives.
/// Anything that turns into [`Bytes`] is one without tags and metadata.
#[derive(Debug, Clone, Default)]
pub struct NewValue {
    value: Bytes,
    tags: Vec<Vec<u8>>,
    metadata: Bytes,
    expires_at: Option<Timestamp>,
}

impl NewValue {
    /// A value without tags and metadata.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }

    /// Adds a tag, as [`Fill::tag`] does.
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(tag.as_ref().to_vec());
        self
    }

    /// Sets metadata, as [`Fill::metadata`] does.
    pub fn metadata(mut self, metadata: impl AsRef<[u8]>) -> Self {
        self.metadata = Bytes::copy_from_slice(metadata.as_ref());
        self
    }

    /// Sets an expiry, as [`Fill::expires_at`] does.
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    fn add_to(&self, mut fill: Fill) -> Fill {
        for tag in &self.tags {
            fill = fill.tag(tag);
        }
        if let Some(at) = self.expires_at {
            fill = fill.expires_at(at);
        }
        fill.metadata(&self.metadata)
    }
}

impl From<Bytes> for NewValue {
    fn from(value: Bytes) -> Self {
        Self::new(value)
    }
}

impl From<Vec<u8>> for NewValue {
    fn from(value: Vec<u8>) -> Self {
        Self::new(value)
    }
}

impl From<String> for NewValue {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl From<&[u8]> for NewValue {
    fn from(value: &[u8]) -> Self {
        Self::new(Bytes::copy_from_slice(value))
    }
}

impl<const N: usize> From<&[u8; N]> for NewValue {
    fn from(value: &[u8; N]) -> Self {
        Self::from(&value[..])
    }
}

impl From<&str> for NewValue {
    fn from(value: &str) -> Self {
        Self::from(value.as_bytes())
    }
}

/// Where a [`Fetched`] value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The store had it.
    Store,
    /// This call did the work.
    Work,
    /// Another call did the work meanwhile.
    Shared,
}

/// What [`Keyspace::try_get_with`] gives; derefs to the value's bytes.
#[derive(Debug, Clone)]
pub struct Fetched {
    value: Bytes,
    metadata: Bytes,
    origin: Origin,
    not_stored: Option<Arc<Error>>,
}

impl Fetched {
    fn found(value: Value) -> Self {
        let metadata = Bytes::copy_from_slice(value.metadata());
        Self { value: value.into_bytes(), metadata, origin: Origin::Store, not_stored: None }
    }

    /// The value's bytes, shared with this.
    pub fn bytes(&self) -> Bytes {
        self.value.clone()
    }

    /// The value's bytes.
    pub fn into_bytes(self) -> Bytes {
        self.value
    }

    /// The opaque metadata stored with it.
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Why the store did not take what the work gave, if it refused. Nothing if it took it, or if an
    /// invalidation or a newer insert came in between.
    pub fn not_stored(&self) -> Option<&Error> {
        self.not_stored.as_deref()
    }
}

impl Deref for Fetched {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.value
    }
}

impl AsRef<[u8]> for Fetched {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Why [`Keyspace::try_get_with`] has no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryGetError<E> {
    /// The store could not be read, or was closed.
    Store(Error),
    /// The work failed; all who waited for it share its error.
    Work(Arc<E>),
}

impl<E> From<Error> for TryGetError<E> {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl<E: fmt::Display> fmt::Display for TryGetError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Work(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for TryGetError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::Work(error) => error.source(),
        }
    }
}

/// What a flight has made.
#[derive(Debug)]
pub(super) struct Made {
    fetched: Fetched,
    hash: KeyedHash,
    tags: Vec<KeyedHash>,
    expires_at: Option<Timestamp>,
    /// Until all who waited have judged it, so that no tombstone it has to meet is forgotten.
    ticket: Ticket,
}

/// Gives the value of a key, or lets one caller make it.
pub(super) fn try_get_with<V, E>(
    keyspace: &Keyspace,
    key: &[u8],
    work: impl FnOnce() -> Result<V, E>,
) -> Result<Fetched, TryGetError<E>>
where
    V: Into<NewValue>,
    E: Send + Sync + 'static,
{
    let core = &keyspace.core;
    let mut looked_again = false;
    loop {
        if let Some(value) = core.get(key)? {
            return Ok(Fetched::found(value));
        }
        if core.owner.engine.is_read_only() {
            // What another process invalidates has no place among this one's numbers.
            return make(keyspace, key, None, work);
        }
        let flight = match core.flights.join(key) {
            // Another flight may have landed since the value was looked up.
            Role::Lead(_) if !looked_again && core.stat(key)?.is_some() => {
                looked_again = true;
                continue;
            }
            Role::Lead(lead) => return make(keyspace, key, Some(lead), work),
            Role::Wait(flight) => flight,
        };
        match flight.wait(|| core.owner.engine.is_closed()).ok_or(Error::Closed)? {
            Landing::Made(made) if core.may_share(key, &made)? => {
                return Ok(Fetched { origin: Origin::Shared, ..made.fetched.clone() });
            }
            Landing::Failed(error) => {
                // Another caller's work may fail with an error of another type.
                if let Ok(error) = error.downcast() {
                    return Err(TryGetError::Work(error));
                }
            }
            Landing::Made(_) | Landing::Nothing => {}
        }
    }
}

/// Does the work and stores what it gives, as a fill that begins before it.
fn make<V, E>(
    keyspace: &Keyspace,
    key: &[u8],
    lead: Option<Lead<'_>>,
    work: impl FnOnce() -> Result<V, E>,
) -> Result<Fetched, TryGetError<E>>
where
    V: Into<NewValue>,
    E: Send + Sync + 'static,
{
    let fill = keyspace.fill(key);
    let new = match work() {
        Ok(new) => new.into(),
        Err(error) => {
            let error = Arc::new(error);
            if let Some(lead) = lead {
                lead.land(Landing::Failed(Arc::clone(&error) as _));
            }
            return Err(TryGetError::Work(error));
        }
    };
    let fill = new.add_to(fill);
    let mut fetched = Fetched {
        value: new.value.clone(),
        metadata: new.metadata.clone(),
        origin: Origin::Work,
        not_stored: None,
    };
    // From here on nothing the value has to meet is forgotten, whatever becomes of it.
    let engine = &keyspace.core.owner.engine;
    let in_time = fill.ticket().claim(engine.clock.boot_ms()).is_ok();
    let landing = match fill.store(&new.value, crate::hash::value_hash(&new.value), None) {
        Ok(Outcome::Superseded) => Landing::Nothing,
        stored => {
            fetched.not_stored = stored.err().map(Arc::new);
            if in_time {
                Landing::Made(Arc::new(Made {
                    fetched: fetched.clone(),
                    hash: engine.hasher.key(key),
                    tags: fill.tag_hashes(),
                    expires_at: new.expires_at,
                    ticket: fill.into_ticket(),
                }))
            } else {
                Landing::Nothing
            }
        }
    };
    if let Some(lead) = lead {
        lead.land(landing);
    }
    Ok(fetched)
}

impl KeyspaceCore {
    /// True if a value that was made while the caller waited may be given to it, although the caller
    /// may have come after an invalidation or insert that the value had missed: it is what the store
    /// would give now, or would if it had been stored.
    fn may_share(&self, key: &[u8], made: &Made) -> Result<bool> {
        let seq = made.ticket.seq();
        if made.fetched.not_stored.is_none() {
            return Ok(self.stat(key)?.is_some_and(|stat| stat.sequence() == seq));
        }
        let now = self.owner.engine.hiding_now(seq);
        let expired = made.expires_at.is_some_and(|at| now >= at);
        Ok(!expired && self.would_win(made.hash, &made.tags, seq))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::disk::MemoryDisk;
    use crate::options::KeyspaceOptions;
    use crate::retention::Retention;
    use crate::store::Store;
    use crate::time::{Clock, ManualClock};

    const KEY: &[u8] = b"key";

    /// What a flight has made that was stored, or that the store refused; and what happens then,
    /// before those who waited look at it.
    fn is_shared(stored: bool, then: impl Fn(&Keyspace, &ManualClock)) -> bool {
        let clock = ManualClock::new(Timestamp::from_millis(1_795_267_800_000));
        let builder = Store::builder("/data").disk(MemoryDisk::new(1)).clock(clock.clone());
        let store = builder.background(false).open().unwrap();
        let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
        let expires_at = Some(clock.wall() + Duration::from_secs(60));
        let fill = images.fill(KEY).tag("tag").expires_at(clock.wall() + Duration::from_secs(60));
        fill.ticket().claim(clock.boot_ms()).unwrap();
        if stored {
            let _ = fill.store(b"value", crate::hash::value_hash(b"value"), None).unwrap();
        }
        let fetched = Fetched {
            value: Bytes::from_static(b"value"),
            metadata: Bytes::new(),
            origin: Origin::Work,
            not_stored: (!stored).then(|| Arc::new(Error::ReadOnly)),
        };
        let hash = images.core.owner.engine.hasher.key(KEY);
        let tags = fill.tag_hashes();
        let made = Made { fetched, hash, tags, expires_at, ticket: fill.into_ticket() };
        then(&images, &clock);
        store.maintain().unwrap();
        images.core.may_share(KEY, &made).unwrap()
    }

    #[test]
    fn what_was_made_is_shared_until_something_newer_is_known() {
        for stored in [true, false] {
            assert!(is_shared(stored, |_, _| {}));
            assert!(is_shared(stored, |images, _| images.insert("other", b"value").unwrap()));
            assert!(is_shared(stored, |images, _| assert!(images.invalidate("other").is_ok())));
            assert!(!is_shared(stored, |images, _| assert!(images.invalidate(KEY).is_ok())));
            assert!(!is_shared(stored, |images, _| assert!(images.invalidate_tag("tag").is_ok())));
            assert!(!is_shared(stored, |images, _| assert!(images.invalidate_all().is_ok())));
            assert!(!is_shared(stored, |images, _| images.insert(KEY, b"newer").unwrap()));
            assert!(!is_shared(stored, |_, clock| clock.advance(Duration::from_secs(60))));
            let expired = |images: &Keyspace, clock: &ManualClock| {
                let fill = images.fill(KEY).expires_at(clock.wall());
                let _ = fill.commit(b"newer").unwrap();
            };
            assert!(!is_shared(stored, expired));
            let evicted = |images: &Keyspace, _: &ManualClock| {
                images.insert(KEY, b"newer").unwrap();
                while images.core.evict_for_space().unwrap() {}
            };
            assert!(!is_shared(stored, evicted));
        }
    }
}

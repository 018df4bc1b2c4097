//! Erasing: hiding for good, and refusing what is erased for some time.

use std::fmt;
use std::sync::Arc;

use super::KeyspaceCore;
use crate::error::Result;
use crate::invalidation::Invalidation;
use crate::receipt::Receipt;
use crate::time::Timestamp;

/// An erasure to be done: made by [`Keyspace::erase`](super::Keyspace::erase),
/// [`Keyspace::erase_tag`](super::Keyspace::erase_tag) or
/// [`Store::erase_tag`](crate::Store::erase_tag), done by [`Erase::commit`].
#[must_use = "nothing is erased before `commit`"]
pub struct Erase {
    deny_until: Option<Timestamp>,
    run: Box<dyn FnOnce(Option<Timestamp>) -> Result<Receipt> + Send>,
}

impl Erase {
    pub(crate) fn new(
        run: impl FnOnce(Option<Timestamp>) -> Result<Receipt> + Send + 'static,
    ) -> Self {
        Self { deny_until: None, run: Box::new(run) }
    }

    /// Denies the key or tag up to this time, by the engine's time, which no suspect step of the
    /// clock moves: inserts and fills of it are refused with [`Denied`](crate::Error::Denied), those
    /// begun before too. Only a keyed hash is kept for that. A denial survives crashes and power
    /// cuts, is never shortened by a later one, and cannot be taken back. A time that has passed
    /// denies nothing.
    pub fn deny_until(mut self, until: Timestamp) -> Self {
        self.deny_until = Some(until);
        self
    }

    /// Erases, durably, together with the denial: a crash or power cut leaves both or neither.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`](super::Keyspace::invalidate). After an error nothing is denied.
    /// Where a full disk takes no denial it is an error, and what was to be erased is hidden.
    pub fn commit(self) -> Result<Receipt> {
        (self.run)(self.deny_until)
    }
}

impl fmt::Debug for Erase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Erase").field("deny_until", &self.deny_until).finish_non_exhaustive()
    }
}

impl KeyspaceCore {
    /// Hides, and denies up to a time if there is one.
    pub(super) fn erase(
        self: &Arc<Self>,
        invalidation: Invalidation,
        deny_until: Option<Timestamp>,
    ) -> Result<Receipt> {
        let now = self.owner.engine.trusted_now();
        let receipt = self.invalidate(&invalidation.deny_until(deny_until, now))?;
        receipt.hurry();
        Ok(receipt)
    }
}

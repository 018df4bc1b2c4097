//! Invalidating in all keyspaces, and in all logs, with one durable note.

use std::sync::Arc;

use super::{Store, StoreCore};
use crate::error::Result;
use crate::format::tombstone::Reach;
use crate::invalidation::{Covered, Invalidation};
use crate::keyspace::Erase;
use crate::receipt::Receipt;

/// Where an invalidation of the whole store applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In all keyspaces.
    Keyspaces,
    /// In all keyspaces, and to the rows of all logs.
    Everything,
}

impl Store {
    /// Hides all records that carry a tag, in all keyspaces, and rows too if asked to: durably, and
    /// with one write, so that a crash or power cut leaves it done everywhere or nowhere.
    ///
    /// On a disk so full that not even this note fits, keyspaces give up what they must, as with
    /// [`Keyspace::invalidate`](crate::Keyspace::invalidate).
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`](crate::Keyspace::invalidate); on a full disk also
    /// [`NoSpace`](crate::Error::NoSpace) if rows of a log are to be hidden, since a log gives up no rows.
    /// They are then hidden in this process, but may be back after a restart.
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>, scope: Scope) -> Result<Receipt> {
        self.invalidate_tags([tag], scope)
    }

    /// Hides all records that carry one of these tags, as [`Store::invalidate_tag`] does for one.
    /// Takes as many tags as [`Keyspace::invalidate_tags`](crate::Keyspace::invalidate_tags).
    ///
    /// # Errors
    ///
    /// As [`Store::invalidate_tag`]; [`Limit`](crate::Error::Limit) is checked for all tags before anything
    /// is hidden.
    pub fn invalidate_tags<T: AsRef<[u8]>>(
        &self,
        tags: impl IntoIterator<Item = T>,
        scope: Scope,
    ) -> Result<Receipt> {
        let core = &self.shared.core;
        let tags: Vec<T> = tags.into_iter().collect();
        core.invalidate(&Invalidation::of_tags(&core.engine, &tags)?, scope)
    }

    /// Erases all records that carry a tag, as [`Store::invalidate_tag`] hides them, and denies the
    /// tag in all keyspaces if asked to, those made later too; logs deny nothing. Nothing happens
    /// before [`Erase::commit`].
    pub fn erase_tag(&self, tag: impl AsRef<[u8]>, scope: Scope) -> Erase {
        let (core, tag) = (Arc::clone(&self.shared.core), tag.as_ref().to_vec());
        Erase::new(move |until| {
            let invalidation = Invalidation::of_tags(&core.engine, &[tag])?;
            let now = core.engine.trusted_now();
            let receipt = core.invalidate(&invalidation.deny_until(until, now), scope)?;
            receipt.hurry();
            Ok(receipt)
        })
    }
}

impl StoreCore {
    fn invalidate(&self, invalidation: &Invalidation, scope: Scope) -> Result<Receipt> {
        let begun = invalidation.begin(&self.engine, Some(&self.engine.denials))?;
        let hidden = {
            // No keyspace or log is born meanwhile: what it held could have a number below the floor.
            let (keyspaces, logs) = (self.keyspaces.read(), self.logs.read());
            let mut covered: Vec<Arc<dyn Covered>> =
                keyspaces.values().map(|core| Arc::clone(core) as _).collect();
            let reach = match scope {
                Scope::Keyspaces => Reach::Keyspaces,
                Scope::Everything => {
                    covered.extend(logs.values().map(|core| Arc::clone(core) as Arc<dyn Covered>));
                    Reach::Everything
                }
            };
            begun.hide(reach, covered)
        };
        hidden.commit()
    }
}

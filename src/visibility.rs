//! Whether a winning record may be seen, and if not, why: the one rule that everything asks.

use crate::floors::Floors;
use crate::hash::KeyedHash;
use crate::time::Timestamp;

/// Why a record is not visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Its key was invalidated.
    Key,
    /// One of its tags was invalidated.
    Tag,
    /// Everything was invalidated.
    All,
    /// Its bucket's deadline has passed.
    Deadline,
    /// Its own, earlier expiry has passed.
    Expiry,
}

/// What the rule looks at. The caller has found it to be the winner of its key.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) seq: u64,
    pub(crate) hash: Option<KeyedHash>,
    pub(crate) tags: &'a [KeyedHash],
    pub(crate) deadline: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

impl Candidate<'_> {
    /// Visible is what lies above every floor that applies, before its deadline. `now` is the
    /// time by which a record of this sequence number is judged.
    pub(crate) fn check(&self, floors: &Floors, now: Timestamp) -> Result<(), Hidden> {
        if now >= self.deadline {
            return Err(Hidden::Deadline);
        }
        if self.expires_at.is_some_and(|at| now >= at) {
            return Err(Hidden::Expiry);
        }
        if floors.of_all(self.seq).is_some() {
            return Err(Hidden::All);
        }
        if self.hash.is_some_and(|hash| floors.of_key(hash, self.seq).is_some()) {
            return Err(Hidden::Key);
        }
        if floors.of_tags(self.tags, self.seq).is_some() {
            return Err(Hidden::Tag);
        }
        Ok(())
    }
}

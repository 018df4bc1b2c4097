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
    /// Its key or one of its tags was softly invalidated, and nothing else hides it.
    Stale,
    /// Its segment has left since it was found: what hid it may be forgotten.
    Left,
}

/// What the rule looks at. The caller has found it to be the winner of its key.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) seq: u64,
    /// None for a row.
    pub(crate) hash: Option<KeyedHash>,
    /// True if the record would not have been found if a hard floor of its key covered it.
    pub(crate) key_floor_is_known: bool,
    pub(crate) tags: &'a [KeyedHash],
    pub(crate) deadline: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

impl Candidate<'_> {
    /// Visible is what lies above every floor that applies, before its deadline. `now` is the
    /// time by which a record of this sequence number is judged. `has_left` says whether its segment
    /// has left: asked last, since floors are forgotten after that.
    pub(crate) fn check(
        &self,
        floors: &Floors,
        now: Timestamp,
        has_left: impl FnOnce() -> bool,
    ) -> Result<(), Hidden> {
        let judged = self.judge(floors, now);
        let may_be_read = matches!(judged, Ok(()) | Err(Hidden::Stale));
        if may_be_read && has_left() { Err(Hidden::Left) } else { judged }
    }

    fn judge(&self, floors: &Floors, now: Timestamp) -> Result<(), Hidden> {
        if now >= self.deadline {
            return Err(Hidden::Deadline);
        }
        if self.expires_at.is_some_and(|at| now >= at) {
            return Err(Hidden::Expiry);
        }
        if floors.of_all(self.seq).is_some() {
            return Err(Hidden::All);
        }
        let asked = self.hash.filter(|_| !self.key_floor_is_known);
        if asked.is_some_and(|hash| floors.of_key(hash, self.seq).is_some()) {
            return Err(Hidden::Key);
        }
        if floors.of_tags(self.tags, self.seq).is_some() {
            return Err(Hidden::Tag);
        }
        if floors.of_soft(self.hash, self.tags, self.seq).is_some() {
            return Err(Hidden::Stale);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floors::Floor;
    use crate::format::tombstone::TombstoneScope;

    #[test]
    fn stale_is_only_what_nothing_else_hides() {
        let (key, tag) = (KeyedHash(1), KeyedHash(2));
        let now = Timestamp::from_millis(10);
        let candidate = |expires_at| Candidate {
            seq: 5,
            hash: Some(key),
            key_floor_is_known: false,
            tags: &[KeyedHash(2)],
            deadline: Timestamp::from_millis(20),
            expires_at,
        };
        let floors = Floors::default();
        let stays = || false;
        assert_eq!(candidate(None).check(&floors, now, stays), Ok(()));
        assert_eq!(candidate(None).check(&floors, now, || true), Err(Hidden::Left));
        floors.raise_soft(TombstoneScope::Tags, &[tag], Floor { seq: 5, at_ms: 0 });
        assert_eq!(candidate(None).check(&floors, now, stays), Err(Hidden::Stale));
        assert_eq!(candidate(None).check(&floors, now, || true), Err(Hidden::Left));
        assert_eq!(candidate(Some(now)).check(&floors, now, stays), Err(Hidden::Expiry));
        let deadline = Timestamp::from_millis(20);
        assert_eq!(candidate(None).check(&floors, deadline, stays), Err(Hidden::Deadline));
        floors.raise(TombstoneScope::Tags, &[tag], Floor { seq: 6, at_ms: 0 });
        assert_eq!(candidate(None).check(&floors, now, stays), Err(Hidden::Tag));
        floors.raise(TombstoneScope::Keys, &[key], Floor { seq: 7, at_ms: 0 });
        assert_eq!(candidate(None).check(&floors, now, stays), Err(Hidden::Key));
        let found = Candidate { key_floor_is_known: true, ..candidate(None) };
        assert_eq!(found.check(&floors, now, stays), Err(Hidden::Tag));
    }
}

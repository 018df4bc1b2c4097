//! The model of what is denied.

use super::keys::Is;
use super::ops::{Key, bits};

/// What is denied: a key of a keyspace, or a tag in one or in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Key(Key),
    Tag(Option<u8>, u8),
}

#[derive(Debug, Clone)]
struct Denial {
    what: Denied,
    until: u64,
    certain: bool,
}

/// All denials of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct DenialsModel {
    denials: Vec<Denial>,
    /// A denial that was over once may have been forgotten, whatever the time is after a power cut.
    latest: u64,
}

impl DenialsModel {
    /// Notes that something is denied, or may be.
    pub(crate) fn deny(&mut self, what: Denied, until: u64, certain: bool) {
        self.denials.push(Denial { what, until, certain });
    }

    /// Notes the time.
    pub(crate) fn pass(&mut self, now: u64) {
        self.latest = self.latest.max(now);
    }

    /// Whether a key with these tags is denied now.
    pub(crate) fn check(&self, key: Key, tags: u8, now: u64) -> Is {
        let concerns = |denial: &&Denial| match denial.what {
            Denied::Key(denied) => denied == key,
            Denied::Tag(space, denied) => {
                space.is_none_or(|space| space == key.space) && bits(tags).any(|tag| tag == denied)
            }
        };
        let concerned = self.denials.iter().filter(concerns).filter(|denial| denial.until > now);
        let certain = |denial: &Denial| denial.certain && denial.until > self.latest;
        concerned.map(|d| if certain(d) { Is::Yes } else { Is::Maybe }).max().unwrap_or(Is::No)
    }
}

//! Finding the visible records that carry a tag, by what the sidecars list.

use std::sync::Arc;

use super::KeyspaceCore;
use crate::error::Result;
use crate::format::sidecar::{Body, SidecarEntry, tag_fingerprint};
use crate::hash::KeyedHash;
use crate::index::Location;
use crate::options;
use crate::segment::Segment;
use crate::value::{Entry, Stat};

impl KeyspaceCore {
    /// The visible records that carry a tag, the oldest first.
    pub(super) fn list_tag(&self, tag: &[u8]) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        self.each_tagged(tag, |entry| found.push(entry))?;
        found.sort_by_key(|entry| entry.stat().sequence());
        Ok(found)
    }

    /// How many visible records carry a tag.
    pub(super) fn count_tag(&self, tag: &[u8]) -> Result<u64> {
        let mut count = 0;
        self.each_tagged(tag, |_| count += 1)?;
        Ok(count)
    }

    fn each_tagged(&self, tag: &[u8], mut take: impl FnMut(Entry)) -> Result<()> {
        options::check_tag(tag)?;
        self.owner.engine.check_open()?;
        let tag = self.owner.engine.hasher.tag(tag);
        let segments = self.owner.segments_by_ordinal();
        for (ordinal, segment) in segments.filter(|(_, segment)| segment.tags() > 0) {
            let listing = self.listing(&segment)?;
            let wanted = tag_fingerprint(tag);
            for listed in listing.tags.iter().filter(|listed| listed.fingerprint == wanted) {
                let Some(entry) = listing.entries.get(listed.entry as usize) else { continue };
                if entry.body() == Body::Whole
                    && let Some(found) = self.tagged(ordinal, &segment, entry, tag)?
                {
                    take(found);
                }
            }
        }
        Ok(())
    }

    fn tagged(
        &self,
        ordinal: u32,
        segment: &Arc<Segment>,
        entry: &SidecarEntry,
        tag: KeyedHash,
    ) -> Result<Option<Entry>> {
        let location = Location { ordinal, position: entry.position };
        let fingerprint = entry.hash.fingerprint();
        if !self.still_named(fingerprint, location) {
            return Ok(None);
        }
        match segment.read_prefix(entry.offset()) {
            Ok(view) => {
                let found = view.tags().contains(&tag)
                    && self.judge(&view, segment)?.is_ok()
                    && self.still_named(fingerprint, location);
                Ok(found.then(|| Entry::new(Stat::new(view, segment.deadline()))))
            }
            Err(damage) if self.still_named(fingerprint, location) => {
                self.miss(damage, segment, entry.offset())
            }
            Err(_) => Ok(None),
        }
    }
}

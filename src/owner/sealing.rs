//! The sealing of segments that take no more.

use super::Owner;
use crate::error::Result;
use crate::format::sidecar::Listing;
use crate::segment::Segment;
use crate::segment::load::{self, LoadError, Purpose};
use crate::segment::writer::SegmentWriter;

impl Owner {
    /// Takes over a full segment until it is sealed.
    pub(crate) fn seal_later(&self, writer: SegmentWriter) {
        self.sealing.lock().push(writer);
    }

    /// True if a segment waits to be sealed.
    pub(crate) fn has_unsealed(&self) -> bool {
        !self.sealing.lock().is_empty()
    }

    /// Seals what waits for it, also what another thread has begun to seal. After a failure writing
    /// is poisoned.
    pub(crate) fn seal_waiting(&self) -> Result<()> {
        let _turn = self.sealing_turn.lock();
        loop {
            // The list is free while a file is synced, so that appending is not held up.
            let Some(writer) = self.sealing.lock().pop() else { break };
            if self.table.read().by_number(writer.segment().number()).is_none() {
                continue;
            }
            writer.seal(&*self.engine.disk).map_err(|e| self.engine.poison(e))?;
        }
        // Another thread may have taken one out that it could not seal.
        self.engine.check_writable().map(|_| ())
    }

    /// Waits for whoever seals, and gives up what is not sealed: the store has been closed.
    pub(crate) fn abandon_sealing(&self) {
        let _turn = self.sealing_turn.lock();
        self.sealing.lock().clear();
    }

    /// The records of a segment that is not being appended to.
    pub(crate) fn listing(&self, segment: &Segment) -> Result<Listing> {
        let sealing = self.sealing.lock();
        let waiting = sealing.iter().find(|writer| writer.segment().number() == segment.number());
        if let Some(writer) = waiting {
            return Ok(writer.listing().clone());
        }
        drop(sealing);
        match load::load(&*self.engine.disk, segment.path(), Purpose::Listing) {
            Ok(loaded) => Ok(loaded.listing),
            Err(LoadError::Failed(e)) if !e.is_not_found() => Err(e),
            Err(_) => Ok(Listing::default()),
        }
    }

    /// Looks while no sidecar is written.
    pub(crate) fn between_sealings<T>(&self, look: impl FnOnce() -> T) -> T {
        let _turn = self.sealing_turn.lock();
        look()
    }
}

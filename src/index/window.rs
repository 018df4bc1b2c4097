//! Which segments are live, as far as slots can tell.

use super::{Location, MAX_ORDINALS};

/// Which ordinals the lowest bits in a slot stand for, and which of them are live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// No slot names a lower one.
    pub(super) lowest: u32,
    pub(super) first_live: u32,
}

impl Window {
    /// The whole of a location of a slot, unless its segment is gone.
    pub(super) fn live(self, location: Location) -> Option<Location> {
        let ordinal = self.lowest + self.above_lowest(location.ordinal);
        self.is_live(location.ordinal).then_some(Location { ordinal, ..location })
    }

    /// True if the segment that these lowest bits of an ordinal stand for is there.
    pub(super) fn is_live(self, ordinal: u32) -> bool {
        self.above_lowest(ordinal) >= self.first_live.saturating_sub(self.lowest)
    }

    fn above_lowest(self, ordinal: u32) -> u32 {
        ordinal.wrapping_sub(self.lowest) & (MAX_ORDINALS - 1)
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.lowest) << 32 | u64::from(self.first_live)
    }

    pub(super) fn unpack(packed: u64) -> Self {
        Self { lowest: (packed >> 32) as u32, first_live: packed as u32 }
    }
}

//! Mistakes that a test plants, to see whether the simulator would notice them.
//!
//! Each stands at the one place where a programmer could have made it. Without `--cfg planted` there
//! are none, and the compiler removes the question.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(planted), allow(unreachable_pub))]
pub enum Bug {
    /// A sync is acknowledged that did not take place.
    AcknowledgedUnsynced,
    /// The directory of a new segment is not synced.
    BirthNotSynced,
    /// The directories of a dropped bucket are not synced.
    DropNotSynced,
    /// Of two invalidations the one with the later time wins, and not the one with the higher number.
    TombstonesByTime,
    /// Tombstones are forgotten while a segment that they cover can still be there.
    TombstoneForgottenEarly,
    /// A tombstone that cannot be read is taken for one that was never written.
    TombstoneTakenAsEmpty,
    /// Numbers begin where those of the process before began.
    SequenceReused,
    /// A record counts as there before it is written.
    PublishedBeforeWritten,
    /// A slice reaches beyond what is durable.
    SliceBeyondDurable,
    /// A sync that failed is tried again, and believed.
    SyncRetried,
    /// Behind damage, the next thing that looks like a record is taken for one.
    ResyncedByMagic,
    /// Checksums are not bound to the file.
    ChecksumUnsalted,
    /// A log is continued behind a torn end that nobody repaired.
    AppendedAfterTornTail,
    /// The lengths in a header are believed before its checksum has been compared.
    LengthBeforeChecksum,
    /// A range of pages ends one page too late.
    PageEndOffByOne,
    /// A step of the wall clock is believed, however large.
    ForwardStepBelieved,
    /// A short write is taken for a whole one.
    ShortWriteIgnored,
    /// A full disk ends all writing when something is to be invalidated.
    FullDiskPoisons,
    /// What one recovery honours, the next one does not.
    RecoveryNotIdempotent,
    /// Bytes are erased while somebody holds them.
    ScrubbedWhileHeld,
    /// A record is erased since its key had been invalidated before it was inserted again.
    ReinsertedScrubbed,
    /// A file that is kept twice is always overwritten in the same place.
    SingleSlotState,
    /// The ledger says that a bucket has left before it has.
    LedgerBeforeDrop,
    /// A key is unlinked, but not overwritten.
    KeyOutlivesBucket,
    /// An index made anew names the newest record that can be seen, and not the newest.
    InvisibleSkipped,
}

/// True if this mistake is to be made.
#[cfg(not(planted))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(planted)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// True if this thread is to make this mistake.
#[cfg(planted)]
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Lets this thread make a mistake from now on, or none.
#[cfg(planted)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

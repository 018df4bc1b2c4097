//! An embedded storage engine with built-in retention: cached image blobs and pseudonymised log rows
//! that are gone on time.
//!
//! A [`Store`] is a directory. In it, a [`Keyspace`] holds keyed values and a [`Log`] holds rows in
//! time order, each with a [`Retention`] window. Time is cut into buckets; a whole bucket is dropped
//! at its deadline in constant time, and nothing in it is visible from that moment on, whether or not
//! any upkeep has run. [`Keyspace::invalidate`], [`Keyspace::invalidate_tag`] and
//! [`Keyspace::invalidate_all`] hide sooner, durably, with one small write each.
//!
//! ```
//! use ebbtide::{KeyspaceOptions, LogOptions, Outcome, Retention, Row, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("data");
//! let store = Store::open(&path)?;
//! let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30)))?;
//!
//! let fill = images.fill("cat.jpg?w=64");
//! let outcome = fill.tag("cat.jpg").metadata("image/jpeg").commit(b"rendered bytes")?;
//! assert_eq!(outcome, Outcome::Stored);
//! images.invalidate_tag("cat.jpg")?;
//! assert!(images.get("cat.jpg?w=64")?.is_none());
//!
//! let access = store.log("access", LogOptions::new(Retention::days(30)))?;
//! let visitor = access.pseudonym("198.18.0.7".parse()?, store.now())?;
//! let id = access.append(Row::new(visitor).tag("cat.jpg").payload("GET /img/cat.jpg"))?;
//! assert_eq!(access.get(id)?.map(|row| row.payload().len()), Some(16));
//! store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!(
    "ebbtide runs on Linux and macOS only: it needs positioned vectored writes, file locks and durable directory entries"
);

#[cfg(not(target_pointer_width = "64"))]
compile_error!("ebbtide maps whole segments and needs a 64-bit address space");

mod bucket;
mod denials;
pub mod disk;
mod dump;
mod engine;
mod error;
mod floors;
mod format;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod index;
mod invalidation;
mod janitor;
mod keyed_map;
mod keyspace;
mod ledger;
mod log;
mod map;
mod options;
mod owner;
mod parallel;
mod planted;
mod process;
mod pseudonym;
mod receipt;
mod recovery;
mod report;
mod retention;
mod scrub;
mod segment;
mod sequence;
mod spare;
mod state;
mod store;
mod sync;
mod table;
mod time;
mod tombstone;
mod trash;
mod twin_file;
mod value;
mod visibility;

/// The examples of the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use bytes::Bytes;
pub use dump::{RecordInfo, SegmentDump, SegmentInfo};
pub use error::{Error, Result};
pub use hash::value_hash;
pub use keyspace::{Durability, Erase, Explanation, Fill, FillWriter, Iter, Keyspace, Outcome};
pub use keyspace::{Fetched, Lookup, NewValue, Origin, Reason, TryGetError};
pub use ledger::{
    CheckpointCause, DropCause, InvalidatedScope, LATENESS_KEPT, LedgerEntry, LedgerHead,
    LedgerKind, OwnerProof, RetentionProof, RetentionVerdict,
};
pub use log::{Appender, Log, LogRow, Row, RowId, Scan};
pub use options::{KeyspaceOptions, LogOptions};
#[cfg(planted)]
#[doc(hidden)]
pub use planted::{Bug, plant};
pub use pseudonym::Pseudonym;
pub use receipt::{Level, Receipt, Target};
pub use report::{Problem, RecoveryReport, VerifyReport};
pub use retention::Retention;
pub use store::{
    BucketStats, KeyspaceStats, LedgerReport, LogStats, Residue, ResidueKind, ResidueOwner, Scope,
    Store, StoreBuilder, StoreStats,
};
pub use time::{BootId, Clock, ManualClock, SystemClock, Timestamp};
pub use value::{Entry, Stat, Value};

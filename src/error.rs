//! What can go wrong, typed, each with what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::time::Timestamp;

/// What [`Result`] carries when a call did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a call.
    Io {
        /// What was being done, e.g. `"open"`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The disk, a quota or the file size limit is exhausted. Nothing was stored; reads,
    /// invalidations and drops go on, and inserts too once there is room.
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Another opener holds the store, or somebody a value that was read from it while it was mapped.
    /// Close it there and let go of such values, or open read-only.
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// The holder's process id, if its lock file told us.
        pid: Option<u32>,
    },
    /// There is no store, keyspace or log of this name.
    NotFound {
        /// What was looked for, e.g. `"keyspace"`.
        what: &'static str,
        /// Its name or path.
        name: String,
    },
    /// A file that the store cannot do without is damaged in all its copies.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A file was written by another version of this crate, later or earlier, that used a format
    /// which this one does not read. A store made by another version is not changed.
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version it states.
        found: u32,
        /// The version written and read here.
        known: u32,
    },
    /// A value given by the caller is beyond a limit.
    Limit {
        /// What is limited, with its unit, e.g. `"key length in bytes"`.
        what: &'static str,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
        /// The value given.
        given: u64,
    },
    /// A keyspace or log name is not of the form `[a-z0-9][a-z0-9_-]{0,63}`.
    InvalidName {
        /// The name given.
        name: String,
    },
    /// A text is not what it should be.
    InvalidText {
        /// What it should be, e.g. `"row id"`.
        what: &'static str,
        /// The text given.
        text: String,
    },
    /// The keyspace or log exists with another window or bucket width. Open it with the ones it
    /// has: a deadline once promised is never changed.
    OptionsConflict {
        /// The keyspace or log.
        name: String,
        /// Which option, with its unit.
        option: &'static str,
        /// The value on disk.
        stored: u64,
        /// The value given.
        given: u64,
    },
    /// The record does not fit into the keyspace's `capacity_bytes`, also with everything else
    /// evicted that can be: it is too large, or values still held by the application pin the rest.
    CapacityExceeded {
        /// The capacity.
        capacity_bytes: u64,
        /// What would have been needed.
        needed_bytes: u64,
    },
    /// The pseudonym was made by another log; make one with this log.
    ForeignPseudonym {
        /// The log that refused it.
        log: String,
    },
    /// The time lies in a bucket whose deadline has passed.
    Expired {
        /// The time asked for.
        at: Timestamp,
        /// The oldest time still kept.
        oldest: Timestamp,
    },
    /// The key, or one of the tags, was erased and is denied; nothing was stored.
    Denied {
        /// From this moment of the engine's time on, it can be stored again.
        until: Timestamp,
    },
    /// The fill was committed after its time limit. Nothing was stored: what was invalidated since
    /// it began may have been forgotten by now. Begin another one, or allow more time.
    FillTimedOut {
        /// The limit, from the beginning of the fill, in milliseconds.
        limit_ms: u64,
    },
    /// An earlier write to the fill's value failed, so it is not whole and nothing was stored.
    FillFailed {
        /// What failed.
        reason: String,
    },
    /// The store was opened read-only.
    ReadOnly,
    /// An earlier write or sync failed, so nothing more is written: what is durable can be read,
    /// invalidations and drops go on. Close the store and open it again to recover.
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The store has been closed.
    Closed,
    /// The store was opened by the parent of this process, before a `fork`. A child can neither read nor
    /// write it, and drops it without effect. Open stores after forking.
    Forked,
    /// The directory is on a file system that other machines may change, or of which nobody can tell.
    /// Keep the store on a local one, or say with
    /// [`allow_network_file_system`](crate::StoreBuilder::allow_network_file_system) that you know
    /// better.
    NetworkFileSystem {
        /// The directory.
        path: PathBuf,
        /// What the system calls the file system, e.g. `"nfs"`.
        file_system: String,
    },
    /// The platform or file system does not do what the store needs.
    Unsupported {
        /// What is missing.
        what: &'static str,
    },
}

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an answer of the operating system.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            Self::NoSpace { path: path.to_owned() }
        } else {
            Self::Io { operation, path: path.to_owned(), source }
        }
    }

    /// A [`Error::Limit`] unless `given` lies within `min..=max`.
    pub(crate) fn check_limit(what: &'static str, min: u64, max: u64, given: u64) -> Result<()> {
        if (min..=max).contains(&given) {
            Ok(())
        } else {
            Err(Self::Limit { what, min, max, given })
        }
    }

    /// True if this is the system's "no such file or directory".
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// True if the error says that the disk, the quota or the file size limit is exhausted.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { operation, path, source } => {
                write!(f, "{operation} {}: {source}", path.display())
            }
            Self::NoSpace { path } => {
                write!(f, "no space left to write {}; free some and try again", path.display())
            }
            Self::Locked { path, pid } => {
                let holder =
                    pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                let path = path.display();
                write!(
                    f,
                    "{path} is open in {holder}; close it there and let go of its values, or open it read-only"
                )
            }
            Self::NotFound { what, name } => write!(f, "there is no {what} {name:?}"),
            Self::Corrupt { path, offset, what } => {
                write!(f, "{} is damaged at offset {offset}: {what}", path.display())
            }
            Self::UnknownVersion { path, found, known } if found < known => write!(
                f,
                "{} has format version {found}, written by an earlier version of this crate before 1.0; \
                 this build reads version {known} only: open it with that version, or remove the store \
                 if what is in it can be made again",
                path.display()
            ),
            Self::UnknownVersion { path, found, known } => write!(
                f,
                "{} has format version {found}, written by a later version of this crate; this build \
                 reads version {known} only, use a newer one",
                path.display()
            ),
            Self::NetworkFileSystem { path, file_system } => write!(
                f,
                "{} is on {file_system}, which may be shared with other machines; keep the store on a \
                 local file system, or say that this one is to be allowed",
                path.display()
            ),
            Self::ReadOnly => f.write_str("the store was opened read-only; open it for writing"),
            Self::Poisoned { reason } => write!(
                f,
                "writing stopped after a failure ({reason}); close the store and open it again"
            ),
            Self::Closed => f.write_str("the store has been closed; open it again"),
            Self::Forked => f.write_str(
                "the store was opened before this process was forked; it stays its parent's, open stores after forking",
            ),
            Self::Unsupported { what } => write!(f, "not supported here: {what}"),
            refused => refused.fmt_refusal(f),
        }
    }
}

impl Error {
    /// What was refused for what the caller gave, or for when it came.
    fn fmt_refusal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { what, min, max, given } => {
                write!(f, "{what} must be between {min} and {max}, not {given}")
            }
            Self::InvalidName { name } => write!(
                f,
                "{name:?} is no name: use 1 to 64 of a-z, 0-9, '_' and '-', the first a letter or digit"
            ),
            Self::InvalidText { what, text } => write!(f, "{text:?} is no {what}"),
            Self::OptionsConflict { name, option, stored, given } => write!(
                f,
                "{name:?} exists with {option} {stored}, not {given}; open it with {stored}, or use another name"
            ),
            Self::CapacityExceeded { capacity_bytes, needed_bytes } => write!(
                f,
                "{needed_bytes} bytes do not fit into capacity_bytes {capacity_bytes}; raise it, or release values still held"
            ),
            Self::ForeignPseudonym { log } => {
                write!(f, "the pseudonym was made by another log than {log:?}; make one with it")
            }
            Self::Expired { at, oldest } => {
                write!(f, "{at} is no longer kept; the oldest time kept is {oldest}")
            }
            Self::Denied { until } => {
                write!(f, "the key or one of its tags was erased, and is denied until {until}")
            }
            Self::FillTimedOut { limit_ms } => write!(
                f,
                "the fill took longer than its limit of {limit_ms} ms; begin another one, or allow more time"
            ),
            Self::FillFailed { reason } => {
                write!(f, "the fill's value is not whole ({reason}); begin another one")
            }
            // Everything else has been told by the caller of this.
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_is_wrong_or_what_to_do() {
        let path = || PathBuf::from("/data");
        let version = |found| Error::UnknownVersion { path: path(), found, known: 2 };
        let (time, name, reason) =
            (Timestamp::default(), "images".to_owned(), "a cause".to_owned());
        let errors = [
            (Error::io("open", &path(), io::ErrorKind::Other.into()), "open /data: "),
            (Error::NoSpace { path: path() }, "free some"),
            (Error::Locked { path: path(), pid: Some(7) }, "process 7"),
            (Error::Locked { path: path(), pid: None }, "another process"),
            (Error::NotFound { what: "log", name: name.clone() }, "no log \"images\""),
            (Error::Corrupt { path: path(), offset: 5, what: "magic" }, "offset 5: magic"),
            (version(1), "earlier version"),
            (version(3), "later version"),
            (Error::Limit { what: "tags", min: 0, max: 9, given: 10 }, "between 0 and 9, not 10"),
            (Error::InvalidName { name: name.clone() }, "is no name"),
            (Error::InvalidText { what: "row id", text: name.clone() }, "is no row id"),
            (
                Error::OptionsConflict {
                    name: name.clone(),
                    option: "window_ms",
                    stored: 1,
                    given: 2,
                },
                "open it with 1",
            ),
            (Error::CapacityExceeded { capacity_bytes: 1, needed_bytes: 2 }, "raise it"),
            (Error::ForeignPseudonym { log: name }, "make one with it"),
            (Error::Expired { at: time, oldest: time }, "no longer kept"),
            (Error::Denied { until: time }, "denied until"),
            (Error::FillTimedOut { limit_ms: 5 }, "limit of 5 ms"),
            (Error::FillFailed { reason: reason.clone() }, "(a cause); begin another"),
            (Error::ReadOnly, "open it for writing"),
            (Error::Poisoned { reason }, "(a cause); close the store"),
            (Error::Closed, "open it again"),
            (Error::Forked, "after forking"),
            (Error::NetworkFileSystem { path: path(), file_system: "nfs".to_owned() }, "is on nfs"),
            (Error::Unsupported { what: "mapping" }, "not supported here: mapping"),
        ];
        for (error, part) in errors {
            assert!(error.to_string().contains(part), "{error:?}: {error}");
        }
    }
}

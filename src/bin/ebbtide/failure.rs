//! [`Failure`]: why a command did not do what it was asked, and the exit code that says so.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use ebbtide::Error;
use serde_json::json;

/// What was named is not there, or problems were found.
pub(crate) const NOTHING: u8 = 1;
/// The arguments make no sense.
pub(crate) const USAGE: u8 = 2;
/// The store is missing or cannot be opened.
pub(crate) const UNOPENED: u8 = 3;
/// Another process holds the store.
pub(crate) const LOCKED: u8 = 4;
/// The operation failed.
pub(crate) const FAILED: u8 = 5;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    kind: &'static str,
    message: String,
    pid: Option<u32>,
}

impl Failure {
    fn new(code: u8, kind: &'static str, message: impl Display) -> Self {
        Self { code, kind, message: message.to_string(), pid: None }
    }

    /// What was named is not there.
    pub(crate) fn nothing(message: impl Display) -> Self {
        Self::new(NOTHING, "not_found", message)
    }

    /// What was named is there and cannot be read.
    pub(crate) fn damaged(message: impl Display) -> Self {
        Self::new(NOTHING, "corrupt", message)
    }

    /// The arguments make no sense.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(USAGE, "usage", message)
    }

    /// There is no store.
    pub(crate) fn no_store(path: &Path) -> Self {
        let message = format!("there is no store {:?}", path.display().to_string());
        Self::new(UNOPENED, "not_found", message)
    }

    /// The work was done in vain.
    pub(crate) fn superseded(message: impl Display) -> Self {
        Self::new(FAILED, "superseded", message)
    }

    /// A store or file could not be opened.
    pub(crate) fn opening(error: &Error) -> Self {
        match error {
            Error::Locked { pid, .. } => Self { pid: *pid, ..Self::new(LOCKED, "locked", error) },
            _ => Self::new(UNOPENED, kind(error), error),
        }
    }

    /// The system refused to read or write a file that is no part of a store.
    pub(crate) fn io(operation: &str, what: impl Display, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reader has gone, and wants to hear no more: neither output nor complaint.
            return Self::new(0, "closed_pipe", "");
        }
        Self::new(FAILED, "io", format!("{operation} {what}: {error}"))
    }

    /// Says in front of the message what had been done all the same.
    pub(crate) fn after(mut self, done: &str) -> Self {
        self.message = format!("{done}, but then: {}", self.message);
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Writes it to stderr: as text, or as one JSON object.
    pub(crate) fn tell(&self, as_json: bool) {
        if self.code == 0 {
            return;
        }
        let mut stderr = io::stderr().lock();
        // Where stderr is closed too there is nobody left to tell.
        let _ = if as_json {
            let told = json!({
                "error": self.kind,
                "message": self.message,
                "exit_code": self.code,
                "pid": self.pid,
            });
            writeln!(stderr, "{told}")
        } else {
            writeln!(stderr, "ebbtide: {}", self.message)
        };
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NotFound { .. } => NOTHING,
            Error::Limit { .. }
            | Error::InvalidName { .. }
            | Error::InvalidText { .. }
            | Error::OptionsConflict { .. } => USAGE,
            _ => FAILED,
        };
        Self::new(code, kind(&error), error)
    }
}

/// The word that stands for an error in JSON.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Io { .. } => "io",
        Error::NoSpace { .. } => "no_space",
        Error::Locked { .. } => "locked",
        Error::NotFound { .. } => "not_found",
        Error::Corrupt { .. } => "corrupt",
        Error::UnknownVersion { .. } => "unknown_version",
        Error::Limit { .. } => "limit",
        Error::InvalidName { .. } => "invalid_name",
        Error::InvalidText { .. } => "invalid_text",
        Error::OptionsConflict { .. } => "options_conflict",
        Error::CapacityExceeded { .. } => "capacity_exceeded",
        Error::ForeignPseudonym { .. } => "foreign_pseudonym",
        Error::Expired { .. } => "expired",
        Error::Denied { .. } => "denied",
        Error::FillTimedOut { .. } => "fill_timed_out",
        Error::FillFailed { .. } => "fill_failed",
        Error::ReadOnly => "read_only",
        Error::Poisoned { .. } => "poisoned",
        Error::Closed => "closed",
        Error::Forked => "forked",
        Error::NetworkFileSystem { .. } => "network_file_system",
        Error::Unsupported { .. } => "unsupported",
        _ => "other",
    }
}

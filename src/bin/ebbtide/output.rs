//! [`Output`]: standard output, and how much of it is wanted.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::Value;

use crate::failure::Failure;
use crate::table::Table;

/// Where results go. Errors on the way, a closed pipe among them, are [`Failure`]s.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { stdout: BufWriter::new(io::stdout().lock()), json, quiet }
    }

    /// True if results are to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// True if nothing but results is wanted: no progress bars, no words about what was done.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(|e| Failure::io("write", "standard output", &e))
    }

    /// Writes a line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a line that says what was done, unless nobody wants to know.
    pub(crate) fn remark(&mut self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.line(text) }
    }

    /// Writes a JSON document on a line of its own.
    pub(crate) fn json(&mut self, document: &Value) -> Result<(), Failure> {
        self.line(&document.to_string())
    }

    /// Writes a table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        self.bytes(table.to_string().as_bytes())
    }

    /// Hands everything written so far to the system.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(|e| Failure::io("write", "standard output", &e))
    }
}

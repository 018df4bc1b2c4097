//! [`Progress`]: a bar on stderr for work that takes long, if somebody is there to see it.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

const BAR: &str = "{msg}  [{bar:30}] {pos}/{len}  {elapsed}";
const SPINNER: &str = "{spinner} {msg}  {pos}  {elapsed}";

/// Shows how far some work has come, and leaves no trace when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Progress of work with a known number of steps.
    pub(crate) fn bar(output: &Output, what: &'static str, steps: u64) -> Self {
        Self::new(output, ProgressBar::new(steps), BAR, what)
    }

    /// Progress of work without a known end.
    pub(crate) fn spinner(output: &Output, what: &'static str) -> Self {
        Self::new(output, ProgressBar::new_spinner(), SPINNER, what)
    }

    fn new(output: &Output, bar: ProgressBar, template: &str, what: &'static str) -> Self {
        if output.is_json() || output.is_quiet() || !stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// One more step is done.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

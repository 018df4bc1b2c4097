//! Who decides what a power cut leaves behind.
//!
//! The legal outcomes are known where the state is kept; this only carries the decisions there.

/// Decides what a power cut leaves behind, one question at a time.
pub trait CrashChoice {
    /// Picks one of `options` alternatives, `0..options`; what is out of range is taken modulo
    /// `options`. The questions depend only on the state of the disk and on earlier answers.
    fn pick(&mut self, options: u32) -> u32;
}

impl<F: FnMut(u32) -> u32> CrashChoice for F {
    fn pick(&mut self, options: u32) -> u32 {
        self(options)
    }
}

/// Asks, unless there is nothing to ask.
pub(super) fn pick(choice: &mut dyn CrashChoice, options: usize) -> usize {
    match u32::try_from(options) {
        Ok(0 | 1) => 0,
        Ok(options) => (choice.pick(options) % options) as usize,
        // More than a u32 counts: a file of MAX_LEN has far fewer sectors.
        Err(_) => 0,
    }
}

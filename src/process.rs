//! Telling a process from the children that it forks: they have its memory, and nothing of what that stands
//! for on the disk.

use crate::map::OwnPage;

/// The process that made it.
#[derive(Debug)]
pub(crate) struct Process {
    id: u32,
    page: Option<OwnPage>,
}

impl Process {
    /// This one.
    pub(crate) fn current() -> Self {
        Self { id: std::process::id(), page: OwnPage::new() }
    }

    /// False in a child that was forked since. Asked before each read, so without a system call where
    /// there can be a page.
    pub(crate) fn is_current(&self) -> bool {
        match &self.page {
            Some(page) => page.is_own(),
            None => self.id == std::process::id(),
        }
    }
}

//! Telling a process from the children that it forks: they have its memory, and nothing of what that stands
//! for on the disk.

/// The process that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// This one.
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    /// False in a child that was forked since.
    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}

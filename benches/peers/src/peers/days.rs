//! The days of a store that keeps one tree or table a day.
//!
//! To invalidate a key, these stores put an empty value into the newest day: one blind write instead
//! of a search through all days, and it lasts for as long as what it hides, as older days go first.
//! No image and no record is empty.

// Not every store needs all of this.
#![allow(dead_code)]

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::peer::{Failure, Result};

/// What hides older values of a key.
pub(super) const ABSENT: &[u8] = &[];

/// Hands a value over unless it hides older ones; false if it does.
pub(super) fn show(value: &[u8], look: &mut dyn FnMut(&[u8])) -> bool {
    let present = !value.is_empty();
    if present {
        look(value);
    }
    present
}

/// What a day is called in a store.
pub(super) fn name(day: u32) -> String {
    format!("day-{day:05}")
}

/// The day that is called so.
pub(super) fn number(name: &str) -> Option<u32> {
    name.strip_prefix("day-")?.parse().ok()
}

/// Puts the directory of a day out of the way; its bytes are given back later.
pub(super) fn set_aside(dir: &Path) -> Result<()> {
    Ok(std::fs::rename(dir, dir.with_extension("gone"))?)
}

/// Gives back the bytes of all days that were put out of the way.
pub(super) fn reclaim(parent: &Path) -> Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "gone") {
            std::fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Handles by day, newest first, as that is how they are searched.
pub(super) struct Days<T>(RwLock<Vec<(u32, T)>>);

impl<T: Clone> Days<T> {
    pub(super) fn new(mut days: Vec<(u32, T)>) -> Self {
        days.sort_by_key(|&(day, _)| std::cmp::Reverse(day));
        Self(RwLock::new(days))
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Vec<(u32, T)>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn newest(&self) -> Result<T> {
        let days = self.read();
        days.first().map(|(_, handle)| handle.clone()).ok_or_else(|| Failure::from("no day yet"))
    }

    pub(super) fn has(&self, day: u32) -> bool {
        self.read().iter().any(|&(other, _)| other == day)
    }

    pub(super) fn add(&self, day: u32, handle: T) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(0, (day, handle));
    }

    pub(super) fn remove(&self, day: u32) -> Option<T> {
        let mut days = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let at = days.iter().position(|&(other, _)| other == day)?;
        Some(days.remove(at).1)
    }
}

//! Directories with all that is in them.

use std::fs;
use std::path::{Path, PathBuf};

/// The paths of all files and directories of a directory, in it, itself included.
pub(crate) fn below(dir: &Path) -> Vec<PathBuf> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<PathBuf>) {
        found.push(dir.strip_prefix(root).unwrap().to_owned());
        if fs::symlink_metadata(dir).unwrap().is_dir() {
            for entry in fs::read_dir(dir).unwrap() {
                walk(root, &entry.unwrap().path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    for name in below(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            fs::create_dir(to).unwrap()
        } else {
            fs::copy(from, to).map(|_| ()).unwrap()
        }
    }
}

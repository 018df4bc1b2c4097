//! The one place where a file is mapped.

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

/// Maps so many bytes of a file, which may be shorter now and grow later.
#[allow(unsafe_code)]
pub fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // SAFETY: the files lie in a directory that this process has made for itself; what is read of
    // the mapping lies below the written end of the file, is not written again, and no file is ever
    // cut below that end.
    unsafe { MmapOptions::new().len(len).map(file) }
}

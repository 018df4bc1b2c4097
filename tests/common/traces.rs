//! Stamps at the beginning of everything that is written, by which its bytes are found on the disk.

use std::collections::BTreeSet;

use ebbtide::disk::MemoryDisk;
use memchr::memmem;

/// What a stamp stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stamp {
    Value,
    Metadata,
    Row,
}

/// A stamp with the number of the version or row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Trace {
    pub(crate) stamp: Stamp,
    pub(crate) number: u32,
}

const MARK: [u8; 3] = [0xe7, 0x5a, 0xc3];
const STAMPS: [Stamp; 3] = [Stamp::Value, Stamp::Metadata, Stamp::Row];

impl Trace {
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let [a, b, c] = MARK;
        let [e, f, g, high] = self.number.to_le_bytes();
        assert_eq!(high, 0, "no test writes so much");
        let stamp = self.stamp as u8;
        // Of many hashes one ends like a mark, and zeros may follow it.
        [a, b, c, stamp, e, f, g, !(stamp ^ e ^ f ^ g)]
    }

    /// The stamp that these bytes begin with.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MARK)?;
        let stamp = *STAMPS.get(usize::from(*rest.first()?))?;
        let [e, f, g, _] = rest.get(1..5)?.try_into().ok()?;
        let found = Self { stamp, number: u32::from_le_bytes([e, f, g, 0]) };
        bytes.starts_with(&found.to_bytes()).then_some(found)
    }
}

/// What is found on a disk.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) in_place: BTreeSet<Trace>,
    /// In files that wait for being given back.
    pub(crate) in_trash: BTreeSet<Trace>,
}

/// All stamps in all files.
pub(crate) fn find(disk: &MemoryDisk) -> Found {
    let mut found = Found::default();
    let marks = memmem::Finder::new(&MARK);
    for path in disk.all_files() {
        let bytes = disk.read_file(&path).expect("a file that is listed");
        let mut traces =
            marks.find_iter(&bytes).filter_map(|at| Trace::read(&bytes[at..])).peekable();
        if traces.peek().is_some() {
            let is_trash = path.components().any(|part| part.as_os_str() == "trash");
            let to = if is_trash { &mut found.in_trash } else { &mut found.in_place };
            to.extend(traces);
        }
    }
    found
}

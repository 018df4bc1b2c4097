//! Checking one file of the ledger: which entries count, where it ends, and what is wrong with it.

use std::io;

use crate::disk::{DiskFile, read_full_at};
use crate::format::is_zeros;
use crate::format::ledger::{
    ChainHash, ChainedEntry, ENTRY_LEN, EntryKind, LedgerHeader, Place, Turn, decode_place,
    entries_in_file, genesis, offset_of,
};

/// What is read in one go.
const PIECE_LEN: usize = 64 * 1024;

/// An entry's number and its hash, by which it vouches for all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) hash: ChainHash,
}

/// What comes behind a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing: it is the newest.
    Nothing,
    /// A file that does not say what it goes on from.
    Unknown,
    /// A file that goes on from here.
    File(Head, Turn),
}

/// What is known of a file from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    pub(super) store_id: [u8; 16],
    pub(super) number: u64,
    /// The last entry of the file before, if that can be read.
    pub(super) before: Option<Head>,
    pub(super) behind: Behind,
    /// The newest entry that STATE names.
    pub(super) known: Option<Head>,
    /// True if nothing can have been written behind that.
    pub(super) exact: bool,
}

/// What a file goes on from, and why it was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    pub(super) carried: Head,
    pub(super) turn: Turn,
    has_header: bool,
}

/// A file as it was found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// What is wrong, and at which offset.
    pub(super) problems: Vec<(u64, &'static str)>,
    /// The entries that count, with their places.
    pub(super) entries: Vec<(usize, ChainedEntry)>,
    /// So many entries were durable for certain.
    pub(super) bound: usize,
    /// The place for the next entry.
    pub(super) end: usize,
    /// The end of what is not zeros.
    pub(super) used: usize,
    /// The last entry that counts.
    pub(super) head: Option<Head>,
}

/// A file's bytes, without the zeros behind its last entry.
#[derive(Debug, Default)]
pub(super) struct FileBytes {
    pub(super) used: Vec<u8>,
    /// Of the whole file.
    pub(super) len: u64,
}

impl FileBytes {
    /// Reads a file of this length.
    pub(super) fn read(file: &dyn DiskFile, len: u64) -> io::Result<Self> {
        let mut bytes = Self { used: Vec::new(), len };
        let mut piece = vec![0; PIECE_LEN];
        let mut offset = 0;
        loop {
            let read = read_full_at(file, &mut piece, offset as u64)?;
            let piece = piece.get(..read).unwrap_or_default();
            if !is_zeros(piece) {
                bytes.used.resize(offset, 0);
                bytes.used.extend_from_slice(piece);
            }
            offset += read;
            if read < PIECE_LEN {
                bytes.len = offset as u64;
                break;
            }
        }
        // An entry may end with zeros in the next piece.
        bytes.used.resize((bytes.used.len() + ENTRY_LEN).min(offset), 0);
        Ok(bytes)
    }
}

/// Reads what a file goes on from: from its header, or else from its first entry.
pub(super) fn opening(store_id: [u8; 16], number: u64, bytes: &[u8]) -> Option<Opening> {
    let first = match place(bytes, 0) {
        Place::Entry(entry) => Some(entry),
        _ => None,
    };
    let checkpoint = first.filter(|entry| entry.fields.kind == EntryKind::Checkpoint);
    let turn = checkpoint.map_or(Turn::Resumed, |entry| Turn::from_detail(entry.fields.detail));
    match LedgerHeader::decode(bytes) {
        Ok(header) if header.store_id != store_id || header.number != number => None,
        Ok(header) => {
            let carried = Head { number: header.carried_number, hash: header.carried_hash };
            Some(Opening { carried, turn, has_header: true })
        }
        Err(_) => first.map(|entry| {
            let number = entry.fields.number.saturating_sub(1);
            Opening { carried: Head { number, hash: entry.previous }, turn, has_header: false }
        }),
    }
}

fn place(bytes: &[u8], index: usize) -> Place {
    let start = usize::try_from(offset_of(index)).unwrap_or(usize::MAX);
    let slot = start.checked_add(ENTRY_LEN).and_then(|end| bytes.get(start..end));
    slot.map_or(Place::Blank, decode_place)
}

/// Checks a file.
pub(super) fn scan(file: &FileBytes, around: &Around) -> Scan {
    let mut scan = Scan::default();
    let (bytes, len) = (file.used.as_slice(), file.len);
    let Some(opening) = opening(around.store_id, around.number, bytes) else {
        scan.problem(0, "a ledger file of another store, or without a readable header");
        return scan;
    };
    scan.check_opening(file, &opening, around);
    let capacity = entries_in_file(len);
    // All behind these are blank.
    let count = entries_in_file(bytes.len() as u64).saturating_add(1).min(capacity);
    let places: Vec<Place> = (0..count).map(|index| place(bytes, index)).collect();
    scan.used = places.iter().rposition(|place| *place != Place::Blank).map_or(0, |last| last + 1);
    let rest = offset_of(capacity);
    let rest_start = usize::try_from(rest).unwrap_or(usize::MAX);
    if !is_zeros(bytes.get(rest_start..).unwrap_or_default()) {
        scan.problem(rest, "something behind the last entry");
    }
    let carried = opening.carried.number;
    let known = around.known.map_or(0, |known| known.number.saturating_sub(carried));
    let marks = places.iter().enumerate().map(|(index, place)| match place {
        Place::Entry(entry) => (entry.fields.mark as usize).min(index),
        _ => 0,
    });
    let marks = marks.max().unwrap_or(0) as u64;
    let (bound, exact) = match around.behind {
        Behind::File(head, turn) => (head.number.saturating_sub(carried), turn != Turn::GivenUp),
        // What does not fit may have been in the file that is missing.
        Behind::Unknown => (marks.max(known.min(capacity as u64)).max(scan.used as u64), false),
        Behind::Nothing => (if around.exact { known } else { marks.max(known) }, around.exact),
    };
    if bound > capacity as u64 {
        scan.problem(rest.min(len), "entries that had been there are missing");
    }
    scan.bound = usize::try_from(bound).unwrap_or(usize::MAX).min(capacity);
    scan.walk(&places, capacity, &opening, around);
    if exact && scan.used > scan.bound {
        let behind = places.iter().skip(scan.bound).position(|place| *place != Place::Blank);
        scan.problem(
            offset_of(scan.bound + behind.unwrap_or(0)),
            "something behind the last entry",
        );
    }
    scan
}

impl Scan {
    /// Notes a problem, unless it only goes on.
    fn problem(&mut self, offset: u64, what: &'static str) {
        self.problems.push((offset, what));
    }

    fn check_opening(&mut self, file: &FileBytes, opening: &Opening, around: &Around) {
        if !opening.has_header {
            self.problem(0, "header of a ledger file");
        }
        let stated = LedgerHeader::decode(&file.used).map_or(file.len, |h| h.file_len);
        if stated != file.len {
            self.problem(stated.min(file.len), "a ledger file that is not as long as it was");
        }
        let first = opening.carried.number == 0;
        if first && opening.carried.hash != genesis(around.store_id) {
            self.problem(0, "a ledger that does not begin with its store");
        }
        let goes_on = around.before.is_none_or(|before| before == opening.carried);
        if !goes_on && opening.turn != Turn::Resumed {
            self.problem(0, "a ledger file that does not go on from the one before");
        }
    }

    /// Goes through the entries: below the bound each must be there, whole and linked to the one
    /// before; above it the newest file ends with the first that is not.
    fn walk(&mut self, places: &[Place], capacity: usize, opening: &Opening, around: &Around) {
        let may_be_torn = around.behind == Behind::Nothing && !around.exact;
        let mut previous = Some(opening.carried.hash);
        let mut last_what = "";
        for index in 0..capacity {
            let place = places.get(index).unwrap_or(&Place::Blank);
            let number = opening.carried.number.saturating_add(1 + index as u64);
            if index >= self.bound && !may_be_torn {
                break;
            }
            let what = match place {
                Place::Entry(entry) if entry.fields.number != number => "an entry out of its place",
                Place::Entry(entry) if previous.is_some_and(|hash| hash != entry.previous) => {
                    "an entry that is not linked to the one before"
                }
                Place::Entry(entry) if is_other(around.known, number, entry) => {
                    "not the entry that STATE names"
                }
                Place::Entry(_) => "",
                Place::Blank => "an entry that is missing",
                Place::Unreadable => "an entry that cannot be read",
            };
            if index >= self.bound && !what.is_empty() {
                break;
            }
            if !what.is_empty() && what != last_what {
                self.problem(offset_of(index), what);
            }
            last_what = what;
            previous = match place {
                Place::Entry(entry) => {
                    self.entries.push((index, *entry));
                    self.head = Some(Head { number, hash: entry.hash });
                    Some(entry.hash)
                }
                _ => None,
            };
            self.end = index + 1;
        }
    }
}

fn is_other(known: Option<Head>, number: u64, entry: &ChainedEntry) -> bool {
    known.is_some_and(|known| known.number == number && known.hash != entry.hash)
}

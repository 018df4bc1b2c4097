//! The model of a log: every row that was ever handed to it, and whether it must be there.

use std::collections::BTreeMap;

use ebbtide::{LogRow, Pseudonym, RowId, Timestamp};

use super::WIDTH;
use super::due::{Due, Reset};
use super::keys::{Is, Moment};
use super::ops::bits;
use super::traces::{Stamp, Trace};

/// Whether a row is there, time apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Certain,
    Doubtful,
    Gone,
}

#[derive(Debug, Clone)]
pub(crate) struct RowModel {
    pub(crate) number: u32,
    pub(crate) id: Option<RowId>,
    pub(crate) time: u64,
    pub(crate) subject: Option<[u8; 16]>,
    pub(crate) due: Due,
    pub(crate) len: u16,
    pub(crate) tags: u8,
    pub(crate) durable: bool,
    pub(crate) presence: Presence,
    /// One of its tags was invalidated.
    pub(crate) hidden: Is,
}

impl RowModel {
    /// A row that was handed to the log.
    pub(crate) fn new(number: u32, time: u64, subject: Option<Pseudonym>, due: Due) -> Self {
        let subject = subject.map(|subject| subject.id());
        let (durable, presence) = (false, Presence::Doubtful);
        let (id, len, tags, hidden) = (None, 0, 0, Is::No);
        Self { number, id, time, subject, due, len, tags, durable, presence, hidden }
    }
}

/// The payload of a row: its stamp, and bytes that follow from its number.
pub(crate) fn payload(number: u32, len: u16) -> Vec<u8> {
    let mut bytes = Trace { stamp: Stamp::Row, number }.to_bytes().to_vec();
    bytes.extend((0..len).map(|at| (number as u8).wrapping_mul(31).wrapping_add(at as u8)));
    bytes
}

/// The model of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowsModel {
    rows: BTreeMap<u32, RowModel>,
    ids: BTreeMap<RowId, u32>,
    /// The pseudonym of an address in a period.
    pseudonyms: BTreeMap<(u8, u64), [u8; 16]>,
    /// The pseudonym that an address was given of the time that it was then, since the clock was set.
    given: BTreeMap<(u8, u64), [u8; 16]>,
}

impl RowsModel {
    /// The log said where the row is.
    pub(crate) fn appended(&mut self, row: RowModel, id: Option<RowId>) {
        if let Some(id) = id {
            let before = self.ids.insert(id, row.number);
            assert_eq!(before, None, "row id {id} was given out before");
        }
        let row = RowModel { id, presence: Presence::Certain, ..row };
        self.rows.insert(row.number, row);
    }

    /// An append failed: the row may be there all the same.
    pub(crate) fn failed(&mut self, row: RowModel) {
        self.rows.insert(row.number, row);
    }

    /// A row that was taken before has been written.
    pub(crate) fn flushed(&mut self, number: u32) {
        let row = self.rows.get_mut(&number).expect("a row that was taken");
        row.presence = Presence::Certain;
    }

    /// A tag was invalidated, or perhaps.
    pub(crate) fn invalidated_tag(&mut self, tag: u8, hidden: Is) {
        for row in self.rows.values_mut().filter(|row| bits(row.tags).any(|t| t == tag)) {
            row.hidden = row.hidden.max(hidden);
        }
    }

    /// True if the bytes of a row may be on the disk after a scrub.
    pub(crate) fn may_last(&self, number: u32) -> bool {
        let row = self.rows.get(&number);
        row.is_none_or(|row| row.hidden != Is::Yes || row.presence == Presence::Doubtful)
    }

    /// An address has one pseudonym as long as the bucket lives.
    pub(crate) fn pseudonym(&mut self, ip: u8, pseudonym: Pseudonym) {
        let place = (ip, pseudonym.period().as_millis());
        let known = self.pseudonyms.entry(place).or_insert(pseudonym.id());
        assert_eq!(*known, pseudonym.id(), "address {ip} has two pseudonyms in {place:?}");
    }

    /// Of now: also where a bucket of a future that was wrong leaves meanwhile.
    pub(crate) fn pseudonym_of_now(&mut self, ip: u8, now: u64, pseudonym: Pseudonym) {
        let known = self.given.entry((ip, now / WIDTH)).or_insert(pseudonym.id());
        assert_eq!(*known, pseudonym.id(), "address {ip} has two pseudonyms at {now}");
    }

    pub(crate) fn synced(&mut self) {
        for row in self.rows.values_mut() {
            row.durable |= row.presence == Presence::Certain;
        }
    }

    pub(crate) fn crashed(&mut self) {
        for row in self.rows.values_mut() {
            if row.presence == Presence::Certain && !row.durable {
                row.presence = Presence::Doubtful;
            }
        }
    }

    /// What is in doubt is settled by what is there after the store was opened.
    pub(crate) fn settle(&mut self, scanned: &[LogRow], moment: Moment, durable: bool) {
        let there: BTreeMap<u32, RowId> =
            scanned.iter().map(|row| (number_of(row), row.id())).collect();
        for row in self.rows.values_mut() {
            match there.get(&row.number) {
                Some(id) if row.presence != Presence::Gone && row.hidden != Is::Yes => {
                    row.presence = Presence::Certain;
                    if durable {
                        row.hidden = Is::No;
                    }
                    row.durable |= durable;
                    row.id = row.id.or(Some(*id));
                }
                Some(_) => panic!("a row that was gone is back: {row:?}"),
                None if moment.now < row.due.earliest && !moment.suspect => {
                    match (row.presence, row.hidden) {
                        // What hides it may be found next time only.
                        (_, Is::Maybe) if !durable => {}
                        (Presence::Doubtful, Is::No | Is::Maybe) => row.presence = Presence::Gone,
                        (Presence::Certain, Is::Maybe) => row.hidden = Is::Yes,
                        _ => {}
                    }
                }
                None => {}
            }
        }
    }

    /// Fails unless these are the rows of a range, in time order.
    pub(crate) fn check_scan(&self, scanned: &[LogRow], (first, last): (u64, u64), moment: Moment) {
        let times: Vec<_> = scanned.iter().map(|row| (row.time(), row.id())).collect();
        assert!(times.is_sorted(), "not in time order: {times:?}");
        let mut seen = BTreeMap::new();
        for row in scanned {
            self.check_row(row, moment);
            let time = row.time().as_millis();
            assert!((first..=last).contains(&time), "{row:?} lies outside of {first}..={last}");
            *seen.entry(number_of(row)).or_insert(0) += 1;
        }
        for row in self.rows.values() {
            let count = seen.get(&row.number).copied().unwrap_or(0);
            let wanted = (first..=last).contains(&row.time) && row.must_be_there(moment);
            assert!(count > 0 || !wanted, "a scan at {moment:?} leaves out {row:?}");
            assert!(count < 2 || row.id.is_none(), "a scan gives {row:?} {count} times");
        }
    }

    /// Fails unless this row may be read and is what was written.
    pub(crate) fn check_row(&self, row: &LogRow, moment: Moment) {
        let number = number_of(row);
        let known = self.rows.get(&number).unwrap_or_else(|| panic!("nobody wrote {row:?}"));
        assert_eq!(row.payload().as_ref(), payload(number, known.len), "{known:?}");
        assert_eq!(row.time(), Timestamp::from_millis(known.time), "{known:?}");
        assert_eq!(row.subject().map(|subject| subject.id()), known.subject, "{known:?}");
        assert!(known.presence != Presence::Gone, "a row that was gone is back: {known:?}");
        assert!(known.hidden != Is::Yes, "a row that was invalidated is back: {known:?}");
        assert!(moment.now < known.due.latest, "{known:?} is past its time at {moment:?}");
        if let Some(id) = known.id {
            assert_eq!(row.id(), id, "{known:?}");
        }
    }

    /// Rows whose place is known.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (RowId, &RowModel)> {
        self.rows.values().filter_map(|row| Some((row.id?, row)))
    }

    /// Fails unless this is what may be read at a place.
    pub(crate) fn check_get(&self, model: &RowModel, row: Option<&LogRow>, moment: Moment) {
        match row {
            Some(row) => {
                assert_eq!(number_of(row), model.number, "another row at its place");
                self.check_row(row, moment);
            }
            None => assert!(!model.must_be_there(moment), "{model:?} is missing at {moment:?}"),
        }
    }

    /// The clock was set, or perhaps, while these rows waited to be written. Buckets without rows leave at once,
    /// and those that have left come again.
    pub(crate) fn clock_reset(&mut self, reset: Reset, waiting: &[u32]) {
        for row in self.rows.values_mut() {
            if waiting.contains(&row.number) {
                row.due.wait();
            } else {
                row.due.correct(reset);
            }
        }
        self.given.clear();
        self.pseudonyms
            .retain(|(_, period), _| *period < reset.to && Due::of(*period).earliest > reset.from);
    }

    /// When a row leaves.
    pub(crate) fn due(&self, number: u32) -> Due {
        self.rows.get(&number).expect("a row that was taken").due
    }
}

impl RowModel {
    fn must_be_there(&self, moment: Moment) -> bool {
        self.presence == Presence::Certain
            && self.hidden == Is::No
            && moment.now < self.due.earliest
            && !moment.suspect
    }
}

fn number_of(row: &LogRow) -> u32 {
    Trace::read(row.payload()).unwrap().number
}

//! Appending rows to the log under test, one by one, many at once, and through a buffer.

use std::net::{IpAddr, Ipv4Addr};

use ebbtide::{Error, Row, Timestamp};

use super::MINUTE;
use super::due::Due;
use super::model::tag_bytes;
use super::ops::{KEYSPACES, bits};
use super::rows::{RowModel, payload};
use super::world::World;

impl World {
    pub(super) fn append(&mut self, ip: u8, minutes_ago: i16, len: u16, tags: u8) {
        self.probe();
        let now = self.now();
        let ago = u64::from(minutes_ago.unsigned_abs()) * MINUTE;
        let at = if minutes_ago < 0 { now + ago } else { now - ago };
        let expired = Due::of(at.min(now)).latest <= now;
        let Some(subject) = self.subject(ip, at, expired) else { return };
        let number = self.model.next_row;
        self.model.next_row += 1;
        let bucket = subject.map_or(at.min(now), |subject| subject.period().as_millis());
        let model = RowModel::new(number, at.min(now), subject, Due::of(bucket));
        let model = RowModel { len, tags, ..model };
        let row = tagged_row(subject, tags);
        let row = row.at(Timestamp::from_millis(at)).payload(payload(number, len));
        match self.opened().log.append(row) {
            Err(Error::Expired { .. }) => assert!(expired, "{model:?} was not too late"),
            result => match self.written(result, KEYSPACES, "append") {
                Some(id) => {
                    assert!(!expired, "{model:?} was too late");
                    self.model.rows.appended(model, Some(id));
                }
                None => self.model.rows.failed(model),
            },
        }
    }

    /// The pseudonym of an address, `Some(None)` for nobody; `None` if there is none to be had.
    pub(super) fn subject(
        &mut self,
        ip: u8,
        at: u64,
        expired: bool,
    ) -> Option<Option<ebbtide::Pseudonym>> {
        if ip == 0 {
            return Some(None);
        }
        let address = IpAddr::V4(Ipv4Addr::new(198, 18, 0, ip));
        let result = self.opened().log.pseudonym(address, Timestamp::from_millis(at));
        if let Err(Error::Expired { .. }) = result {
            assert!(expired, "a pseudonym for {at} was not too late");
            return None;
        }
        let pseudonym = self.written(result, KEYSPACES, "pseudonym")?;
        assert!(!expired, "a pseudonym for {at} was too late");
        self.model.rows.pseudonym(ip, pseudonym);
        let now = self.now();
        if at >= now {
            self.model.rows.pseudonym_of_now(ip, now, pseudonym);
        }
        Some(Some(pseudonym))
    }

    pub(super) fn append_many(&mut self, ip: u8, count: u8, tags: u8) {
        self.probe();
        let now = self.now();
        let Some(subject) = self.subject(ip, now, false) else { return };
        let mut appender = self.opened().log.appender();
        let mut models = Vec::new();
        let mut flushed = true;
        for _ in 0..count {
            let (model, row) = self.row_of_now(subject, tags);
            models.push(model);
            flushed &= self.written(appender.append(row), KEYSPACES, "append").is_some();
        }
        flushed &= self.written(appender.flush(), KEYSPACES, "flush").is_some();
        drop(appender);
        for model in models {
            if flushed {
                self.model.rows.appended(model, None);
            } else {
                self.model.rows.failed(model);
            }
        }
    }

    pub(super) fn row_of_now(
        &mut self,
        subject: Option<ebbtide::Pseudonym>,
        tags: u8,
    ) -> (RowModel, Row) {
        let (now, number) = (self.now(), self.model.next_row);
        self.model.next_row += 1;
        let model = RowModel::new(number, now, subject, Due::of(now));
        (
            RowModel { len: 20, tags, ..model },
            tagged_row(subject, tags).payload(payload(number, 20)),
        )
    }

    pub(super) fn buffer(&mut self, ip: u8, count: u8, tags: u8) {
        self.probe();
        let Some(subject) = self.subject(ip, self.now(), false) else { return };
        let log = self.opened().log.clone();
        let mut appender = self.opened_mut().appender.take().unwrap_or_else(|| log.appender());
        for _ in 0..count {
            let (model, row) = self.row_of_now(subject, tags);
            let number = model.number;
            self.model.rows.failed(model);
            match appender.append(row) {
                // Of rows that were taken before.
                Err(Error::Expired { .. }) if !self.opened().taken.is_empty() => {}
                result => {
                    if self.written(result, KEYSPACES, "append").is_some() {
                        self.opened_mut().taken.push(number);
                    }
                }
            }
        }
        self.opened_mut().appender = Some(appender);
    }

    pub(super) fn flush(&mut self) {
        let Some(mut appender) = self.opened_mut().appender.take() else { return };
        self.probe();
        let result = loop {
            match appender.flush() {
                // The bucket of these rows is gone, and they with it.
                Err(Error::Expired { .. }) => {}
                result => break result,
            }
        };
        if self.written(result, KEYSPACES, "flush").is_some() {
            assert_eq!(appender.buffered(), 0);
            let now = self.now();
            for number in std::mem::take(&mut self.opened_mut().taken) {
                if now < self.model.rows.due(number).earliest {
                    self.model.rows.flushed(number);
                }
            }
        }
        self.opened_mut().appender = Some(appender);
    }
}

fn tagged_row(subject: Option<ebbtide::Pseudonym>, tags: u8) -> Row {
    let row = subject.map_or_else(Row::anonymous, Row::new);
    bits(tags).fold(row, |row, tag| row.tag(tag_bytes(tag)))
}

//! Forgetting in the world under test, in all ways, and looking for what is left of it on the disk.

use std::path::PathBuf;

use ebbtide::{Error, Receipt, Scope, Timestamp};

use super::MINUTE;
use super::denials::Denied;
use super::keys::Is;
use super::model::{key_bytes, tag_bytes};
use super::ops::{How, KEYS, KEYSPACES, Key, TAGS, Target, bits};
use super::traces::{Stamp, Trace, find};
use super::world::World;

impl Target {
    /// The same with sets that are not empty, and with one member where only one can be named.
    fn settled(self, how: How) -> Self {
        let some = |set: u8, count: u8| {
            let within = (set & ((1_u16 << count) - 1) as u8).max(1);
            if how == How::Hide { within } else { within & within.wrapping_neg() }
        };
        match self {
            Self::Keys(space, keys) => Self::Keys(space, some(keys, KEYS)),
            Self::Tags(space, tags) => Self::Tags(space, some(tags, TAGS)),
            Self::Everywhere(tags, rows) if matches!(how, How::Soften) => {
                Self::Everywhere(tags.max(1), rows)
            }
            Self::Everywhere(tags, rows) => Self::Everywhere(some(tags, TAGS), rows),
            Self::All(_) | Self::Rows(_) => self,
        }
    }

    fn spaces(self) -> Vec<u8> {
        match self {
            Self::Keys(space, _) | Self::Tags(space, _) | Self::All(space) => vec![space],
            Self::Everywhere(..) => (0..KEYSPACES).collect(),
            Self::Rows(_) => Vec::new(),
        }
    }

    /// The tags that are forgotten in the log.
    fn rows(self) -> Vec<u8> {
        match self {
            Self::Everywhere(tags, true) => bits(tags).collect(),
            Self::Rows(tag) => vec![tag],
            _ => Vec::new(),
        }
    }

    /// What it denies if asked to.
    fn denied(self) -> Vec<Denied> {
        match self {
            Self::Keys(space, keys) => {
                bits(keys).map(|key| Denied::Key(Key { space, key })).collect()
            }
            Self::Tags(space, tags) => {
                bits(tags).map(|tag| Denied::Tag(Some(space), tag)).collect()
            }
            Self::Everywhere(tags, _) => bits(tags).map(|tag| Denied::Tag(None, tag)).collect(),
            Self::All(_) | Self::Rows(_) => Vec::new(),
        }
    }
}

impl World {
    pub(super) fn forget(&mut self, target: Target, how: How) {
        let target = target.settled(how);
        let floor = self.probe() + 1;
        let until = match how {
            How::Deny(minutes) => self.now() + u64::from(minutes) * MINUTE,
            How::Hide | How::Soften => 0,
        };
        let result = self.call(target, how, Timestamp::from_millis(until));
        let may_lack_room = matches!(how, How::Deny(_)) || !target.rows().is_empty();
        let receipt = match result {
            Err(Error::NoSpace { .. }) if self.limited && may_lack_room => None,
            result => self.good(result, "forget"),
        };
        let denied = if matches!(how, How::Deny(_)) { target.denied() } else { Vec::new() };
        let denied = if until > self.now() { denied } else { Vec::new() };
        for denied in denied {
            self.model.denials.deny(denied, until, receipt.is_some());
        }
        let hidden = if receipt.is_some() { Is::Yes } else { Is::Maybe };
        for tag in target.rows() {
            self.model.rows.invalidated_tag(tag, hidden);
        }
        match receipt {
            Some(receipt) => self.forgotten(target, how, floor, &receipt),
            None => {
                for space in target.spaces() {
                    self.model.space(space).invalidation_failed(floor);
                }
            }
        }
    }

    fn forgotten(&mut self, target: Target, how: How, floor: u64, receipt: &Receipt) {
        let seq = receipt.sequence();
        assert!(seq >= floor, "{receipt:?} is below {floor}");
        self.model.highest_seq = seq;
        let widened = receipt.widened();
        assert!(!widened || self.limited || self.has_failed(), "widened without need");
        for space in target.spaces() {
            let model = self.model.space(space);
            match (target, how) {
                (Target::Keys(_, keys), How::Soften) => {
                    bits(keys).for_each(|key| model.softened_key(key, seq));
                }
                (Target::Keys(_, keys), _) => {
                    bits(keys).for_each(|key| model.invalidated_key(key, seq));
                }
                (Target::Tags(_, tags), How::Soften) => {
                    bits(tags).for_each(|tag| model.softened_tag(tag, seq));
                }
                (Target::Tags(_, tags) | Target::Everywhere(tags, _), _) => {
                    bits(tags).for_each(|tag| model.invalidated_tag(tag, seq));
                }
                (Target::All(_) | Target::Rows(_), _) => model.invalidated_all(seq),
            }
            if widened {
                model.invalidated_all(seq);
            }
        }
    }

    fn call(&self, target: Target, how: How, until: Timestamp) -> Result<Receipt, Error> {
        let opened = self.opened();
        let space = |space: u8| &opened.spaces[usize::from(space)];
        let first = |set: u8| bits(set).next().unwrap_or(0);
        let scope = |rows| if rows { Scope::Everything } else { Scope::Keyspaces };
        match (target, how) {
            (Target::Keys(at, keys), How::Hide) => match keys.count_ones() {
                1 => space(at).invalidate(key_bytes(first(keys))),
                _ => space(at).invalidate_keys(bits(keys).map(key_bytes)),
            },
            (Target::Keys(at, keys), How::Soften) => {
                space(at).invalidate_soft(key_bytes(first(keys)))
            }
            (Target::Keys(at, keys), How::Deny(_)) => {
                space(at).erase(key_bytes(first(keys))).deny_until(until).commit()
            }
            (Target::Tags(at, tags), How::Hide) => match tags.count_ones() {
                1 => space(at).invalidate_tag(tag_bytes(first(tags))),
                _ => space(at).invalidate_tags(bits(tags).map(tag_bytes)),
            },
            (Target::Tags(at, tags), How::Soften) => {
                space(at).invalidate_tag_soft(tag_bytes(first(tags)))
            }
            (Target::Tags(at, tags), How::Deny(_)) => {
                space(at).erase_tag(tag_bytes(first(tags))).deny_until(until).commit()
            }
            (Target::All(at), _) => space(at).invalidate_all(),
            (Target::Everywhere(tags, rows), How::Deny(_)) => {
                let erase = opened.store.erase_tag(tag_bytes(first(tags)), scope(rows));
                erase.deny_until(until).commit()
            }
            (Target::Everywhere(tags, rows), _) => match tags.count_ones() {
                1 => opened.store.invalidate_tag(tag_bytes(first(tags)), scope(rows)),
                _ => opened.store.invalidate_tags(bits(tags).map(tag_bytes), scope(rows)),
            },
            (Target::Rows(tag), How::Deny(_)) => opened.log.erase_tag(tag_bytes(tag)),
            (Target::Rows(tag), _) => opened.log.invalidate_tag(tag_bytes(tag)),
        }
    }

    pub(super) fn scrub(&mut self) {
        let result = self.store().scrub();
        let done = self.written(result, KEYSPACES, "scrub").is_some();
        if done && self.held.is_empty() {
            self.check_traces();
        }
    }

    /// Fails if bytes are on the disk that a scrub must have overwritten, and notes which are gone.
    pub(super) fn check_traces(&mut self) {
        let waiting = self.opened().appender.as_ref().is_some_and(|a| a.buffered() > 0);
        let swept = self.opened().fills.is_empty() && !waiting;
        let mut may_last = std::collections::BTreeSet::new();
        for space in 0..KEYSPACES {
            for key in 0..KEYS {
                may_last.extend(self.model.space(space).may_last(key, swept));
            }
        }
        let found = find(&self.disk);
        let dead = |trace: &Trace| match trace.stamp {
            // A write that failed may have left anything.
            Stamp::Value | Stamp::Metadata => {
                !may_last.contains(&trace.number)
                    && !self.model.written[trace.number as usize].failed
            }
            Stamp::Row => !self.model.rows.may_last(trace.number),
        };
        if let Some(trace) = found.in_place.iter().find(|trace| dead(trace)) {
            let written = self.model.written.get(trace.number as usize);
            let files = self.disk.all_files().into_iter();
            let holds = |path: &PathBuf| {
                let bytes = self.disk.read_file(path).unwrap();
                bytes.windows(8).any(|bytes| *bytes == trace.to_bytes())
            };
            let files: Vec<PathBuf> = files.filter(holds).collect();
            panic!("{trace:?} is in {files:?} after a scrub: {written:?}");
        }
        let values = 0..self.model.written.len() as u32;
        let rows = 0..self.model.next_row;
        let all = [Stamp::Value, Stamp::Metadata]
            .into_iter()
            .flat_map(|stamp| values.clone().map(move |number| Trace { stamp, number }));
        let all = all.chain(rows.map(|number| Trace { stamp: Stamp::Row, number }));
        let erased: Vec<Trace> =
            all.filter(|trace| dead(trace) && !found.in_trash.contains(trace)).collect();
        self.model.erased.extend(erased);
    }

    /// Fails if something is back on the disk that was erased.
    pub(super) fn check_erased(&self) {
        if self.model.erased.is_empty() {
            return;
        }
        let found = find(&self.disk);
        let back = found.in_place.intersection(&self.model.erased).next();
        assert_eq!(back, None, "erased, and back on the disk");
    }
}

//! What is known of a store, whether or not it is open.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::denials::DenialsModel;
use super::due::Reset;
use super::keys::{KeyModel, Version};
use super::ops::{KEYSPACES, Key};
use super::random::Random;
use super::rows::RowsModel;
use super::traces::{Stamp, Trace};

/// A value that was handed to the store.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) key: Key,
    pub(super) len: u16,
    pub(super) metadata: bool,
    /// The write failed, and may have left something.
    pub(super) failed: bool,
}

/// What is known of a store whether or not it is open.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(super) spaces: Vec<KeyModel>,
    pub(super) rows: RowsModel,
    pub(super) denials: DenialsModel,
    pub(super) written: Vec<Written>,
    pub(super) next_row: u32,
    pub(super) highest_seq: u64,
    /// When upkeep was last done: no later process may be in an earlier time.
    pub(super) reached_ms: u64,
    /// What was found to be on the disk no more.
    pub(super) erased: BTreeSet<Trace>,
    /// The segments that have left their buckets for certain.
    pub(super) left: BTreeSet<PathBuf>,
    /// The disk was full at some time, so that anything may have been evicted.
    pub(super) was_limited: bool,
    /// A call failed while the store was opened. What could not be read of the ledger then counts as
    /// damaged for good.
    pub(super) misread: bool,
    /// A call failed, and the end of that process may have taken what a power cut takes.
    pub(super) may_lose: bool,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            spaces: (0..KEYSPACES).map(|_| KeyModel::new()).collect(),
            rows: RowsModel::default(),
            denials: DenialsModel::default(),
            erased: BTreeSet::new(),
            left: BTreeSet::new(),
            written: Vec::new(),
            next_row: 0,
            highest_seq: 0,
            was_limited: false,
            misread: false,
            may_lose: false,
            reached_ms: 0,
        }
    }

    /// The process ended, and may have lost what was not synced.
    pub(crate) fn killed(&mut self, may_lose: bool) {
        if self.may_lose || may_lose {
            self.crashed();
            self.may_lose = true;
        } else {
            self.spaces.iter_mut().for_each(KeyModel::killed);
        }
    }

    /// The power was cut.
    pub(crate) fn crashed(&mut self) {
        self.may_lose = false;
        self.spaces.iter_mut().for_each(KeyModel::crashed);
        self.rows.crashed();
    }

    /// The clock was set, or perhaps, while these rows waited to be written.
    pub(super) fn clock_reset(&mut self, reset: Reset, waiting: &[u32]) {
        self.reached_ms = self.reached_ms.min(reset.to);
        self.spaces.iter_mut().for_each(|space| space.clock_reset(reset));
        self.rows.clock_reset(reset, waiting);
    }

    pub(super) fn synced(&mut self) {
        self.spaces.iter_mut().for_each(KeyModel::synced);
        self.rows.synced();
    }

    pub(super) fn space(&mut self, space: u8) -> &mut KeyModel {
        &mut self.spaces[usize::from(space)]
    }

    pub(super) fn write(&mut self, key: Key, len: u16, metadata: bool) -> (u32, Vec<u8>) {
        let id = self.written.len() as u32;
        self.written.push(Written { key, len, metadata, failed: false });
        (id, value(id, key, len))
    }

    /// A write failed. `now` as in [`KeyModel::failed`].
    pub(super) fn failed(&mut self, key: Key, version: Version, now: bool) {
        self.written[version.id as usize].failed = true;
        self.space(key.space).failed(key.key, version, now);
    }
}

/// The bytes of a version: its stamp, its key, and what follows from the number.
pub(super) fn value(id: u32, key: Key, len: u16) -> Vec<u8> {
    let mut bytes = Trace { stamp: Stamp::Value, number: id }.to_bytes().to_vec();
    bytes.extend([key.space, key.key]);
    let len = usize::from(len).max(bytes.len());
    let mut random = Random::new(id.into());
    while bytes.len() < len {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(super) fn metadata(id: u32) -> Vec<u8> {
    Trace { stamp: Stamp::Metadata, number: id }.to_bytes().to_vec()
}

pub(super) fn key_bytes(key: u8) -> String {
    format!("key-{key}")
}

pub(super) fn tag_bytes(tag: u8) -> String {
    format!("tag-{tag}")
}

pub(super) fn space_name(space: u8) -> String {
    format!("space-{space}")
}

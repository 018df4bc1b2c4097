//! Keys in the order in which they are asked for, made beforehand.

use std::hint::black_box;

use crate::data::Values;
use crate::peer::{Peer, Result};

pub struct Requests {
    /// One after the other, all of one length.
    keys: Vec<u8>,
    key_len: usize,
    /// How long the values are, and nothing for keys that are absent.
    lens: Vec<Option<usize>>,
}

impl Requests {
    /// Requests for values that are there.
    pub fn of(values: &Values, numbers: &[u64]) -> Self {
        let keys = numbers.iter().flat_map(|number| values.key(*number)).collect();
        let lens = numbers.iter().map(|number| Some(values.value(*number).len())).collect();
        Self { keys, key_len: values.key(0).len(), lens }
    }

    /// Requests for values that are not.
    pub fn absent(values: &Values, numbers: &[u64]) -> Self {
        let keys = numbers.iter().flat_map(|number| values.absent_key(*number)).collect();
        Self { keys, key_len: values.key(0).len(), lens: vec![None; numbers.len()] }
    }

    /// Asks for one, looks at the value as a checksum in hardware would, and makes sure that it is
    /// what it has to be.
    pub fn ask(&self, peer: &dyn Peer, number: u64) -> Result<()> {
        let number = number as usize % self.lens.len();
        let key = &self.keys[number * self.key_len..][..self.key_len];
        let mut len = None;
        let found = peer.get(key, &mut |bytes| {
            black_box(glance(bytes));
            len = Some(bytes.len());
        })?;
        if found != len.is_some() || len != self.lens[number] {
            return Err(format!("request {number} found {len:?}").into());
        }
        Ok(())
    }
}

/// Touches every cache line of a value.
pub fn glance(bytes: &[u8]) -> u64 {
    let lines = bytes.chunks(64).filter_map(|line| line.first_chunk::<8>());
    lines.fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

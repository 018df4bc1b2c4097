//! What the peers are given: keys, values and the order in which they are asked for. All of it is
//! drawn before the clock starts.

#[allow(dead_code)]
#[path = "../../common/cdn.rs"]
mod cdn;
#[path = "../../../tests/common/random.rs"]
mod random;

use std::path::{Path, PathBuf};

use random::Random;

/// Days of the window, and so buckets.
pub const DAYS: u32 = 30;
/// An image of a usual size.
pub const IMAGE: usize = 24 * 1024;
/// With a key of 16 bytes, 150 bytes.
const SMALL_VALUE: usize = 134;

/// A file of the test data.
fn test_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut random = Random::new(0x6e6f_6973);
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(len).collect()
}

/// Values by their number; none is kept twice.
pub struct Values {
    noise: Vec<u8>,
    /// Where each begins in the noise, and how long it is.
    places: Vec<(u32, u32)>,
    key: fn(u64) -> Vec<u8>,
}

impl Values {
    /// Images of a CDN's sizes that make up so many bytes.
    pub fn blobs(bytes: u64) -> Self {
        let mut sizes = cdn::Blobs::new(1);
        let mut left = bytes;
        Self::new(Self::blob_key, || {
            let len = sizes.next_len();
            left = left.checked_sub(len as u64)?;
            Some(len)
        })
    }

    /// So many images of 24 KiB.
    pub fn images(count: u64) -> Self {
        Self::of_len(Self::blob_key, IMAGE, count)
    }

    /// So many small records.
    pub fn small(count: u64) -> Self {
        Self::of_len(Self::small_key, SMALL_VALUE, count)
    }

    /// So many values of one length, under the keys of images.
    pub fn of_blob_len(len: usize, count: u64) -> Self {
        Self::of_len(Self::blob_key, len, count)
    }

    // Keys do not come in their own order: nobody's do. Different numbers have different keys, those
    // of blobs up to 10^8.
    fn blob_key(number: u64) -> Vec<u8> {
        cdn::key(number * 61_803_399 % 100_000_000).into_bytes()
    }

    fn small_key(number: u64) -> Vec<u8> {
        format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()
    }

    fn of_len(key: fn(u64) -> Vec<u8>, len: usize, count: u64) -> Self {
        let mut left = count;
        Self::new(key, || {
            left = left.checked_sub(1)?;
            Some(len)
        })
    }

    fn new(key: fn(u64) -> Vec<u8>, mut next_len: impl FnMut() -> Option<usize>) -> Self {
        let lens: Vec<usize> = std::iter::from_fn(&mut next_len).collect();
        let longest = lens.iter().copied().max().unwrap_or(0);
        let noise = noise(longest + (1 << 20));
        let mut random = Random::new(2);
        let place = |len: usize| (random.below((noise.len() - len) as u64) as u32, len as u32);
        let places = lens.into_iter().map(place).collect();
        Self { noise, places, key }
    }

    pub fn count(&self) -> u64 {
        self.places.len() as u64
    }

    /// Values and keys together.
    pub fn payload(&self) -> u64 {
        let key_len = (self.key)(0).len() as u64;
        self.places.iter().map(|(_, len)| u64::from(*len) + key_len).sum()
    }

    pub fn key(&self, number: u64) -> Vec<u8> {
        (self.key)(number)
    }

    /// A key that is never inserted.
    pub fn absent_key(&self, number: u64) -> Vec<u8> {
        (self.key)(number + (1 << 25))
    }

    pub fn value(&self, number: u64) -> &[u8] {
        let (start, len) = self.places[number as usize];
        &self.noise[start as usize..(start + len) as usize]
    }
}

/// Draws numbers below `count` by Zipf's law: the one of rank r with a weight of 1/r. Neighbours in
/// rank lie far apart.
pub fn zipf(count: u64, draws: usize, seed: u64) -> Vec<u64> {
    let mut sum = 0.0;
    let ends: Vec<f64> = (1..=count)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let order = shuffled(count, seed);
    let mut random = Random::new(seed);
    let unit = |random: &mut Random| (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    (0..draws)
        .map(|_| {
            let drawn = unit(&mut random) * sum;
            order[ends.partition_point(|end| *end <= drawn).min(count as usize - 1)]
        })
        .collect()
}

/// Draws numbers below `count`, all alike.
pub fn uniform(count: u64, draws: usize, seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    (0..draws).map(|_| random.below(count)).collect()
}

/// All numbers below `count`, in an order of chance.
pub fn shuffled(count: u64, seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed ^ 0x73_6875);
    let mut numbers: Vec<u64> = (0..count).collect();
    for last in (1..numbers.len()).rev() {
        numbers.swap(last, random.below(last as u64 + 1) as usize);
    }
    numbers
}

//! Sizes and popularity of the objects in a CDN's cache, drawn from the distributions that Meta
//! published for CacheBench.

use serde_json::Value as Json;

use super::{Random, noise, test_data};

/// Things drawn by their weight.
struct Weighted {
    /// Up to where each of them reaches.
    ends: Vec<u64>,
}

impl Weighted {
    fn new(weights: impl IntoIterator<Item = u64>) -> Self {
        let mut end = 0;
        let add = |weight: u64| {
            end += weight;
            end
        };
        Self { ends: weights.into_iter().map(add).collect() }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let drawn = random.below(self.ends.last().copied().unwrap());
        self.ends.partition_point(|end| *end <= drawn)
    }
}

fn numbers(file: &Json, name: &str) -> Vec<u64> {
    file[name].as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

fn read(name: &str) -> Json {
    serde_json::from_slice(&std::fs::read(test_data(name)).unwrap()).unwrap()
}

/// Objects of a CDN's sizes: a median of 13 KB, a mean of 33 KB, up to 4 MB.
pub(crate) struct Blobs {
    sizes: Vec<usize>,
    weighted: Weighted,
    noise: Vec<u8>,
    random: Random,
}

impl Blobs {
    pub(crate) fn new(seed: u64) -> Self {
        let file = read("cdn-sizes.json");
        let sizes: Vec<usize> =
            numbers(&file, "valSizeRange").into_iter().map(|size| size as usize).collect();
        let longest = sizes.iter().copied().max().unwrap();
        Self {
            weighted: Weighted::new(numbers(&file, "valSizeRangeProbability")),
            sizes,
            noise: noise(2 * longest),
            random: Random::new(seed),
        }
    }

    /// The length of the next one.
    pub(crate) fn next_len(&mut self) -> usize {
        self.sizes[self.weighted.draw(&mut self.random)]
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> &[u8] {
        let len = self.next_len();
        let start = self.random.below((self.noise.len() - len) as u64) as usize;
        &self.noise[start..start + len]
    }
}

/// Which of the most popular objects of a CDN is asked for: the popularity of the whole catalogue,
/// among those that a cache of so many objects holds.
pub(crate) fn requests(held: u64, count: usize, seed: u64) -> Vec<u64> {
    let file = read("cdn-popularity.json");
    let objects = numbers(&file, "popularityBuckets");
    let weights = numbers(&file, "popularityWeights");
    // A group of so many objects shares so much of the requests.
    let mut groups: Vec<(u64, u64)> = objects.into_iter().zip(weights).collect();
    groups.sort_by(|a, b| {
        let (left, right) = (u128::from(a.1) * u128::from(b.0), u128::from(b.1) * u128::from(a.0));
        right.cmp(&left)
    });
    let weighted = Weighted::new(groups.iter().map(|(_, weight)| *weight));
    let starts: Vec<u64> = groups
        .iter()
        .scan(0, |start, (objects, _)| {
            *start += objects;
            Some(*start - objects)
        })
        .collect();
    let mut random = Random::new(seed);
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        let group = weighted.draw(&mut random);
        let rank = starts[group] + random.below(groups[group].0);
        if rank < held {
            drawn.push(rank);
        }
    }
    drawn
}

/// The key of an image that was rendered in some size.
pub(crate) fn key(number: u64) -> String {
    format!("photos/{number:08}.jpg?w=320")
}

//! Random operations from a seed, for the crash test.

use super::ops::{KEYS, KEYSPACES, Key, Op, TAGS};
use super::random::Random;

fn key(random: &mut Random) -> Key {
    Key { space: random.below(KEYSPACES.into()) as u8, key: random.below(KEYS.into()) as u8 }
}

fn len(random: &mut Random) -> u16 {
    // Mostly small, so that segments hold several; few lengths, so that places are met again.
    let lens = [8, 8, 64, 64, 300, 900, 2500];
    lens[random.below(lens.len() as u64) as usize]
}

/// One operation that neither ends the process nor sets the clock back.
pub(crate) fn op(random: &mut Random) -> Op {
    let tag = random.below(TAGS.into()) as u8;
    let space = random.below(KEYSPACES.into()) as u8;
    match random.below(100) {
        0..24 => Op::Insert(key(random), len(random)),
        24..30 => {
            let count = 2 + random.below(6);
            let item = |random: &mut Random| (random.below(KEYS.into()) as u8, len(random));
            Op::Batch(space, (0..count).map(|_| item(random)).collect())
        }
        30..42 => Op::Begin {
            key: key(random),
            tags: random.below(1 << TAGS) as u8,
            metadata: random.once_in(2),
            expires: random.once_in(4).then(|| random.below(300) as u16),
            sync: random.once_in(2),
        },
        42..54 => Op::Commit(random.below(4) as u8, len(random)),
        54..55 => Op::Abandon(random.below(4) as u8),
        55..63 => Op::InvalidateKey(key(random)),
        63..68 => Op::InvalidateTag(space, tag),
        68..69 => Op::InvalidateAll(space),
        69..72 => Op::Read(key(random)),
        72..80 => Op::Sync,
        80..84 => Op::Maintain,
        84..89 => Op::Advance(random.below(3 * 3600) as u32),
        89..90 => Op::Advance(random.below(20 * 3600) as u32),
        90..92 => Op::Reopen,
        92..93 => Op::SegmentKib(4 + random.below(5) as u8),
        93..98 => Op::Append {
            ip: random.below(4) as u8,
            minutes_ago: random.below(300) as i16 - 10,
            len: len(random),
        },
        _ => Op::AppendMany(random.below(4) as u8, 1 + random.below(5) as u8),
    }
}

/// A workload.
pub(crate) fn ops(random: &mut Random, count: usize) -> Vec<Op> {
    (0..count).map(|_| op(random)).collect()
}

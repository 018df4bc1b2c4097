//! Random operations from a seed, for the crash test.

use super::ops::{How, KEYS, KEYSPACES, Key, Op, TAGS, Target};
use super::random::Random;

fn key(random: &mut Random) -> Key {
    Key { space: random.below(KEYSPACES.into()) as u8, key: random.below(KEYS.into()) as u8 }
}

fn len(random: &mut Random) -> u16 {
    // Mostly small, so that segments hold several; few lengths, so that places are met again.
    let lens = [8, 8, 64, 64, 300, 900, 2500];
    lens[random.below(lens.len() as u64) as usize]
}

fn target(random: &mut Random) -> Target {
    let space = random.below(KEYSPACES.into()) as u8;
    let some = |random: &mut Random, count: u8| {
        let one = 1 << random.below(count.into());
        if random.once_in(3) { one | random.below(1 << count) as u8 } else { one }
    };
    match random.below(10) {
        0..4 => Target::Keys(space, some(random, KEYS)),
        4..6 => Target::Tags(space, some(random, TAGS)),
        6..8 => Target::Everywhere(some(random, TAGS), random.once_in(2)),
        _ => Target::Rows(random.below(TAGS.into()) as u8),
    }
}

fn how(random: &mut Random) -> How {
    match random.below(6) {
        0..2 => How::Hide,
        2..4 => How::Soften,
        _ => How::Deny(random.below(200) as u16),
    }
}

fn row_tags(random: &mut Random) -> u8 {
    if random.once_in(2) { 0 } else { random.below(1 << TAGS) as u8 }
}

/// One operation of any kind, but for those that set the clock or end the process.
pub(crate) fn op(random: &mut Random) -> Op {
    let tag = random.below(TAGS.into()) as u8;
    let space = random.below(KEYSPACES.into()) as u8;
    match random.below(130) {
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
            limit: if random.once_in(4) { 10 } else { 1440 },
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
            tags: row_tags(random),
        },
        98..100 => {
            Op::AppendMany(random.below(4) as u8, 1 + random.below(5) as u8, row_tags(random))
        }
        100..103 => Op::Buffer(random.below(4) as u8, 1 + random.below(5) as u8, row_tags(random)),
        103..105 => Op::Flush,
        105..110 => Op::Stream(random.below(4) as u8, len(random), random.below(400) as u16),
        110..119 => Op::Forget(target(random), how(random)),
        119..121 => Op::Hold(key(random)),
        121..123 => Op::LetGo,
        _ => Op::Scrub,
    }
}

/// What half of a workload is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nothing in particular.
    Mixed,
    /// Much is hidden, erased and held.
    Forgetful,
    /// The wall clock is set, and much time passes.
    Restless,
    /// There is no room on the disk.
    Crowded,
}

impl Mood {
    /// Any of them.
    pub(crate) fn any(random: &mut Random) -> Self {
        match random.below(6) {
            0..2 => Self::Mixed,
            2..4 => Self::Forgetful,
            4 => Self::Restless,
            _ => Self::Crowded,
        }
    }

    fn op(self, random: &mut Random) -> Op {
        match self {
            Self::Mixed => op(random),
            Self::Forgetful => forgetful(random),
            Self::Restless => restless(random),
            Self::Crowded => crowded(random),
        }
    }
}

fn begin(random: &mut Random) -> Op {
    Op::Begin {
        key: key(random),
        tags: random.below(1 << TAGS) as u8,
        metadata: random.once_in(2),
        expires: None,
        sync: random.once_in(2),
        limit: 1440,
    }
}

fn forgetful(random: &mut Random) -> Op {
    match random.below(20) {
        0..6 => Op::InvalidateKey(key(random)),
        6..8 => Op::Forget(target(random), how(random)),
        8 => {
            Op::InvalidateTag(random.below(KEYSPACES.into()) as u8, random.below(TAGS.into()) as u8)
        }
        9..11 => begin(random),
        11..13 => Op::Commit(random.below(4) as u8, len(random)),
        13..15 => Op::Hold(key(random)),
        15 => Op::LetGo,
        16..18 => Op::Maintain,
        18 => Op::Scrub,
        _ => Op::Insert(key(random), len(random)),
    }
}

fn restless(random: &mut Random) -> Op {
    match random.below(16) {
        0..2 => Op::SetWall(random.below(6000) as i32 - 3000),
        2 => Op::ConfirmClock,
        3..6 => Op::ResetClock,
        6..9 => Op::Advance(random.below(20 * 3600) as u32),
        9..11 => Op::Maintain,
        11 => Op::Scrub,
        12 => Op::Insert(key(random), len(random)),
        13 => Op::Reopen,
        _ => Op::Append {
            ip: random.below(4) as u8,
            minutes_ago: 0,
            len: len(random),
            tags: row_tags(random),
        },
    }
}

fn crowded(random: &mut Random) -> Op {
    match random.below(20) {
        0..3 => Op::LimitDisk(random.below(3) as u8),
        3 => Op::LiftLimit,
        4..12 => Op::Forget(target(random), how(random)),
        12..18 => Op::InvalidateKey(key(random)),
        _ => Op::Maintain,
    }
}

/// A workload.
pub(crate) fn ops(random: &mut Random, mood: Mood, count: usize) -> Vec<Op> {
    let next = |random: &mut Random| if random.once_in(2) { mood.op(random) } else { op(random) };
    (0..count).map(|_| next(random)).collect()
}

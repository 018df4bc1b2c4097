//! One workload that goes through everything.

use super::ops::{How, Key, Op, Target};
use super::world::{Config, World};

/// How to open the store: there is room for some of what the workload stores.
pub(crate) fn config(mapped: bool) -> Config {
    Config {
        mapped,
        capacity: Some(1 << 17),
        segment_bytes: 4096,
        verify_every_read: false,
        forgets: false,
    }
}

/// The workload.
pub(crate) fn ops() -> Vec<Op> {
    let key = |key| Key { space: 0, key };
    let begin = |at: u8, tags| Op::Begin {
        key: key(at),
        tags,
        metadata: true,
        expires: None,
        sync: at == 1,
        limit: 10,
    };
    let mut ops = vec![
        Op::Insert(key(0), 64),
        begin(1, 1),
        Op::Commit(0, 300),
        Op::Batch(0, vec![(2, 900), (3, 900), (4, 900), (5, 900), (6, 900)]),
        Op::Sync,
        Op::InvalidateKey(key(2)),
        begin(3, 2),
        Op::InvalidateTag(0, 0),
        Op::Commit(0, 2500),
        Op::Append { ip: 1, minutes_ago: 0, len: 64, tags: 1 },
        Op::AppendMany(2, 3, 0),
        Op::Buffer(2, 2, 2),
        Op::Insert(key(7), 2500),
        begin(5, 4),
        Op::Stream(0, 900, 64),
        Op::Forget(Target::Everywhere(0b11, true), How::Hide),
        Op::Flush,
        Op::Maintain,
        Op::Forget(Target::Tags(0, 0b100), How::Soften),
        Op::Forget(Target::Keys(0, 0b1000), How::Deny(30)),
        Op::Scrub,
        Op::Insert(key(3), 64),
        Op::Reopen,
        Op::Insert(key(7), 64),
    ];
    ops.extend((0..30).map(|at| Op::InvalidateKey(key(at % 3))));
    // Long enough for a hole, and more than there is room for.
    ops.extend((0..8).map(|at| Op::Insert(key(at), 20_000)));
    ops.extend([
        Op::InvalidateKey(key(7)),
        Op::Scrub,
        Op::InvalidateAll(0),
        Op::Maintain,
        Op::Advance(17 * 3600),
        Op::Insert(key(0), 64),
        Op::Maintain,
        Op::ReadAll,
        // Its bucket comes to its end while the machine is off.
        Op::Advance(14 * 3600),
        Op::Insert(key(1), 64),
        Op::Append { ip: 1, minutes_ago: 0, len: 64, tags: 0 },
        Op::Advance(15 * 3600),
        Op::Maintain,
        Op::Reboot(50),
        // Past the retention of the ledger.
        Op::Advance(2 * 86_400),
        Op::Maintain,
        Op::Maintain,
        Op::ReadAll,
    ]);
    ops
}

/// A store that was killed, so that opening it has much to do.
pub(crate) fn killed(config: Config) -> World {
    let mut world = World::new(config, 3);
    world.open().unwrap();
    let key = |key| Key { space: 0, key };
    world.apply(&Op::Append { ip: 1, minutes_ago: 0, len: 64, tags: 1 });
    for at in 0..30 {
        world.apply(&Op::Insert(key(at % 4), 900));
        world.apply(&Op::InvalidateKey(key(at % 3)));
    }
    world
}

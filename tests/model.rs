//! A store under random operations gives the same answers as a plain model of it in memory, through
//! full disks, clocks that jump, kills and power cuts. What fails is shrunk to few steps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ops::{How, KEYS, KEYSPACES, Key, Op, TAGS, Target};
use common::world::{Config, World};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config as Settings, FileFailurePersistence, RngSeed};

fn key() -> impl Strategy<Value = Key> {
    (0..KEYSPACES, 0..KEYS).prop_map(|(space, key)| Key { space, key })
}

fn len() -> impl Strategy<Value = u16> {
    prop_oneof![Just(8_u16), Just(64), Just(300), 6_u16..3000]
}

/// Tags of a row.
fn tags() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0_u8), 0_u8..1 << TAGS]
}

fn begin() -> impl Strategy<Value = Op> {
    let limit = prop_oneof![1 => Just(10_u16), 3 => Just(1440)];
    let about = (key(), 0_u8..1 << TAGS, option::of(0_u16..400));
    (about, any::<bool>(), any::<bool>(), limit).prop_map(
        |((key, tags, expires), metadata, sync, limit)| Op::Begin {
            key,
            tags,
            metadata,
            expires,
            sync,
            limit,
        },
    )
}

fn target() -> impl Strategy<Value = Target> {
    let rows = any::<bool>();
    prop_oneof![
        3 => (0..KEYSPACES, 1_u8..).prop_map(|(space, keys)| Target::Keys(space, keys)),
        2 => (0..KEYSPACES, 1_u8..1 << TAGS).prop_map(|(space, tags)| Target::Tags(space, tags)),
        2 => (1_u8..1 << TAGS, rows).prop_map(|(tags, rows)| Target::Everywhere(tags, rows)),
        2 => (0..TAGS).prop_map(Target::Rows),
    ]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![Just(How::Hide), Just(How::Soften), (0_u16..300).prop_map(How::Deny)]
}

fn write() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (key(), len()).prop_map(|(key, len)| Op::Insert(key, len)),
        2 => (0..KEYSPACES, vec((0..KEYS, len()), 1..8)).prop_map(|(s, items)| Op::Batch(s, items)),
        4 => begin(),
        3 => (0_u8..4, len()).prop_map(|(which, len)| Op::Commit(which, len)),
        1 => (0_u8..4, len(), 0_u16..600).prop_map(|(at, len, memory)| Op::Stream(at, len, memory)),
        1 => (0_u8..4).prop_map(Op::Abandon),
        2 => (0_u8..4, -60_i16..1200, len(), tags())
            .prop_map(|(ip, minutes_ago, len, tags)| Op::Append { ip, minutes_ago, len, tags }),
        1 => (0_u8..4, 1_u8..6, tags()).prop_map(|(ip, count, tags)| Op::AppendMany(ip, count, tags)),
        1 => (0_u8..4, 1_u8..6, tags()).prop_map(|(ip, count, tags)| Op::Buffer(ip, count, tags)),
        1 => Just(Op::Flush),
    ]
}

fn invalidate() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => key().prop_map(Op::InvalidateKey),
        3 => (0..KEYSPACES, 0..TAGS).prop_map(|(space, tag)| Op::InvalidateTag(space, tag)),
        1 => (0..KEYSPACES).prop_map(Op::InvalidateAll),
        5 => (target(), how()).prop_map(|(target, how)| Op::Forget(target, how)),
    ]
}

fn look() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => key().prop_map(Op::Read),
        2 => Just(Op::ReadAll),
        1 => key().prop_map(Op::Hold),
        1 => Just(Op::LetGo),
        1 => (0_u16..1200, 0_u16..600).prop_map(|(ago, span)| Op::Scan(ago, span)),
    ]
}

fn time() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_u32..3 * 3600).prop_map(Op::Advance),
        1 => (0_u32..3 * 86_400).prop_map(Op::Advance),
        1 => (-3000_i32..3000).prop_map(Op::SetWall),
        1 => Just(Op::ConfirmClock),
        1 => Just(Op::ResetClock),
    ]
}

fn stop() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Reopen),
        1 => (0_u16..2000).prop_map(Op::Reboot),
        3 => Just(Op::Kill),
        3 => (any::<u64>(), 0_u16..100).prop_map(|(seed, off)| Op::Crash(seed, off)),
        1 => (4_u8..9).prop_map(Op::SegmentKib),
    ]
}

fn upkeep() -> impl Strategy<Value = Op> {
    prop_oneof![3 => Just(Op::Sync), 2 => Just(Op::Maintain), 2 => Just(Op::Scrub)]
}

fn disk() -> impl Strategy<Value = Op> {
    prop_oneof![(0_u8..4).prop_map(Op::LimitDisk), Just(Op::LiftLimit)]
}

fn op(full_disk: bool) -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => write(),
        6 => invalidate(),
        6 => look(),
        4 => time(),
        3 => stop(),
        4 => upkeep(),
        if full_disk { 3 } else { 0 } => disk(),
    ]
}

fn config(capacity: bool) -> impl Strategy<Value = Config> {
    (any::<bool>(), 16_u64..24, any::<bool>()).prop_map(move |(mapped, segments, verify)| Config {
        mapped,
        capacity: capacity.then_some(segments * 8192),
        segment_bytes: 4096,
        verify_every_read: verify,
        forgets: false,
    })
}

const SEED: u64 = 20_261_121;

fn settings(cases: u32) -> Settings {
    let settings = Settings::default();
    let factor = std::env::var("EBBTIDE_MODEL_FACTOR").ok().and_then(|text| text.parse().ok());
    Settings {
        cases: cases * factor.unwrap_or(1),
        max_shrink_iters: 4000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        // The same cases every time, unless `PROPTEST_RNG_SEED` asks for others.
        rng_seed: match settings.rng_seed {
            RngSeed::Random => RngSeed::Fixed(SEED),
            given => given,
        },
        ..settings
    }
}

fn run(config: Config, ops: &[Op]) {
    let mut world = World::new(config, 1);
    world.open().unwrap();
    for op in ops {
        world.apply(op);
    }
    world.read_all();
    world.finish();
}

proptest! {
    #![proptest_config(settings(1500))]

    #[test]
    fn a_store_answers_as_its_model_does(config in config(false), ops in vec(op(false), 1..80)) {
        run(config, &ops);
    }

    #[test]
    fn a_store_with_a_capacity_answers_as_its_model_does(
        config in config(true),
        ops in vec(op(false), 1..80),
    ) {
        run(config, &ops);
    }

    #[test]
    fn a_store_on_a_full_disk_answers_as_its_model_does(
        config in config(false),
        ops in vec(op(true), 1..80),
    ) {
        run(config, &ops);
    }
}

//! The files that are kept twice in themselves.
#![cfg(test)]

use super::layout::{check, hash, header, le4, le8, word};
use crate::format::ledger::LedgerMark;
use crate::format::manifest::{OwnerManifest, StoreManifest};
use crate::format::state::State;
use crate::format::{keys, twin};
use crate::hash::SECRET_LEN;
use crate::retention::Window;
use crate::time::{Correction, SavedTime, Step};

#[test]
fn twin_files() {
    let payload = b"a payload".to_vec();
    let bytes = twin::encode_slot(*b"ebb.test", word(1), &payload).unwrap();
    let fields = vec![
        ("counter", le8(word(1))),
        ("payload length", le4(payload.len() as u32)),
        ("payload", payload),
    ];
    let fields = header(*b"ebb.test", &bytes, twin::SLOT_LEN, fields);
    check("Twin slot", &bytes, &fields, &vec![]);

    let key_secret: [u8; SECRET_LEN] = std::array::from_fn(|at| at as u8);
    let tag_secret: [u8; SECRET_LEN] = std::array::from_fn(|at| 255 - at as u8);
    let store_id = hash(0x30).0.to_le_bytes();
    let store = StoreManifest { store_id, created_ms: word(1), key_secret, tag_secret };
    let fields = vec![
        ("store id", store_id.to_vec()),
        ("created", le8(word(1))),
        ("key secret", key_secret.to_vec()),
        ("tag secret", tag_secret.to_vec()),
    ];
    check("STORE payload", &store.encode(), &fields, &vec![]);

    let key = keys::NumberedKey { number: 0x0102_0304, key: std::array::from_fn(|at| at as u8) };
    let bytes = keys::encode(&[key.clone(), key.clone()]);
    let (count, list) = bytes.split_at(4);
    let fields = vec![("key count", le4(2)), ("keys", list.to_vec())];
    assert_eq!(count, le4(2));
    check("pseudonym.keys payload", &bytes, &fields, &vec![]);
    let fields = vec![("key number", le4(key.number)), ("key", key.key.to_vec())];
    check("Numbered key", &list[..list.len() / 2], &fields, &vec![]);
}

#[test]
fn manifests_of_owners() {
    let manifest = OwnerManifest {
        owner_id: word(1),
        window: Window { window_ms: word(2), width_ms: word(3) },
        created_ms: word(4),
        segment_bytes: word(5),
        capacity_bytes: word(6),
        max_value_bytes: word(7),
        erase_within_ms: word(9),
        floor: word(8),
        name: "images".to_owned(),
    };
    let fields = vec![
        ("owner id", le8(word(1))),
        ("window", le8(word(2))),
        ("width", le8(word(3))),
        ("created", le8(word(4))),
        ("segment bytes", le8(word(5))),
        ("capacity bytes", le8(word(6))),
        ("longest value", le8(word(7))),
        ("erase within", le8(word(9))),
        ("floor", le8(word(8))),
        ("name length", le8(6)),
        ("name", b"images".to_vec()),
    ];
    check("KEYSPACE and LOG payload", &manifest.encode(), &fields, &vec![]);
}

#[test]
fn the_state() {
    let step = Step { lead_ms: word(1), agreed_ms: word(2), last_seq: word(3) };
    let state = State {
        generation: word(4),
        clean: true,
        snapshot_id: [0x50; 16],
        oldest_log: word(5),
        newest_log: word(6),
        ledger: LedgerMark {
            oldest: word(12),
            newest: word(13),
            number: word(14),
            hash: std::array::from_fn(|at| 0x80 + at as u8),
        },
        time: SavedTime {
            engine_ms: word(7),
            wall_ms: word(8),
            boot_ms: word(9),
            boot_id: [0x60; 16],
            lag_ms: word(10),
            earned_ms: word(11),
            steps: vec![step; 2],
            correction: Some(Correction { to_ms: word(15), next_number: word(16) }),
        },
    };
    let bytes = state.encode();
    let (steps, correction) = bytes[bytes.len() - 64..].split_at(48);
    let fields = vec![("corrected to", le8(word(15))), ("next number", le8(word(16)))];
    check("Clock correction", correction, &fields, &vec![]);
    let fields = vec![("lead", le8(word(1))), ("agreed", le8(word(2)))];
    let last = vec![("last sequence", le8(word(3)))];
    check("Clock step", &steps[24..], &[fields, last].concat(), &vec![]);
    let fields = vec![
        ("generation", le8(word(4))),
        ("clean", le8(1)),
        ("snapshot id", vec![0x50; 16]),
        ("oldest log", le8(word(5))),
        ("newest log", le8(word(6))),
        ("oldest ledger file", le8(word(12))),
        ("newest ledger file", le8(word(13))),
        ("ledger entries", le8(word(14))),
        ("ledger head", (0x80..0xa0).collect()),
        ("engine time", le8(word(7))),
        ("wall time", le8(word(8))),
        ("boot time", le8(word(9))),
        ("boot id", vec![0x60; 16]),
        ("lag", le8(word(10))),
        ("earned", le8(word(11))),
        ("step count", le8(2)),
        ("steps", steps.to_vec()),
        ("correction", correction.to_vec()),
    ];
    check("STATE payload", &bytes, &fields, &vec![("24 for each", le8(48))]);
}

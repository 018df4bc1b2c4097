//! What is asked of all peers alike.

use crate::peer::{Contestant, Peer, Setup, Unsupported};

const DAYS: u32 = 3;
const KEYS: u32 = 50;

fn key(day: u32, at: u32) -> Vec<u8> {
    format!("https://images.example/{day}/{at}.jpg").into_bytes()
}

fn value(setup: Setup, day: u32, at: u32, version: u8) -> Vec<u8> {
    let len = if setup.blobs { 20_000 + at as usize * 97 } else { 150 };
    let mut value = vec![version; len];
    value[..8].copy_from_slice(&(u64::from(day) << 32 | u64::from(at)).to_le_bytes());
    value
}

fn read(peer: &dyn Peer, key: &[u8]) -> Option<Vec<u8>> {
    let mut seen = Vec::new();
    let found = peer.get(key, &mut |value| seen.push(value.to_vec())).unwrap();
    assert_eq!(seen.len(), usize::from(found), "looked at once if there is one");
    seen.pop()
}

/// The first of every ten keys of a day were overwritten, the second invalidated.
fn check(peer: &dyn Peer, setup: Setup, days: std::ops::Range<u32>) {
    for day in 0..DAYS {
        for at in 0..KEYS {
            let found = read(peer, &key(day, at));
            let expected = match at % 10 {
                _ if !days.contains(&day) => None,
                0 => Some(value(setup, day, at, 2)),
                1 => None,
                _ => Some(value(setup, day, at, 1)),
            };
            assert!(found == expected, "day {day}, key {at}");
        }
    }
    assert_eq!(read(peer, b"never inserted"), None);
}

fn exercise(contestant: Contestant, setup: Setup) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let peer = match (contestant.open)(&path, setup) {
        Ok(peer) => peer,
        Err(failure) if failure.is::<Unsupported>() => return,
        Err(failure) => panic!("{failure}"),
    };
    for day in 0..DAYS {
        peer.begin_day(day).unwrap();
        let items: Vec<_> = (0..KEYS).map(|at| (key(day, at), value(setup, day, at, 1))).collect();
        let (batch, single) = items.split_at(KEYS as usize / 2);
        peer.insert_batch(batch).unwrap();
        let (durable, single) = single.split_at(3);
        for (key, value) in durable {
            match peer.insert_durable(key, value) {
                Err(failure) if failure.is::<Unsupported>() => peer.insert(key, value).unwrap(),
                outcome => outcome.unwrap(),
            }
        }
        for (key, value) in single {
            peer.insert(key, value).unwrap();
        }
        for at in (0..KEYS).step_by(10) {
            peer.insert(&key(day, at), &value(setup, day, at, 2)).unwrap();
        }
    }
    peer.sync().unwrap();
    // Of older days too.
    let gone: Vec<_> =
        (0..DAYS).flat_map(|day| (1..KEYS).step_by(10).map(move |at| key(day, at))).collect();
    peer.invalidate(&gone.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    check(&*peer, setup, 0..DAYS);
    peer.close().unwrap();
    if contestant.name == "baseline" {
        // It forgets what was invalidated.
        return;
    }

    let peer = (contestant.open)(&path, setup).unwrap();
    check(&*peer, setup, 0..DAYS);
    peer.drop_day(0).unwrap();
    check(&*peer, setup, 1..DAYS);
    peer.reclaim().unwrap();
    check(&*peer, setup, 1..DAYS);
    peer.begin_day(DAYS).unwrap();
    peer.insert(b"later", b"value").unwrap();
    peer.sync().unwrap();
    peer.close().unwrap();

    let peer = (contestant.open)(&path, setup).unwrap();
    check(&*peer, setup, 1..DAYS);
    assert_eq!(read(&*peer, b"later").as_deref(), Some(&b"value"[..]));
    peer.close().unwrap();
}

#[test]
fn every_peer_keeps_what_it_was_given() {
    for contestant in super::all() {
        for blobs in [true, false] {
            println!("{}, blobs {blobs}", contestant.name);
            exercise(
                contestant,
                Setup {
                    blobs,
                    cache_bytes: 64 << 20,
                    capacity_bytes: Some(1 << 30),
                    quiet: false,
                    days: crate::data::DAYS,
                },
            );
        }
    }
}

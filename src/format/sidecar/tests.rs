//! Tests of sidecars.

use super::entry::{FLAG_GONE, FLAG_SCRUBBED};
use super::*;
use crate::format::checksum::Seed;
use crate::format::record::{ALIGN, MIN_RECORD_LEN};
use crate::hash::KeyedHash;

fn sample(count: u64) -> (SidecarHeader, Listing) {
    let mut listing = Listing::default();
    for i in 0..count {
        let hash = KeyedHash(u128::from(i) * 77);
        let mut entry = SidecarEntry::whole(hash, i, 1024 + i * 160, 160);
        entry.set_body([Body::Whole, Body::Gone, Body::Scrubbed][i as usize % 3]);
        let count = if entry.body() == Body::Scrubbed { 0 } else { i % 6 };
        let tags: Vec<_> = (0..count).map(|tag| KeyedHash(u128::from(tag) << 96)).collect();
        listing.push(entry, &tags);
    }
    let header = SidecarHeader {
        number: 3,
        salt: 4,
        segment_len: 1024 + count * 160,
        count,
        tag_count: listing.tags.len() as u64,
        min_seq: 0,
        max_seq: count,
    };
    (header, listing)
}

#[test]
fn a_sidecar_is_read_back() {
    for count in [0, 1, 127, 128, 300] {
        let (header, listing) = sample(count);
        let bytes = encode(&header, &listing);
        assert_eq!(bytes.len() as u64, encoded_len(count, header.tag_count));
        assert_eq!(decode(&bytes).unwrap(), (header, listing));
    }
}

#[test]
fn what_is_taken_piece_by_piece_is_the_whole() {
    let (header, listing) = sample(300);
    let whole = encode(&header, &listing);
    let mut encoder = Encoder::new(&header);
    assert_eq!(encoder.take(HEADER_LEN + 1), None);
    let mut taken = Vec::new();
    let mut take = |encoder: &mut Encoder, at_least: usize| {
        let Some((offset, bytes)) = encoder.take(at_least) else { return false };
        assert_eq!(offset, taken.len() as u64);
        assert!(bytes.len() >= at_least);
        taken.extend(bytes);
        true
    };
    assert!(take(&mut encoder, HEADER_LEN));
    assert!(!take(&mut encoder, 0), "there is nothing");
    for entries in listing.entries.chunks(ENTRIES_PER_BLOCK) {
        encoder.push_entries(entries);
        take(&mut encoder, 2 * BLOCK_LEN);
    }
    for tags in listing.tags.chunks(TAGS_PER_BLOCK) {
        encoder.push_tags(tags);
    }
    assert_eq!(encoder.len(), whole.len() as u64);
    assert!(take(&mut encoder, 1));
    assert_eq!(taken, whole);
}

#[test]
fn no_more_memory_is_taken_than_the_entries_need() {
    let count = 130_000;
    let entry = |i| SidecarEntry::whole(KeyedHash(7), i, 1024 + i * 160, 160);
    let listing = Listing { entries: (0..count).map(entry).collect(), tags: Vec::new() };
    let header =
        SidecarHeader { segment_len: 1024 + count * 160, count, tag_count: 0, ..sample(0).0 };
    let (_, read) = decode(&encode(&header, &listing)).unwrap();
    assert_eq!(read.entries.capacity(), count as usize);
}

#[test]
fn any_changed_or_missing_byte_is_noticed() {
    let (header, listing) = sample(130);
    let bytes = encode(&header, &listing);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x80;
        assert!(decode(&changed).is_err(), "byte {at}");
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn of_what_was_scrubbed_no_tag_is_left_and_the_length_stays() {
    let (header, mut listing) = sample(130);
    let before = encode(&header, &listing);
    let positions = listing.entries.iter().map(|entry| entry.position).step_by(2);
    let remains: Vec<Remains> = positions
        .map(|position| Remains { position, whole_record: true, tags: [].into() })
        .collect();
    listing.note_scrubbed(&remains);
    let named = |tag: &&SidecarTag| tag.entry != u32::MAX;
    assert!(listing.tags.iter().filter(named).all(|tag| tag.entry % 2 == 1));
    assert!(listing.tags.iter().any(|tag| tag.entry != u32::MAX));
    let after = encode(&header, &listing);
    assert_eq!(after.len(), before.len());
    assert_eq!(decode(&after).unwrap().1, listing);
}

#[test]
fn entries_lie_in_their_segment_in_order_and_apart() {
    let entry = |position: u64, units: u64| {
        SidecarEntry::whole(KeyedHash(1), 1, position * ALIGN, units * ALIGN)
    };
    let fits = |entries: &[SidecarEntry], segment_len: u64| {
        let mut listing = Listing::default();
        entries.iter().for_each(|entry| listing.push(*entry, &[]));
        let count = entries.len() as u64;
        let header = SidecarHeader { segment_len, count, ..sample(0).0 };
        decode(&encode(&header, &listing)).is_ok()
    };
    // Records begin behind the header of 1,024 bytes.
    assert!(fits(&[entry(128, 20), entry(148, 20)], 1024 + 320));
    assert!(fits(&[entry(128, 20), entry(150, 20)], 5000));
    assert!(!fits(&[entry(127, 20)], 5000));
    assert!(!fits(&[entry(128, 20), entry(147, 20)], 5000));
    assert!(!fits(&[entry(148, 20), entry(128, 20)], 5000));
    let shortest = MIN_RECORD_LEN / ALIGN;
    assert!(fits(&[entry(128, shortest)], 5000));
    assert!(!fits(&[entry(128, shortest - 1)], 5000));
    assert!(!fits(&[entry(128, 20), entry(148, 20)], 1024 + 319));
    assert!(fits(&[], 1024));
    assert!(!fits(&[], 1023));
}

#[test]
fn counts_that_blocks_do_not_keep_to_do_not_pass() {
    let (header, listing) = sample(3);
    let bytes = encode(&header, &listing);
    let reads = |header: SidecarHeader| {
        let changed = encode(&header, &listing);
        assert_eq!(changed.len(), bytes.len());
        decode(&changed).is_ok()
    };
    assert!(reads(header));
    // The same blocks, called fuller than they are.
    let claim = |count: u64, tag_count: u64| {
        let head = encode(&SidecarHeader { count, tag_count, ..header }, &Listing::default());
        [&head[..HEADER_LEN], &bytes[HEADER_LEN..]].concat()
    };
    assert!(decode(&claim(header.count, header.tag_count)).is_ok());
    assert!(decode(&claim(header.count + 1, header.tag_count)).is_err());
    assert!(decode(&claim(header.count, header.tag_count + 1)).is_err());
}

#[test]
fn what_is_scrubbed_is_given_up_too_and_carries_no_tag() {
    let seed = &Seed::of_file(4, 3);
    let (header, listing) = sample(2);
    let mut bytes = encode(&header, &listing);
    let reseal = |bytes: &mut Vec<u8>| {
        let crc = seed.checksum(HEADER_LEN as u64, &[&bytes[HEADER_LEN + 4..][..4092]]);
        bytes[HEADER_LEN..][..4].copy_from_slice(&crc.to_le_bytes());
        decode(bytes).map(|(_, listing)| listing.entries[1].body())
    };
    let units_at = HEADER_LEN + BLOCK_HEAD_LEN + ENTRY_LEN + 28;
    assert_eq!(reseal(&mut bytes), Ok(Body::Gone));
    // The second entry has a tag.
    bytes[units_at..][..4].copy_from_slice(&(20 | FLAG_GONE | FLAG_SCRUBBED).to_le_bytes());
    assert_eq!(reseal(&mut bytes), Err(Unreadable::Damaged(HALF_OVERWRITTEN)));
    bytes[units_at..][..4].copy_from_slice(&(20 | FLAG_SCRUBBED).to_le_bytes());
    assert_eq!(reseal(&mut bytes), Err(Unreadable::Damaged("flags of a sidecar entry")));
    bytes[units_at..][..4].copy_from_slice(&20_u32.to_le_bytes());
    assert_eq!(reseal(&mut bytes), Ok(Body::Whole));
}

#[test]
fn a_tag_is_listed_once_a_record_and_leaves_with_the_rows_that_carry_it() {
    let tag = |number: u32| KeyedHash(u128::from(number) << 96 | 5);
    let mut listing = Listing::default();
    let whole = |seq: u64| SidecarEntry::whole(KeyedHash(seq.into()), seq, 1024 + seq * 80, 80);
    listing.push(whole(0), &[tag(1), tag(2), tag(1)]);
    listing.push(whole(1), &[tag(1)]);
    let listed = |listing: &Listing| {
        listing.tags.iter().map(|tag| (tag.fingerprint, tag.entry)).collect::<Vec<_>>()
    };
    assert_eq!(listed(&listing), [(1, 0), (2, 0), (1, 1)]);
    assert_eq!((listing.entries[1].offset(), listing.entries[1].end()), (1104, 1184));
    let remains = [Remains { position: 128, whole_record: false, tags: [2].into() }];
    listing.note_scrubbed(&remains);
    assert_eq!(listed(&listing), [(0, u32::MAX), (2, 0), (1, 1)]);
    assert_eq!(listing.scrubbed(), 0);
    let remains = [Remains { position: 138, whole_record: true, tags: [].into() }];
    listing.note_scrubbed(&remains);
    assert_eq!(listed(&listing), [(0, u32::MAX), (2, 0), (0, u32::MAX)]);
    assert_eq!(listing.scrubbed(), 1);
    assert_eq!(listing.entries[0].body(), Body::Whole);
}

#[test]
fn each_tag_is_shown_once_and_in_order_however_many_there_are() {
    for count in [1, 2, 16, 17, 1000] {
        let tags: Vec<_> = (0..2 * count).map(|i| KeyedHash((i % count) << 96 | i)).collect();
        let mut shown = Vec::new();
        for_each_fingerprint(&tags, |fingerprint| shown.push(u128::from(fingerprint)));
        assert!(shown.into_iter().eq(0..count), "{count}");
    }
}

#[test]
fn times_are_packed_side_by_side() {
    assert_eq!(pack_times(1, 2), KeyedHash(1 << 64 | 2));
    for times in [(0, 0), (3, 9), (u64::MAX, 0), (0, u64::MAX)] {
        assert_eq!(unpack_times(pack_times(times.0, times.1)), times);
    }
}

//! Sidecars.
#![cfg(test)]

use super::layout::{NUMBER, SALT, bound, check, hash, hash_bytes, header, le4, le8, word};
use crate::format::sidecar::{self, Body, Listing, SidecarEntry, SidecarHeader, SidecarTag};

#[test]
fn sidecars() {
    let entry = |first| {
        let (offset, len) = (0x0102_0304 * 8, 0x0506_0708 * 8);
        let mut entry = SidecarEntry::whole(hash(first), word(first + 16), offset, len);
        entry.set_body(Body::Scrubbed);
        entry
    };
    let tag = |first| SidecarTag { fingerprint: first, entry: first + 1 };
    let sidecar_header = SidecarHeader {
        number: NUMBER,
        salt: SALT,
        segment_len: word(1),
        count: 2,
        tag_count: 2,
        min_seq: word(2),
        max_seq: word(3),
    };
    let entries = vec![entry(0x40), entry(0x60)];
    let listing = Listing { entries, tags: vec![tag(0x0a0b_0c0d), tag(0x0102_0304)] };
    let bytes = sidecar::encode(&sidecar_header, &listing);
    let (head, blocks) = bytes.split_at(72);
    let (block, tags) = blocks.split_at(4096);
    let fields = vec![
        ("number", le8(NUMBER)),
        ("salt", le8(SALT)),
        ("segment length", le8(word(1))),
        ("count", le8(2)),
        ("tag count", le8(2)),
        ("lowest sequence", le8(word(2))),
        ("highest sequence", le8(word(3))),
    ];
    check("Sidecar header", head, &header(sidecar::MAGIC, head, 72, fields), &vec![]);
    let fields = vec![
        ("checksum", bound(72, &block[4..])),
        ("entry count", le4(2)),
        ("entries", block[16..80].to_vec()),
    ];
    check("Sidecar block", block, &fields, &vec![]);
    let fields = vec![
        ("hash", hash_bytes(hash(0x60))),
        ("sequence", le8(word(0x70))),
        ("position", le4(0x0102_0304)),
        ("units", le4(0xc506_0708)),
    ];
    check("Sidecar entry", &block[48..80], &fields, &vec![]);
    let fields = vec![
        ("checksum", bound(72 + 4096, &tags[4..])),
        ("tag entry count", le4(2)),
        ("tag entries", tags[16..32].to_vec()),
    ];
    check("Sidecar tag block", tags, &fields, &vec![]);
    let fields = vec![("fingerprint", le4(0x0102_0304)), ("entry", le4(0x0102_0305))];
    check("Sidecar tag entry", &tags[24..32], &fields, &vec![]);
}

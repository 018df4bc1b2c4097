//! Segment files.

use std::path::Path;
use std::sync::Arc;

use super::record::repair_record;
use super::rows::read_rows;
use super::{AS_IT_IS, BODIES_AS_THEY_ARE, MAPPED, repair_preamble};
use crate::disk::{Descriptors, MemoryDisk};
use crate::format::record::RecordKind;
use crate::format::segment_header::{self, CAP_OFFSET, HEADER_LEN, SegmentHeader};
use crate::format::sidecar::{self, SidecarHeader};
use crate::segment::load::{LoadError, Loaded, Purpose, Verdict, load};
use crate::segment::scan::scan;
use crate::segment::writer::segment_name;
use crate::segment::{Damage, Segment, SegmentHost};

/// A whole segment file: walked, sealed, and read record by record.
pub fn segment(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if control & AS_IT_IS == 0 {
        repair_segment(&mut bytes, control & BODIES_AS_THEY_ARE == 0);
    }
    if let Ok(header) = SegmentHeader::decode(&bytes) {
        walk(&header, &bytes);
        take_up(&header, &bytes, control & MAPPED != 0);
    }
}

fn walk(header: &SegmentHeader, bytes: &[u8]) {
    let Ok(scanned) = scan(bytes, &header.seed(), bytes.len() as u64, true) else { return };
    let mut end = HEADER_LEN;
    for entry in &scanned.listing.entries {
        assert_eq!(entry.offset(), end, "records lie one behind the other");
        end = entry.end();
    }
    assert_eq!(scanned.end, end);
    assert!(end <= HEADER_LEN.max(bytes.len() as u64));
    let header = SidecarHeader {
        number: header.number,
        salt: header.salt,
        segment_len: end,
        count: scanned.listing.entries.len() as u64,
        tag_count: scanned.listing.tags.len() as u64,
        min_seq: 0,
        max_seq: 0,
    };
    let sealed = sidecar::encode(&header, &scanned.listing);
    assert_eq!(sidecar::decode(&sealed), Ok((header, scanned.listing)));
}

/// Takes the bytes up as a file, and reads every record of it as a store does.
fn take_up(header: &SegmentHeader, bytes: &[u8], mapped: bool) {
    let disk = MemoryDisk::new(1);
    let path = Path::new("/").join(segment_name(header.number));
    let Ok(()) = disk.write_file(&path, bytes) else { return };
    let loaded = match load(&disk, &path, Purpose::Listing) {
        Ok(loaded) => loaded,
        Err(LoadError::Unborn) => return,
        Err(e) => unreachable!("its header was read: {e:?}"),
    };
    let Loaded { header, file, extent, listing, verdict, .. } = loaded;
    let host = SegmentHost {
        descriptors: Arc::new(Descriptors::new(Arc::new(disk))),
        mapped,
        always_verify: true,
        lease: Arc::default(),
        read_at_ms: Arc::default(),
    };
    let segment = Segment::new(header, path, host, file.as_ref(), extent, false);
    for entry in listing.entries {
        let view = segment.read(entry.offset());
        match &view {
            Ok(view) => {
                if view.head.kind == RecordKind::Blob {
                    assert!(view.prefix.matches(view.value()));
                } else {
                    read_rows(view.metadata(), view.value(), &header.seed(), entry.offset());
                }
            }
            Err(Damage::Erased) => {}
            Err(_) => assert!(
                verdict != Verdict::Open(None) || entry.end() <= extent.durable,
                "checked by the walk, and then {view:?}"
            ),
        }
        let _ = segment.read_prefix(entry.offset());
        let _ = segment.read_row(entry.offset() + 64, entry.len() / 8);
    }
}

fn repair_segment(bytes: &mut [u8], bodies: bool) {
    repair_preamble(bytes, segment_header::MAGIC, CAP_OFFSET as usize);
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let mut at = HEADER_LEN as usize;
    while let Some(head) = repair_record(bytes, at, &header.seed(), bodies) {
        at = at.saturating_add(head.record_len() as usize);
    }
}

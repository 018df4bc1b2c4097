//! INDEX: leaving the index of a keyspace for the next open, and taking it up.

use std::io::{ErrorKind, IoSlice};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::Recovery;
use crate::disk::{Access, DiskFile, read_full_at, write_all_at};
use crate::error::{Error, Result};
use crate::format::record::MIN_RECORD_LEN;
use crate::format::segment_header::MAX_LEN;
use crate::format::sidecar::encoded_len;
use crate::format::snapshot::{
    GROUP_SHARDS, HEADER_LEN, Snapshot, SnapshotGroup, SnapshotPlace, decode_group, encode_group,
    group_count,
};
use crate::index::{Index, Line, MAX_ORDINALS, ShardLines};
use crate::keyspace::KeyspaceCore;
use crate::owner::Owner;
use crate::parallel;
use crate::segment::Segment;

/// The file of a keyspace that holds its index after a clean close.
pub(crate) const SNAPSHOT_FILE: &str = "INDEX";

/// A snapshot may be as long as this, however little it is of: the lines of keys that have left stay for
/// a while.
const MAX_SPARE_LEN: u64 = 16 << 20;
/// Bytes of segments for each byte of a longer one. Of the shortest records a line of six is of 528.
const MIN_BYTES_PER_BYTE: u64 = 4;
/// Ordinals go on from the first one; long before they could end they begin anew.
const MAX_FIRST_ORDINAL: u32 = u32::MAX / 2;

/// Where a keyspace's snapshot lies.
pub(crate) fn snapshot_path(owner: &Owner) -> PathBuf {
    owner.dir().join(SNAPSHOT_FILE)
}

impl Recovery<'_> {
    /// The snapshot of the last close and the index in it, if that close was clean. One that takes much
    /// more memory than an index of these bytes of segments need take is not worth it.
    pub(super) fn snapshot(&self, owner: &Owner, bytes: u64) -> Option<(Snapshot, Index)> {
        let wanted = self.snapshot_id?;
        let file = self.engine.disk.open(&snapshot_path(owner), Access::Read).ok()?;
        let file_len = file.len().ok()?;
        if is_too_long(file_len, bytes) {
            return None;
        }
        let snapshot = read_snapshot(&*file, file_len)?;
        let is_of_last_close = snapshot.snapshot_id == wanted && snapshot.owner_id == owner.id;
        let first = first_ordinal(&snapshot).filter(|_| is_of_last_close)?;
        let shards = read_groups(&*file, &snapshot, file_len)?;
        Some((snapshot, Index::restore(first, shards)))
    }
}

/// What the index calls the first of the places, if it can be an index of ours.
fn first_ordinal(snapshot: &Snapshot) -> Option<u32> {
    let is_ours = snapshot.shard_count == Index::SHARD_COUNT as u64
        && snapshot.places.len() <= MAX_ORDINALS as usize
        && snapshot.places.iter().all(is_possible);
    let first = u32::try_from(snapshot.first_ordinal).ok()?;
    (is_ours && first <= MAX_FIRST_ORDINAL).then_some(first)
}

/// True if a segment can be what is said of it.
fn is_possible(place: &SnapshotPlace) -> bool {
    place.len <= MAX_LEN
        && place.records <= place.len / MIN_RECORD_LEN
        && place.live <= place.records
        && place.scrubbed <= place.records
        && place.tags <= place.len
        && place.punched <= MAX_LEN
        && place.sidecar_bytes <= encoded_len(place.records, place.tags)
}

fn read_groups(file: &dyn DiskFile, snapshot: &Snapshot, file_len: u64) -> Option<Vec<ShardLines>> {
    let mut offset = snapshot.groups_at();
    let mut groups: Vec<(u64, SnapshotGroup, usize)> = Vec::new();
    for (at, group) in snapshot.groups.iter().enumerate() {
        let shards = group_shards(at, snapshot.shard_count).len();
        groups.push((offset, *group, shards));
        offset += group.len;
    }
    let read = |(offset, group, shards): &(u64, SnapshotGroup, usize)| {
        let bytes = read_at(file, *offset, usize::try_from(group.len).ok()?)?;
        decode_group(*group, &bytes, *shards).ok()
    };
    let shards = parallel::map(&groups, parallel::threads_for(file_len), read);
    let shards: Option<Vec<Vec<ShardLines>>> = shards.into_iter().collect();
    Some(shards?.into_iter().flatten().collect())
}

/// True if a snapshot of this length is not worth reading of segments that take so many bytes.
fn is_too_long(file_len: u64, bytes: u64) -> bool {
    file_len > MAX_SPARE_LEN + bytes / MIN_BYTES_PER_BYTE
}

/// What is wrong with the snapshot of a clean close, if there is one, and with which file. That of
/// another close means nothing, and so does one that the next opening would not read.
pub(crate) fn check_snapshot(owner: &Owner, wanted: [u8; 16]) -> Option<(PathBuf, &'static str)> {
    let path = snapshot_path(owner);
    let file = match owner.engine.disk.open(&path, Access::Read) {
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        opened => opened.ok(),
    };
    let check = || {
        let file = file?;
        let file_len = file.len().ok()?;
        if is_too_long(file_len, allocated(owner)) {
            return Some(());
        }
        let snapshot = read_snapshot(&*file, file_len)?;
        if snapshot.snapshot_id != wanted {
            return Some(());
        }
        let mut offset = snapshot.groups_at();
        for (at, group) in snapshot.groups.iter().enumerate() {
            let shards = group_shards(at, snapshot.shard_count).len();
            let bytes = read_at(&*file, offset, usize::try_from(group.len).ok()?)?;
            decode_group::<Line>(*group, &bytes, shards).ok()?;
            offset += group.len;
        }
        Some(())
    };
    if check().is_some() { None } else { Some((path, "an index that cannot be read")) }
}

/// Bytes that the segments of an owner take on the disk; files may have holes.
fn allocated(owner: &Owner) -> u64 {
    let allocated = |segment: Arc<Segment>| {
        let file = owner.engine.disk.open(segment.path(), Access::Read).ok()?;
        Some(file.allocated_bytes().ok()?.min(file.len().ok()?))
    };
    owner.segments().filter_map(allocated).sum()
}

/// Everything of a snapshot but the index itself.
fn read_snapshot(file: &dyn DiskFile, file_len: u64) -> Option<Snapshot> {
    let header = read_at(file, 0, HEADER_LEN)?;
    let head = read_at(file, 0, Snapshot::head_len(&header, file_len).ok()?)?;
    Snapshot::decode(&head, file_len).ok()
}

/// Leaves what the next open can start from, taken between two writes, while every segment is sealed. So
/// what is written after it goes to a segment that it does not name.
///
/// # Errors
///
/// [`Closed`](Error::Closed) if something has been written since all was sealed, and the system's.
pub(crate) fn write_snapshot(core: &KeyspaceCore, snapshot_id: [u8; 16], as_of: u64) -> Result<()> {
    let disk = &*core.owner.engine.disk;
    let path = snapshot_path(&core.owner);
    let _ = disk.remove_file(&path);
    let file = disk.create(&path).map_err(|e| Error::io("create", &path, e))?;
    let written = core.while_sealed(|| write_all(core, &*file, snapshot_id, as_of));
    let Some(written) = written else {
        let _ = disk.remove_file(&path);
        return Err(Error::Closed);
    };
    if let Err(e) = written.and_then(|()| file.sync_data()) {
        let _ = disk.remove_file(&path);
        return Err(Error::io("write", &path, e));
    }
    core.owner.engine.sync_dir(core.owner.dir())
}

fn write_all(
    core: &KeyspaceCore,
    file: &dyn DiskFile,
    snapshot_id: [u8; 16],
    as_of: u64,
) -> std::io::Result<()> {
    let shard_count = Index::SHARD_COUNT as u64;
    let (first, places) = places(&core.owner);
    let mut snapshot = Snapshot {
        snapshot_id,
        owner_id: core.owner.id,
        as_of,
        first_ordinal: u64::from(first),
        shard_count,
        places,
        groups: vec![SnapshotGroup { hash: 0, len: 0 }; group_count(shard_count) as usize],
    };
    let mut offset = snapshot.groups_at();
    for (at, entry) in snapshot.groups.iter_mut().enumerate() {
        let shards: Vec<ShardLines> =
            group_shards(at, shard_count).map(|shard| core.index.shard_lines(shard)).collect();
        let (group, bytes) = encode_group(&shards);
        write_all_at(file, &mut [IoSlice::new(&bytes)], offset).map_err(|e| e.source)?;
        *entry = group;
        offset += group.len;
    }
    // The counts last: of what is invalidated meanwhile, a slot that is not kept must not be counted. The
    // record would be taken for one that is named, and never be erased.
    let (first, places) = self::places(&core.owner);
    if (u64::from(first), places.len()) != (snapshot.first_ordinal, snapshot.places.len()) {
        return Err(ErrorKind::InvalidData.into());
    }
    snapshot.places = places;
    write_all_at(file, &mut [IoSlice::new(&snapshot.encode())], 0).map_err(|e| e.source)
}

/// What the ordinals stand for, from the first one on.
fn places(owner: &Owner) -> (u32, Vec<SnapshotPlace>) {
    let table = owner.table.read();
    let places = table.places().map(|(number, segment)| match segment {
        None => SnapshotPlace::gone(number),
        Some(segment) => SnapshotPlace {
            number,
            len: segment.published(),
            salt: segment.header.salt,
            min_seq: segment.min_seq(),
            max_seq: segment.max_seq(),
            records: segment.records(),
            live: segment.live(),
            tags: segment.tags(),
            scrubbed: segment.scrubbed(),
            punched: segment.punched(),
            sidecar_bytes: segment.sidecar_bytes(),
        },
    });
    (table.first_live(), places.collect())
}

fn group_shards(group: usize, shard_count: u64) -> Range<usize> {
    let count = usize::try_from(shard_count).unwrap_or(0);
    let start = (group * GROUP_SHARDS).min(count);
    start..(start + GROUP_SHARDS).min(count)
}

fn read_at(file: &dyn DiskFile, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let read = read_full_at(file, &mut bytes, offset).ok()?;
    (read == len).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_segment_is_longer_or_holds_more_than_it_can() {
        let most = SnapshotPlace {
            len: MAX_LEN,
            records: MAX_LEN / MIN_RECORD_LEN,
            live: MAX_LEN / MIN_RECORD_LEN,
            tags: MAX_LEN,
            scrubbed: MAX_LEN / MIN_RECORD_LEN,
            punched: MAX_LEN,
            sidecar_bytes: encoded_len(MAX_LEN / MIN_RECORD_LEN, MAX_LEN),
            ..SnapshotPlace::default()
        };
        assert!(is_possible(&most));
        assert!(is_possible(&SnapshotPlace { sidecar_bytes: 0, ..most }));
        assert!(!is_possible(&SnapshotPlace { len: MAX_LEN + 1, ..most }));
        assert!(!is_possible(&SnapshotPlace { records: most.records + 1, ..most }));
        assert!(!is_possible(&SnapshotPlace { live: most.live + 1, ..most }));
        assert!(!is_possible(&SnapshotPlace { scrubbed: most.scrubbed + 1, ..most }));
        assert!(!is_possible(&SnapshotPlace { tags: most.tags + 1, ..most }));
        assert!(!is_possible(&SnapshotPlace { punched: MAX_LEN + 1, ..most }));
        let sidecar_bytes = most.sidecar_bytes + 1;
        assert!(!is_possible(&SnapshotPlace { sidecar_bytes, ..most }));
    }

    #[test]
    fn an_index_may_be_a_quarter_of_its_segments_and_16_mib() {
        for (bytes, longest) in [(0, 16 << 20), (4000, (16 << 20) + 1000)] {
            assert!(!is_too_long(longest, bytes) && is_too_long(longest + 1, bytes));
        }
    }

    #[test]
    fn an_index_that_cannot_be_ours_is_not_taken_for_one() {
        let most = Snapshot {
            snapshot_id: [0; 16],
            owner_id: 0,
            as_of: 0,
            first_ordinal: MAX_FIRST_ORDINAL.into(),
            shard_count: Index::SHARD_COUNT as u64,
            places: vec![SnapshotPlace::default(); MAX_ORDINALS as usize],
            groups: Vec::new(),
        };
        assert_eq!(first_ordinal(&most), Some(0x7fff_ffff));
        let (places, first) = (most.places.clone(), most.first_ordinal);
        let more = [places.clone(), vec![SnapshotPlace::default()]].concat();
        let wrong = SnapshotPlace { records: 0, live: 1, ..SnapshotPlace::default() };
        for other in [
            Snapshot { first_ordinal: first + 1, ..most.clone() },
            Snapshot { first_ordinal: first + (1 << 32), ..most.clone() },
            Snapshot { shard_count: most.shard_count - 1, ..most.clone() },
            Snapshot { shard_count: most.shard_count + 1, ..most.clone() },
            Snapshot { places: more, ..most.clone() },
            Snapshot { places: vec![wrong], ..most.clone() },
        ] {
            assert_eq!(first_ordinal(&other), None);
        }
    }

    #[test]
    fn groups_take_the_shards_in_order() {
        let of = |count: u64| (0..3).map(move |group| group_shards(group, count));
        assert!(of(4096).eq([0..64, 64..128, 128..192]));
        assert!(of(100).eq([0..64, 64..100, 100..100]));
    }
}

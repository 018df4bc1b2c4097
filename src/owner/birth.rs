//! The birth of buckets and segments.

use std::sync::Arc;
use std::time::Duration;

use super::{Owner, manifest_file};
use crate::bucket::Bucket;
use crate::disk::touch_dir;
use crate::error::{Error, Result};
use crate::format::record::{Draft, RecordKind};
use crate::format::segment_header::{HEADER_LEN, SegmentHeader};
use crate::pseudonym::{KEYS_FILE, KeyRing};
use crate::segment::part::Part;
use crate::segment::writer::{AppendError, SegmentWriter};
use crate::time::Timestamp;

/// Above this many segments, new ones are made larger instead of more numerous.
const MANY_SEGMENTS: usize = 2048;
/// The largest a segment grows for being one of many.
const MAX_SEGMENT_BYTES: u64 = 2 << 30;

/// How far the start of a bucket lies behind that of the one it stands beside.
const BESIDE: Duration = Duration::from_millis(1);

impl Owner {
    /// The start of the bucket that is written at this moment: the aligned one, unless its deadline
    /// was brought forward while it lay in a future that was wrong. Then it is one beside it, since
    /// what is written now must not leave before what is older, and stays so once the aligned one has left.
    pub(crate) fn bucket_start(&self, at: Timestamp) -> Timestamp {
        let (first, buckets) = (self.window.bucket_start(at), self.buckets.read());
        let newest = buckets.range(first..self.window.bucket_end(first)).next_back();
        newest.map_or(first, |(start, bucket)| {
            let leaves_sooner = bucket.deadline() < self.window.deadline(first);
            if leaves_sooner { *start + BESIDE } else { *start }
        })
    }

    /// The bucket of a start, if there is one.
    pub(crate) fn made_bucket(&self, start: Timestamp) -> Option<Arc<Bucket>> {
        self.buckets.read().get(&start).cloned()
    }

    /// The bucket of a start, made durable on disk if it is new. The ledger says so before its
    /// directory is made; a log's bucket gets its keys before anything else.
    pub(crate) fn bucket(&self, start: Timestamp) -> Result<Arc<Bucket>> {
        if let Some(bucket) = self.made_bucket(start) {
            return Ok(bucket);
        }
        let mut buckets = self.buckets.write();
        if let Some(bucket) = buckets.get(&start) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = Bucket::new(&self.dir, self.window, start);
        let ledger = &self.engine.write_side()?.ledger;
        ledger.bucket_born(self.engine.trusted_now(), self.in_ledger(&bucket))?;
        self.make_dir(&bucket)?;
        self.settle(&bucket).inspect_err(|_| self.unmake(&bucket))?;
        let bucket = Arc::new(bucket);
        buckets.insert(start, Arc::clone(&bucket));
        Ok(bucket)
    }

    fn make_dir(&self, bucket: &Bucket) -> Result<()> {
        let disk = &*self.engine.disk;
        match disk.create_dir(bucket.dir()) {
            // Left by an attempt before, unless it is no directory but a link to one. Its sync may have failed.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                disk.read_dir(bucket.dir()).map_err(|e| Error::io("list", bucket.dir(), e))?;
                let file = self.dir.join(manifest_file(self.kind).0).with_extension("tmp");
                touch_dir(disk, &file).map_err(|e| Error::io("create", &file, e))?;
            }
            made => made.map_err(|e| Error::io("create", bucket.dir(), e))?,
        }
        Ok(())
    }

    /// Makes the name of a bucket durable; a log's gets its keys before.
    fn settle(&self, bucket: &Bucket) -> Result<()> {
        if self.kind == RecordKind::Rows {
            if self.engine.correction().is_some() {
                // With keys alone it is told by the time from one that was made in the future which was wrong.
                self.engine.save_time()?;
            }
            bucket.set_keys(Some(self.first_keys(bucket)?));
        }
        self.engine.sync_dir(&self.dir)
    }

    /// Takes back what there is of a bucket that could not be made. If a directory was not synced, syncing it
    /// again could lie: the next attempt makes other names.
    fn unmake(&self, bucket: &Bucket) {
        let disk = &*self.engine.disk;
        let _ = disk.remove_file(&bucket.dir().join(KEYS_FILE));
        let _ = disk.remove_dir(bucket.dir());
    }

    /// The keys of a bucket that is being made. Nothing has been said under keys that an earlier
    /// attempt may have left, so those are made anew.
    fn first_keys(&self, bucket: &Bucket) -> Result<KeyRing> {
        let disk = &*self.engine.disk;
        let path = bucket.dir().join(KEYS_FILE);
        let _ = disk.remove_file(&path);
        let keys = KeyRing::create(disk, bucket.dir()).inspect_err(|_| {
            // What was put down of them would only take room.
            let _ = disk.remove_file(&path);
        })?;
        self.engine.sync_dir(bucket.dir())?;
        Ok(keys)
    }

    /// Bears a segment in a bucket, large enough for a record of this length.
    /// The bucket is taken up under the same lock, so that it is not removed for being empty.
    pub(crate) fn bear(&self, start: Timestamp, record_len: u64) -> Result<(u32, SegmentWriter)> {
        let _membership = self.membership.lock();
        let bucket = self.bucket(start)?;
        let header = self.new_header(&bucket, self.segment_capacity(record_len))?;
        let disk = &*self.engine.disk;
        let writer = SegmentWriter::create(disk, bucket.dir(), header, &self.engine.host)?;
        let ordinal = self.table.push(writer.segment());
        Ok((ordinal, writer))
    }

    /// Lets a finished part be the newest segment, in this bucket, durably.
    pub(crate) fn bear_whole(
        &self,
        start: Timestamp,
        part: &mut Part,
        draft: &Draft<'_>,
    ) -> Result<(u32, SegmentWriter), AppendError> {
        let _membership = self.membership.lock();
        let bucket = self.bucket(start).map_err(AppendError::Refused)?;
        let record_len = draft.record_len_around(part.value_len() as usize);
        let header = self.new_header(&bucket, HEADER_LEN + record_len);
        let header = header.map_err(AppendError::Refused)?;
        let made = part.make_segment(bucket.dir(), header, draft, &self.engine.host);
        if let Err(AppendError::Broken(_)) = &made {
            self.note_undurable(Some(draft.seq));
        }
        let writer = made?;
        let ordinal = self.table.push(writer.segment());
        Ok((ordinal, writer))
    }

    /// The header of the next segment. It stays no longer than what is written into the present
    /// bucket: rows may have been meant for one in a future that has turned out to be wrong since.
    fn new_header(&self, bucket: &Bucket, capacity: u64) -> Result<SegmentHeader> {
        let present = self.window.bucket_start(self.engine.trusted_now());
        bucket.lower_deadline(self.window.deadline(present));
        let mut salt = [0; 8];
        let disk = &*self.engine.disk;
        disk.fill_random(&mut salt)
            .map_err(|e| Error::io("read randomness for", bucket.dir(), e))?;
        Ok(SegmentHeader {
            store_id: self.engine.store_id,
            owner_id: self.id,
            number: self.engine.next_number(),
            generation: self.engine.generation,
            kind: self.kind,
            salt: u64::from_le_bytes(salt),
            bucket_start_ms: bucket.start.as_millis(),
            bucket_end_ms: bucket.end.as_millis(),
            deadline_ms: bucket.deadline().as_millis(),
            capacity,
        })
    }

    /// The length a segment for a record of this length may grow to.
    pub(crate) fn segment_capacity(&self, record_len: u64) -> u64 {
        let base = self.manifest.lock().1.segment_bytes;
        let crowd = self.table.read().len() / MANY_SEGMENTS;
        let grown = base.saturating_mul(1 << crowd.min(10)).min(MAX_SEGMENT_BYTES.max(base));
        grown.max(HEADER_LEN + record_len)
    }
}

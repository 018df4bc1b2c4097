//! Buckets of an owner whose options are lost: they leave once nothing says that they are to stay.

use std::path::Path;

use super::buckets::{is_segment, parts};
use super::{Recovery, touch};
use crate::disk::{DirEntry, EntryKind};
use crate::error::{Error, Result};
use crate::format::ledger::How;
use crate::ledger::{DropNote, LedgerBucket};
use crate::segment::writer::{parse_segment_name, segment_name};
use crate::time::Timestamp;
use crate::trash::{TrashItem, trash_name};

impl Recovery<'_> {
    /// Moves the buckets of an owner without a manifest to the trash once the deadlines that their
    /// segments state have passed. Where there is no segment nothing states one, and nothing was said
    /// under its keys: it goes at once.
    pub(super) fn drop_orphans(&mut self, manifest: &Path) -> Result<()> {
        if self.engine.is_read_only() {
            return Ok(());
        }
        let owner_dir = manifest.parent().unwrap_or(manifest);
        let disk = &*self.engine.disk;
        let now = self.engine.written_time();
        // What left from here may be back after a power cut, and the ledger be told that it is gone.
        if self.snapshot_id.is_none() {
            touch(disk, &manifest.with_extension("tmp"))?;
        }
        self.engine.sync_dir(owner_dir)?;
        let entries = disk.read_dir(owner_dir).map_err(|e| Error::io("list", owner_dir, e))?;
        for path in parts(owner_dir, &entries) {
            // One that stays is met again by the next open.
            let _ = disk.remove_file(&path);
        }
        for entry in entries {
            let path = owner_dir.join(&entry.name);
            if let Some(bucket) = self.orphan(&path, &entry).filter(|o| o.deadline <= now) {
                self.drop_orphan(owner_dir, &path, &entry.name, bucket)?;
            }
        }
        Ok(())
    }

    /// What is known of a bucket whose owner is not.
    fn orphan(&self, path: &Path, entry: &DirEntry) -> Option<LedgerBucket> {
        let files = self.engine.disk.read_dir(path).ok()?;
        let numbers = files.iter().filter_map(|file| parse_segment_name(&file.name));
        let found = numbers.map(|number| (number, self.stated(&path.join(segment_name(number)))));
        let mut segments =
            found.filter(|(number, stated)| is_segment(*number, stated, &files)).peekable();
        if segments.peek().is_none() {
            let start = Timestamp::from_compact(&entry.name)?;
            return Some(LedgerBucket {
                owner_id: 0,
                start,
                kind: None,
                deadline: Timestamp::default(),
            });
        }
        let own = segments.filter_map(|(number, stated)| {
            // With one that cannot be read now it may stay for longer.
            stated.ok()?.header.filter(|header| header.number == number)
        });
        let header = own.min_by_key(|header| header.deadline_ms)?;
        Some(LedgerBucket {
            owner_id: header.owner_id,
            start: Timestamp::from_millis(header.bucket_start_ms),
            kind: Some(header.kind),
            deadline: Timestamp::from_millis(header.deadline_ms),
        })
    }

    fn drop_orphan(
        &self,
        owner_dir: &Path,
        path: &Path,
        name: &str,
        bucket: LedgerBucket,
    ) -> Result<()> {
        let side = self.engine.write_side()?;
        let disk = &*self.engine.disk;
        let (owner_id, instance) = (bucket.owner_id, self.engine.next_number());
        let to = side.trash.dir().join(trash_name(owner_id, name, instance));
        let counts = self.count_unread(path);
        side.trash.take_in(path, &to)?;
        self.engine.sync_dir(owner_dir)?;
        self.engine.sync_dir(side.trash.dir())?;
        side.trash.push(TrashItem::unread(disk, to, EntryKind::Directory, owner_id));
        // Whose it was, if no segment says so, the ledger alone may know.
        if owner_id != 0 {
            let how = How::Witnessed;
            let note = DropNote { bucket, how, instance, counts, unsynced: Vec::new() };
            side.ledger.bucket_dropped(self.engine.trusted_now(), note);
        }
        Ok(())
    }
}

//! Verifying keyspaces and logs: manifests, pseudonym keys, segments and their sidecars.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::{NOT_ZERO, Verify, text};
use crate::disk::{Access, DiskFile, read_full_at};
use crate::error::Error;
use crate::format::keys;
use crate::format::record::RecordKind;
use crate::format::segment_header::{HEADER_LEN, SegmentHeader};
use crate::format::sidecar::{Body, HALF_OVERWRITTEN, Listing, UNFINISHED_ROWS};
use crate::owner::{Owner, manifest_file};
use crate::pseudonym::KEYS_FILE;
use crate::segment::Segment;
use crate::segment::load::{LoadError, read_header};
use crate::segment::sidecar::{Sidecar, read_sidecar, sidecar_path};
use crate::segment::walker::{Found, Walker};

impl Verify<'_> {
    pub(super) fn owner(&mut self, owner: &Owner) {
        let (name, magic) = manifest_file(owner.kind);
        self.twice(|verify| verify.twin(&owner.dir().join(name), magic));
        if owner.kind == RecordKind::Rows {
            let buckets: Vec<_> = owner.buckets.read().values().cloned().collect();
            for bucket in buckets {
                let path = bucket.dir().join(KEYS_FILE);
                self.unless_left(
                    |verify| verify.twin(&path, keys::MAGIC),
                    |verify| {
                        let left = || !owner.buckets.read().contains_key(&bucket.start);
                        owner.between_moves(left) || verify.has_left(&path)
                    },
                );
            }
        }
        for segment in owner.segments() {
            // A bucket may leave while it is walked.
            self.unless_left(
                |verify| verify.segment(owner, &segment),
                |verify| {
                    owner.between_moves(|| segment.has_left()) || verify.has_left(segment.path())
                },
            );
        }
    }

    /// True if a file that was there when this store was opened to be looked at is there no more: the
    /// process that writes has dropped or evicted it.
    fn has_left(&self, path: &Path) -> bool {
        let opened =
            || self.disk().open(path, Access::Read).map_err(|e| Error::io("open", path, e));
        self.engine.is_read_only() && opened().is_err_and(|e| e.is_not_found())
    }

    fn segment(&mut self, owner: &Owner, segment: &Segment) {
        let path = segment.path();
        let len = segment.published();
        self.report.files += 1;
        (self.progress)(path, len);
        let file = match self.disk().open(path, Access::Read) {
            Ok(file) => file,
            Err(e) => return self.failed(path, &Error::io("open", path, e)),
        };
        if let Err(error) = read_header(&*file, path) {
            self.unreadable(path, &error);
            if matches!(error, LoadError::Failed(_)) {
                return;
            }
        }
        if file.len().is_ok_and(|file_len| file_len < len) {
            self.problem(path, file.len().unwrap_or(0), "file cut short");
        }
        // First of all: what it says has been overwritten then is.
        let listing = self.sidecar(owner, segment);
        let looked = self
            .header(path, &*file)
            .and_then(|()| self.records(segment, &*file, len, listing.as_ref()));
        if let Err(e) = looked {
            self.failed(path, &Error::io("read", path, e));
        }
    }

    fn header(&mut self, path: &Path, file: &dyn DiskFile) -> io::Result<()> {
        let mut header = [0; HEADER_LEN as usize];
        read_full_at(file, &mut header, 0)?;
        if let Some(at) = SegmentHeader::find_unused(&header) {
            self.problem(path, at, NOT_ZERO);
        }
        Ok(())
    }

    fn records(
        &mut self,
        segment: &Segment,
        file: &dyn DiskFile,
        len: u64,
        listing: Option<&Listing>,
    ) -> io::Result<()> {
        let path = segment.path();
        let erased = Erased::of(listing, self.closed_as().is_some());
        let mut walker = Walker::new(file, &segment.seed, len);
        for at in 0.. {
            let Some(step) = walker.next()? else { break };
            let found = match step {
                Ok(found) => found,
                Err(unreadable) => {
                    self.problem(path, walker.offset(), text(unreadable));
                    return Ok(());
                }
            };
            self.report.records += 1;
            self.report.bytes += found.head.record_len();
            if let Err(unreadable) = walker.checked(found, Walker::check)? {
                self.problem(path, found.offset, text(unreadable));
            } else if walker.find_unused(&found, erased.is_wiped(&found, at))?.is_some() {
                // It may have been changed meanwhile, as may what is said of it.
                walker.look_anew();
                let erased = Erased::of(listing, self.closed_as().is_some());
                if let Some(at) = walker.find_unused(&found, erased.is_wiped(&found, at))? {
                    self.problem(path, at, NOT_ZERO);
                }
            }
        }
        Ok(())
    }

    /// What the sidecar lists, if there is one that can be read. There is none while the segment is
    /// written, and none if the disk was full.
    fn sidecar(&mut self, owner: &Owner, segment: &Segment) -> Option<Listing> {
        let path = sidecar_path(segment.path());
        let disk = &*self.engine.disk;
        let read = || match disk.open(&path, Access::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => Some(Err(Error::io("open", &path, e).into())),
            Ok(file) => Some(read_sidecar(&*file, &path, true)),
        };
        let mut found = read()?;
        self.report.files += 1;
        if found.is_err() {
            // It may have been overwritten meanwhile.
            found = owner.between_sealings(read)?;
        }
        match found {
            Ok(Sidecar { header, listing, .. })
                if header.number == segment.number() && header.salt == segment.header.salt =>
            {
                return Some(listing);
            }
            Ok(_) => self.problem(&path, 0, "sidecar of another segment"),
            // That is under way in another process, or was refused or cut short, and is done again.
            Err(LoadError::Damaged(HALF_OVERWRITTEN)) => {}
            Err(error) => self.unreadable(&path, &error),
        }
        None
    }

    fn unreadable(&mut self, path: &Path, error: &LoadError) {
        match error {
            LoadError::Damaged(what) => self.problem(path, 0, what),
            LoadError::Version(_) => self.problem(path, 0, "version"),
            LoadError::Unborn => self.problem(path, 0, "file cut short"),
            LoadError::Failed(e) => self.failed(path, e),
        }
    }
}

/// What is known of that which has been erased in a segment.
struct Erased<'a> {
    listing: Option<&'a Listing>,
    /// Blocks with rows that may not have been overwritten.
    unfinished: BTreeSet<u32>,
    /// True if nobody can be erasing now.
    closed: bool,
}

impl<'a> Erased<'a> {
    fn of(listing: Option<&'a Listing>, closed: bool) -> Self {
        let tags = listing.into_iter().flat_map(|listing| &listing.tags);
        let unfinished = tags.filter(|tag| tag.fingerprint == UNFINISHED_ROWS);
        Self { listing, unfinished: unfinished.map(|tag| tag.entry).collect(), closed }
    }

    /// True if whatever has been erased of a record is certain to have been overwritten.
    fn is_wiped(&self, found: &Found, at: usize) -> bool {
        let entry = self.listing.and_then(|listing| listing.entries.get(at));
        entry.is_some_and(|entry| match found.head.kind {
            RecordKind::Blob => entry.body() == Body::Scrubbed,
            RecordKind::Rows => self.closed && !self.unfinished.contains(&(at as u32)),
        })
    }
}

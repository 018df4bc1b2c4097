//! What a file system is known to do with bytes that are to be gone, found out by asking and trying.
//!
//! Whoever says that something was erased has to know where an overwrite went. This module answers
//! for the file system alone, and claims nothing that it does not know; what the device below does is
//! not its business.

use std::io;
use std::path::Path;

/// What the file system of a directory does with bytes that are to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// What the system calls the file system, such as `xfs`; its magic number, such as
    /// `0x1234abcd`, if that is not known here. ext2, ext3 and ext4 share a number and are
    /// `ext2/3/4`.
    pub file_system: String,
    /// [`DiskFile::punch_hole`](super::DiskFile::punch_hole) gives space back: it was tried out in
    /// this directory. Where that could not be tried because the disk is full, it is what this file
    /// system is known to do.
    pub punches_holes: bool,
    /// Overwriting a byte of a file overwrites the place where it lies on the device, or, below
    /// `tmpfs` and `ramfs`, in memory.
    ///
    /// True only of file systems known to work so: ext2, ext3, ext4, XFS, JFS, FAT and exFAT, HFS+,
    /// tmpfs and ramfs. False of those that write elsewhere (Btrfs, ZFS, bcachefs, F2FS, NILFS,
    /// APFS), of those that hide what is below them (overlayfs, FUSE, NFS, SMB, Ceph, 9P), and of
    /// all others. It says nothing about what is below the file system: snapshots and thin volumes
    /// of a volume manager, disk images, and flash keep old copies of overwritten blocks.
    pub overwrites_in_place: bool,
}

impl Capabilities {
    /// Those of a file system of this name that is known to do nothing of the kind; the fields can
    /// be set.
    pub fn new(file_system: impl Into<String>) -> Self {
        let file_system = file_system.into();
        Self { file_system, punches_holes: false, overwrites_in_place: false }
    }
}

impl Default for Capabilities {
    /// Those of a file system that nothing is known of.
    fn default() -> Self {
        Self::new("unknown")
    }
}

/// Names of those that overwrite in place.
const IN_PLACE: &[&str] =
    &["ext2/3/4", "xfs", "jfs", "vfat", "exfat", "hfs", "msdos", "tmpfs", "ramfs"];

/// Asks for the file system of a directory and tries out what can be tried.
pub(super) fn find_out(dir: &Path) -> io::Result<Capabilities> {
    let (file_system, punches_holes) = system::find_out(dir)?;
    let overwrites_in_place = IN_PLACE.contains(&file_system.as_str());
    Ok(Capabilities { file_system, punches_holes, overwrites_in_place })
}

#[cfg(target_os = "linux")]
mod system {
    //! Linux: holes.

    use std::fs::OpenOptions;
    use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

    use rustix::fs::OFlags;

    use super::super::file_system::name_of;
    use super::super::real::{flags, punch};
    use super::{Path, io};
    use crate::error::is_full;

    /// Those that punch holes, for when it cannot be tried. ext2 and ext3 are not told apart from
    /// ext4, which also punches them in files laid out the old way.
    const PUNCHING: &[&str] = &["ext2/3/4", "xfs", "btrfs", "bcachefs", "f2fs", "tmpfs"];

    /// File systems with larger blocks are not tried out.
    const MAX_BLOCK: u64 = 64 << 10;

    pub(super) fn find_out(dir: &Path) -> io::Result<(String, bool)> {
        let found = rustix::fs::statfs(dir)?;
        let file_system = name_of(&found);
        let block = (found.f_bsize as u64).clamp(4096, MAX_BLOCK);
        let punches_holes = conclude(try_out(dir, block), &file_system);
        Ok((file_system, punches_holes))
    }

    pub(super) fn conclude(tried: io::Result<bool>, file_system: &str) -> bool {
        match tried {
            Ok(punched) => punched,
            Err(error) => is_full(&error) && PUNCHING.contains(&file_system),
        }
    }

    /// Writes two blocks to a file without a name, and punches out the first: true if it then takes
    /// less space and reads as zeros.
    fn try_out(dir: &Path, block: u64) -> io::Result<bool> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = options.custom_flags(flags(OFlags::TMPFILE | OFlags::CLOEXEC)).open(dir)?;
        let mut bytes = vec![0xff; block as usize];
        file.write_all_at(&bytes, 0)?;
        file.write_all_at(&bytes, block)?;
        let before = file.metadata()?.blocks();
        while let Err(error) = punch(&file, 0, block) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let shrank = file.metadata()?.blocks() < before;
        file.read_exact_at(&mut bytes, 0)?;
        Ok(shrank && bytes.iter().all(|&byte| byte == 0))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! macOS: the name alone; holes are not punched here.

    use super::super::file_system::name_of;
    use super::{Path, io};

    pub(super) fn find_out(dir: &Path) -> io::Result<(String, bool)> {
        Ok((name_of(&rustix::fs::statfs(dir)?), false))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, RealDisk};
    use super::*;

    #[test]
    fn a_directory_is_asked_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let found = RealDisk.capabilities(dir.path()).unwrap();
        assert!(!found.file_system.is_empty());
        assert_eq!(found, RealDisk.capabilities(dir.path()).unwrap());
        assert!(RealDisk.read_dir(dir.path()).unwrap().is_empty());
        let missing = RealDisk.capabilities(&dir.path().join("missing"));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn holes_are_punched_where_everybody_knows_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let found = RealDisk.capabilities(dir.path()).unwrap();
        if ["ext2/3/4", "xfs", "tmpfs"].contains(&found.file_system.as_str()) {
            assert!(found.punches_holes && found.overwrites_in_place, "{found:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_not_known_is_not_claimed() {
        for name in ["btrfs", "zfs", "bcachefs", "f2fs", "overlayfs", "nfs", "fuse", "apfs"] {
            assert!(!IN_PLACE.contains(&name), "{name}");
        }
        let new = Capabilities::new("mine");
        assert!(!new.punches_holes && !new.overwrites_in_place);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_full_disk_is_taken_at_its_name() {
        let full = || Err(io::ErrorKind::StorageFull.into());
        assert!(system::conclude(full(), "xfs"));
        assert!(!system::conclude(full(), "nfs"));
        assert!(!system::conclude(Err(io::ErrorKind::Unsupported.into()), "xfs"));
        assert!(!system::conclude(Ok(false), "xfs"));
        assert!(system::conclude(Ok(true), "0x12345678"));
    }
}

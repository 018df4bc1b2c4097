//! What the system calls a file system, and whether it is this machine's alone.
//!
//! A store relies on locks that hold, on syncs that reach the disk, and on bytes that nobody changes
//! beside it. None of that is certain where other machines write to the same files, or where a server
//! stands in between.

use std::io;
use std::path::Path;

use rustix::fs::StatFs;

pub(super) use system::name_of;

/// The name of the file system of a directory, if other machines may change it, or if nobody can say.
/// One that is not known by its number is taken for this machine's alone.
pub(super) fn find_remote(dir: &Path) -> io::Result<Option<String>> {
    let found = rustix::fs::statfs(dir)?;
    Ok(system::is_remote(&found).then(|| name_of(&found)))
}

#[cfg(target_os = "linux")]
mod system {
    //! Linux: by number.

    use super::StatFs;

    /// The numbers `statfs` gives, most of them as in `linux/magic.h`; they are fixed parts of the
    /// system's interface.
    const LOCAL: &[(u32, &str)] = &[
        (0x0000_ef53, "ext2/3/4"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x2fc1_2fc1, "zfs"),
        (0xca45_1a4e, "bcachefs"),
        (0xf2f5_2010, "f2fs"),
        (0x0000_3434, "nilfs2"),
        (0x3153_464a, "jfs"),
        (0x0000_4d44, "vfat"),
        (0x2011_bab0, "exfat"),
        (0x0102_1994, "tmpfs"),
        (0x8584_58f6, "ramfs"),
        (0x794c_7630, "overlayfs"),
    ];

    /// Those beyond a network, those that several machines share, those that show a virtual machine
    /// what its host has, and those behind a process, of which nobody can say what they are.
    const REMOTE: &[(u32, &str)] = &[
        (0x0000_6969, "nfs"),
        (0x0000_517b, "smb"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb2"),
        (0x0000_564c, "ncpfs"),
        (0x7375_7245, "coda"),
        (0x5346_414f, "afs"),
        (0x6b41_4653, "kafs"),
        (0x00c3_6400, "ceph"),
        (0x0bd0_0bd0, "lustre"),
        (0x1983_0326, "beegfs"),
        (0x2003_0528, "orangefs"),
        (0xaad7_aaea, "panfs"),
        (0x4750_4653, "gpfs"),
        (0x0116_1970, "gfs2"),
        (0x7461_636f, "ocfs2"),
        (0x0102_1997, "9p"),
        (0x786f_4256, "vboxsf"),
        (0xbacb_acbc, "vmhgfs"),
        (0x7c7c_6673, "prl_fs"),
        (0x6573_5546, "fuse"),
    ];

    pub(in crate::disk) fn name_of(found: &StatFs) -> String {
        name(number_of(found))
    }

    pub(super) fn is_remote(found: &StatFs) -> bool {
        is_remote_number(number_of(found))
    }

    /// The field's type differs between machines; all numbers have 32 bits.
    fn number_of(found: &StatFs) -> u32 {
        found.f_type as u32
    }

    pub(super) fn name(number: u32) -> String {
        let known = LOCAL.iter().chain(REMOTE).find(|(known, _)| *known == number);
        known.map_or_else(|| format!("{number:#010x}"), |(_, name)| (*name).to_owned())
    }

    pub(super) fn is_remote_number(number: u32) -> bool {
        REMOTE.iter().any(|(known, _)| *known == number)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! macOS: the system itself says which are local.

    use super::StatFs;

    /// `MNT_LOCAL`: stored on this machine.
    const LOCAL: u32 = 0x1000;

    pub(in crate::disk) fn name_of(found: &StatFs) -> String {
        let name = found.f_fstypename.iter().take_while(|&&byte| byte != 0);
        name.map(|byte| char::from(byte.cast_unsigned())).collect()
    }

    pub(super) fn is_remote(found: &StatFs) -> bool {
        found.f_flags & LOCAL == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        find_remote(dir.path()).unwrap();
        let missing = find_remote(&dir.path().join("missing"));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_others_may_change_is_told_by_its_number() {
        for (number, name) in [
            (0x6969, "nfs"),
            (0xfe53_4d42, "smb2"),
            (0x0102_1997, "9p"),
            (0x6573_5546, "fuse"),
            (0x0116_1970, "gfs2"),
        ] {
            assert_eq!(system::name(number), name);
            assert!(system::is_remote_number(number), "{name}");
        }
        for (number, name) in [
            (0xef53, "ext2/3/4"),
            (0x9123_683e, "btrfs"),
            (0x0102_1994, "tmpfs"),
            (0x794c_7630, "overlayfs"),
            (0x12_abcd, "0x0012abcd"),
        ] {
            assert_eq!(system::name(number), name);
            assert!(!system::is_remote_number(number), "{name}");
        }
    }
}

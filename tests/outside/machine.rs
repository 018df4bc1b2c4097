//! A machine whose power can be cut: a file system in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// XFS does not go below 300 MiB.
const XFS_BYTES: u64 = 300 << 20;
const EXT4_BYTES: u64 = 64 << 20;

/// A file system in a file, mounted.
pub(crate) struct Machine {
    image: PathBuf,
    pub(crate) mounted: PathBuf,
    /// What the kernel says of the device: the counts of what has been written to it.
    counts: PathBuf,
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

impl Machine {
    /// Makes an empty file system.
    pub(crate) fn format(dir: &Path, file_system: &str) {
        let bytes = if file_system == "xfs" { XFS_BYTES } else { EXT4_BYTES };
        let image = dir.join("image");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let blocks: &[&str] = if file_system == "ext4" { &["-b", "4096"] } else { &[] };
        run(Command::new(format!("mkfs.{file_system}")).arg("-q").args(blocks).arg(image));
    }

    /// Mounts what is on the disk, as after a power cut.
    pub(crate) fn start(dir: &Path) -> Self {
        let (image, mounted) = (dir.join("image"), dir.join("mounted"));
        let _ = fs::create_dir(&mounted);
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &mounted]));
        let output = Command::new("losetup").arg("-j").arg(&image).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let device = said.split(':').next().unwrap().rsplit('/').next().unwrap();
        let counts = Path::new("/sys/block").join(device).join("stat");
        Self { image, mounted, counts }
    }

    /// Sectors written, and requests under way.
    fn written(&self) -> (u64, u64) {
        let counts = fs::read_to_string(&self.counts).unwrap();
        let counts: Vec<u64> = counts.split_whitespace().map(|n| n.parse().unwrap()).collect();
        (counts[6], counts[8])
    }

    /// What is on the disk at one moment, while the process that writes is stopped. A copy during
    /// which the kernel wrote is no moment.
    pub(crate) fn copy(&self, to: &Path) {
        for _ in 0..100 {
            let before = self.written();
            fs::copy(&self.image, to).unwrap();
            if before.1 == 0 && before == self.written() {
                return;
            }
        }
        panic!("the kernel does not stop writing");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        unmount(&self.mounted);
    }
}

/// Unmounts a file system, which must not stay behind.
pub(crate) fn unmount(mounted: &Path) {
    let status = Command::new("umount").arg(mounted).status().unwrap();
    assert!(status.success() || std::thread::panicking(), "{} stays mounted", mounted.display());
}

/// Sends a signal to a process.
pub(crate) fn signal(process: u32, signal: &str) {
    run(Command::new("kill").args([signal, &process.to_string()]));
}

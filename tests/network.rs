//! A store on a file system that other machines may change is refused, unless it is asked for.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebbtide::disk::{
    Access, Capabilities, DirEntry, Disk, DiskFile, LockOutcome, MemoryDisk, RealDisk,
};
use ebbtide::{Error, Result, Store, StoreBuilder};

use fixture::{MODES, clock, open, quiet, try_open};

/// A disk on which everything below `/mnt` is on a server.
#[derive(Debug, Clone)]
struct Mounted(MemoryDisk);

impl Disk for Mounted {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.read_dir(path)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path, access)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.0.lock(path)
    }
    fn fill_random(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.0.fill_random(buffer)
    }
    fn capabilities(&self, dir: &Path) -> io::Result<Capabilities> {
        self.0.capabilities(dir)
    }
    fn remote_file_system(&self, dir: &Path) -> io::Result<Option<String>> {
        // As the system does, it answers for directories that are there only.
        self.0.read_dir(dir)?;
        Ok(dir.starts_with("/mnt").then(|| "nfs".to_owned()))
    }
}

fn mounted() -> Mounted {
    let disk = MemoryDisk::new(1);
    disk.create_dir(Path::new("/mnt")).unwrap();
    Mounted(disk)
}

fn builder(disk: &Mounted, path: &str) -> StoreBuilder {
    quiet(Store::builder(path).disk(disk.clone()), &clock())
}

#[track_caller]
fn refused(opened: Result<Store>, at: &str) {
    match opened {
        Err(ref error @ Error::NetworkFileSystem { ref path, ref file_system }) => {
            assert_eq!((path, file_system.as_str()), (&PathBuf::from(at), "nfs"));
            let told = error.to_string();
            assert!(told.contains(at) && told.contains("nfs") && told.contains("local"), "{told}");
        }
        other => panic!("{at}: {other:?}"),
    }
}

#[test]
fn a_store_on_a_server_is_refused_and_nothing_is_made_there() {
    for at in ["/mnt/data", "/mnt/some/where/data", "/mnt"] {
        let disk = mounted();
        for mapped in MODES {
            refused(try_open(builder(&disk, at), mapped), at);
        }
        refused(builder(&disk, at).open_read_only(), at);
        assert!(disk.read_dir(Path::new("/mnt")).unwrap().is_empty());
    }
}

#[test]
fn it_is_opened_if_that_is_asked_for() {
    let disk = mounted();
    let store = open(builder(&disk, "/mnt/data").allow_network_file_system(true), false);
    store.close().unwrap();
    refused(builder(&disk, "/mnt/data").open(), "/mnt/data");
    refused(builder(&disk, "/mnt/data").open_read_only(), "/mnt/data");
    let look = builder(&disk, "/mnt/data").allow_network_file_system(true).open_read_only();
    look.unwrap().verify().unwrap();
}

#[test]
fn what_lies_beside_it_is_opened() {
    let disk = mounted();
    for at in ["/data", "/some/where/else"] {
        open(builder(&disk, at), false).close().unwrap();
        builder(&disk, at).open_read_only().unwrap();
    }
}

#[test]
fn the_real_disk_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let remote = RealDisk.remote_file_system(dir.path()).unwrap();
    let opened = quiet(Store::builder(dir.path().join("data")), &clock()).open();
    match (remote, opened) {
        (None, Ok(_)) => {}
        (Some(name), Err(Error::NetworkFileSystem { file_system, .. })) => {
            assert_eq!(name, file_system);
        }
        other => panic!("{other:?}"),
    }
}

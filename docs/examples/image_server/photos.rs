//! The folder of photos. Names come from the network, so only plain file names lead anywhere.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What may be served; anything else in the folder is not there.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];
/// The longest file name that file systems have.
const MAX_NAME_LEN: usize = 255;

/// A folder of photos.
#[derive(Debug, Clone)]
pub(crate) struct Photos {
    dir: PathBuf,
}

impl Photos {
    /// Takes a folder, which must be there.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::read_dir(&dir)?;
        Ok(Self { dir })
    }

    /// The names of all photos, ordered.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            names.extend(name.to_str().filter(|name| self.path(name).is_some()).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Where the photo of this name is, if there is one.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let path = is_plain_name(name).then(|| self.dir.join(name))?;
        // Not following links: what is served lies in the folder itself.
        path.symlink_metadata().is_ok_and(|found| found.is_file()).then_some(path)
    }
}

/// True if this can be the name of a photo in the folder, and of nothing outside of it.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let path = Path::new(name);
    let mut components = path.components();
    let alone = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(only)), None) if only == OsStr::new(name)
    );
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    alone
        && name.len() <= MAX_NAME_LEN
        && !name.starts_with('.')
        && !name.contains(['\\', '\0'])
        && extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

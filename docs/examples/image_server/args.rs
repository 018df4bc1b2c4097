//! The command line.

use std::fmt;
use std::path::PathBuf;

/// What can be asked for.
pub(crate) const USAGE: &str = "\
usage: image_server [--port N] [--photos DIR] [--data DIR]

  --port N      listen on 127.0.0.1:N; 0 takes any free port (8080)
  --photos DIR  the folder of photos to serve (tests/data/photos)
  --data DIR    the store's directory, made and seeded if missing (target/image-server-data)";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Args {
    /// The port to listen on; 0 for any.
    pub(crate) port: u16,
    /// The folder of photos.
    pub(crate) photos: PathBuf,
    /// The store's directory.
    pub(crate) data: PathBuf,
    /// An access log in the combined format to seed with.
    pub(crate) access_log: PathBuf,
}

/// A command line that is not understood.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n{USAGE}", self.0)
    }
}

impl std::error::Error for UsageError {}

impl Args {
    /// Reads the command line; `None` if help was asked for.
    pub(crate) fn parse(
        mut words: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, UsageError> {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut args = Self {
            port: 8080,
            photos: package.join("tests/data/photos"),
            data: package.join("target/image-server-data"),
            access_log: package.join("tests/data/access.log"),
        };
        while let Some(option) = words.next() {
            if option == "--help" || option == "-h" {
                return Ok(None);
            }
            let value = words.next();
            let value = value.ok_or_else(|| UsageError(format!("{option} needs a value")))?;
            match option.as_str() {
                "--port" => {
                    let no_port = |_| UsageError(format!("{value:?} is no port"));
                    args.port = value.parse().map_err(no_port)?;
                }
                "--photos" => args.photos = value.into(),
                "--data" => args.data = value.into(),
                _ => return Err(UsageError(format!("unknown option {option:?}"))),
            }
        }
        Ok(Some(args))
    }
}

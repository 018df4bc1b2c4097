//! `ebbtide invalidate`: hiding a key, a tag or everything.

use std::os::unix::ffi::OsStrExt;

use ebbtide::{Receipt, Store};
use serde_json::json;

use crate::Verdict;
use crate::args::InvalidateArgs;
use crate::escape::escape;
use crate::failure::Failure;
use crate::key;
use crate::output::Output;
use crate::store::{check_exists, work_on};

/// What to hide.
enum Target {
    Key(Vec<u8>),
    Tag(Vec<u8>),
    All,
}

impl Target {
    fn from_args(args: &InvalidateArgs) -> Result<Self, Failure> {
        match (&args.key, &args.tag) {
            (Some(typed), _) => Ok(Self::Key(key::read(typed, args.hex_key)?)),
            (None, Some(tag)) => Ok(Self::Tag(tag.as_bytes().to_vec())),
            (None, None) => Ok(Self::All),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Key(key) => escape(key),
            Self::Tag(tag) => format!("all that carries the tag {}", escape(tag)),
            Self::All => "everything".to_owned(),
        }
    }

    fn hide(&self, store: &Store, keyspace: &str) -> Result<Receipt, Failure> {
        let keyspace = store.existing_keyspace(keyspace)?;
        let receipt = match self {
            Self::Key(key) => keyspace.invalidate(key),
            Self::Tag(tag) => keyspace.invalidate_tag(tag),
            Self::All => keyspace.invalidate_all(),
        };
        Ok(receipt?)
    }
}

pub(crate) fn run(args: &InvalidateArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let target = Target::from_args(args)?;
    check_exists(&args.store)?;
    let receipt = work_on(&args.store, output, |store| target.hide(store, &args.keyspace))?;
    if output.is_json() {
        output.json(&document(&args.keyspace, &receipt))?;
    } else {
        let what = if receipt.widened() {
            "everything, since the disk is full,".to_owned()
        } else {
            target.describe()
        };
        let (keyspace, gone_by) = (&args.keyspace, receipt.gone_by());
        output.remark(&format!("hid {what} in {keyspace}; off the disk by {gone_by}"))?;
    }
    Ok(Verdict::Fine)
}

fn document(keyspace: &str, receipt: &Receipt) -> serde_json::Value {
    json!({
        "keyspace": keyspace,
        "scope": receipt.scope().to_string(),
        "level": receipt.level().to_string(),
        "sequence": receipt.sequence(),
        "at": receipt.at().to_string(),
        "gone_by": receipt.gone_by().to_string(),
        "widened": receipt.widened(),
    })
}

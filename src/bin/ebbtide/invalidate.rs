//! `ebbtide invalidate`: hiding a key, a tag or everything.

use std::os::unix::ffi::OsStrExt;

use ebbtide::{Receipt, Scope, Store};
use serde_json::{Value, json};

use crate::Verdict;
use crate::args::{InvalidateArgs, TargetArgs};
use crate::escape::escape;
use crate::failure::Failure;
use crate::key;
use crate::output::Output;
use crate::store::{check_exists, work_on};

/// What to hide.
pub(crate) enum Target {
    Key(Vec<u8>),
    Tag(Vec<u8>),
    All,
}

impl Target {
    /// What the arguments name: everything if neither a key nor a tag.
    pub(crate) fn from_args(args: &TargetArgs) -> Result<Self, Failure> {
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

    fn hide(&self, store: &Store, args: &TargetArgs) -> Result<Receipt, Failure> {
        let name = args.keyspace.as_ref();
        let keyspace = name.map(|name| store.existing_keyspace(name)).transpose()?;
        let receipt = match (keyspace, self) {
            (Some(keyspace), Self::Key(key)) => keyspace.invalidate(key),
            (Some(keyspace), Self::Tag(tag)) => keyspace.invalidate_tag(tag),
            (Some(keyspace), Self::All) => keyspace.invalidate_all(),
            (None, Self::Tag(tag)) => store.invalidate_tag(tag, scope(args.rows)),
            (None, _) => return Err(Failure::usage("without a keyspace, only --tag")),
        };
        Ok(receipt?)
    }
}

/// Where to hide without a keyspace.
pub(crate) fn scope(rows: bool) -> Scope {
    if rows { Scope::Everything } else { Scope::Keyspaces }
}

pub(crate) fn run(args: &InvalidateArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let args = &args.target;
    let target = Target::from_args(args)?;
    check_exists(&args.store)?;
    let receipt = work_on(&args.store, output, |store| target.hide(store, args))?;
    if output.is_json() {
        output.json(&document(args.keyspace.as_deref(), &receipt))?;
    } else {
        let place = place(args.keyspace.as_deref(), args.rows);
        output.remark(&remark("hid", &target, &place, &receipt))?;
    }
    Ok(Verdict::Fine)
}

/// Where it was hidden, in words.
pub(crate) fn place(keyspace: Option<&str>, rows: bool) -> String {
    match keyspace {
        Some(keyspace) => keyspace.to_owned(),
        None if rows => "all keyspaces and logs".to_owned(),
        None => "all keyspaces".to_owned(),
    }
}

/// What was done, in words.
pub(crate) fn remark(done: &str, target: &Target, place: &str, receipt: &Receipt) -> String {
    let what = if receipt.widened() {
        "everything, since the disk is full,".to_owned()
    } else {
        target.describe()
    };
    let (level, gone_by) = (receipt.level(), receipt.gone_by());
    format!("{done} {what} in {place} ({level}); off the disk by {gone_by}")
}

/// What was done.
pub(crate) fn document(keyspace: Option<&str>, receipt: &Receipt) -> Value {
    json!({
        "keyspace": keyspace,
        "target": receipt.target().to_string(),
        "level": receipt.level().to_string(),
        "sequence": receipt.sequence(),
        "at": receipt.at().to_string(),
        "persist_by": receipt.persist_by().map(|time| time.to_string()),
        "gone_by": receipt.gone_by().to_string(),
        "widened": receipt.widened(),
    })
}

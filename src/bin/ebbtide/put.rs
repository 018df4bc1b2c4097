//! `ebbtide put`: storing a value.

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ebbtide::{Keyspace, KeyspaceOptions, Outcome, Retention, Stat, Store, Timestamp};

use crate::Verdict;
use crate::args::PutArgs;
use crate::escape::escape;
use crate::failure::Failure;
use crate::output::Output;
use crate::store::{check_exists, work_on};
use crate::units::size;
use crate::{json, key};

pub(crate) fn run(args: &PutArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let key = key::read(&args.key.key, args.key.hex_key)?;
    if args.window_days.is_none() {
        check_exists(&args.key.store)?;
    }
    // Before the store is locked: standard input may take its time.
    let value = read_value(args.file.as_deref())?;
    let (stat, now) =
        work_on(&args.key.store, output, |store| store_value(store, args, &key, &value))?;
    if output.is_json() {
        output.json(&json::stat(&args.key.keyspace, &key, &stat, now))?;
    } else {
        let (key, len, gone_at) = (escape(&key), size(stat.value_len()), stat.gone_at());
        output.remark(&format!("stored {key}, {len}, gone at {gone_at}"))?;
    }
    Ok(Verdict::Fine)
}

fn read_value(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    match file.filter(|path| *path != Path::new("-")) {
        Some(path) => fs::read(path).map_err(|e| Failure::io("read", path.display(), &e)),
        None => {
            let mut value = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut value);
            read.map_err(|e| Failure::io("read", "standard input", &e))?;
            Ok(value)
        }
    }
}

fn store_value(
    store: &Store,
    args: &PutArgs,
    key: &[u8],
    value: &[u8],
) -> Result<(Stat, Timestamp), Failure> {
    let keyspace = keyspace(store, args)?;
    let now = store.now();
    let mut fill = keyspace.fill(key);
    for tag in &args.tags {
        fill = fill.tag(tag.as_bytes());
    }
    if let Some(metadata) = &args.metadata {
        fill = fill.metadata(metadata.as_bytes());
    }
    if let Some(at) = expiry(args, now) {
        if at <= now {
            return Err(Failure::usage(format!("{at} has passed: nothing would be stored")));
        }
        fill = fill.expires_at(at);
    }
    let gone = || Failure::superseded("something newer came in between: the value is not there");
    match fill.commit(value)? {
        Outcome::Superseded => Err(gone()),
        Outcome::Stored => Ok((keyspace.stat(key)?.ok_or_else(gone)?, now)),
    }
}

fn keyspace(store: &Store, args: &PutArgs) -> Result<Keyspace, Failure> {
    let name = &args.key.keyspace;
    let exists = store.keyspaces().contains(name);
    match args.window_days {
        // One that exists keeps the capacity and segment size that its application gave it.
        _ if exists => Ok(store.existing_keyspace(name)?),
        Some(days) => Ok(store.keyspace(name, KeyspaceOptions::new(Retention::days(days)))?),
        None => Err(Failure::nothing(format!(
            "there is no keyspace {name:?}; give --window-days to create it"
        ))),
    }
}

fn expiry(args: &PutArgs, now: Timestamp) -> Option<Timestamp> {
    let at = args.expires_at.map(|at| at.resolve(now));
    at.or_else(|| args.expires_in.map(|span| now + span))
}

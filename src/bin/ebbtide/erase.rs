//! `ebbtide erase`: hiding a key or a tag for good, and refusing it for some time.

use ebbtide::{Receipt, Store, Timestamp};
use serde_json::json;

use crate::Verdict;
use crate::args::{EraseArgs, TargetArgs};
use crate::failure::Failure;
use crate::invalidate::{Target, document, place, remark, scope};
use crate::output::Output;
use crate::store::{check_exists, work_on};

pub(crate) fn run(args: &EraseArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let TargetArgs { store, keyspace, rows, .. } = &args.target;
    let target = Target::from_args(&args.target)?;
    check_exists(store)?;
    let (receipt, until) = work_on(store, output, |store| erase(store, args, &target))?;
    if output.is_json() {
        let mut document = document(keyspace.as_deref(), &receipt);
        document["denied_until"] = json!(until.map(|until| until.to_string()));
        output.json(&document)?;
    } else {
        let place = place(keyspace.as_deref(), *rows);
        let denied = until.map_or(String::new(), |until| format!("; denied until {until}"));
        output.remark(&format!("{}{denied}", remark("erased", &target, &place, &receipt)))?;
    }
    Ok(Verdict::Fine)
}

fn erase(
    store: &Store,
    args: &EraseArgs,
    target: &Target,
) -> Result<(Receipt, Option<Timestamp>), Failure> {
    let until = args.deny_until.map(|moment| moment.resolve(store.now()));
    if let Some(until) = until.filter(|until| *until <= store.now()) {
        return Err(Failure::usage(format!("--deny-until {until} has passed")));
    }
    let TargetArgs { keyspace, rows, .. } = &args.target;
    let keyspace = keyspace.as_ref().map(|name| store.existing_keyspace(name)).transpose()?;
    let erase = match (keyspace, target) {
        (Some(keyspace), Target::Key(key)) => keyspace.erase(key),
        (Some(keyspace), Target::Tag(tag)) => keyspace.erase_tag(tag),
        (None, Target::Tag(tag)) => store.erase_tag(tag, scope(*rows)),
        (None, Target::Key(_)) | (_, Target::All) => {
            return Err(Failure::usage("a keyspace and a key, or --tag"));
        }
    };
    let erase = match until {
        Some(until) => erase.deny_until(until),
        None => erase,
    };
    Ok((erase.commit()?, until))
}

//! `ebbtide explain`: why a key can be read, or why not.

use ebbtide::{Explanation, Reason};
use serde_json::{Value, json};

use crate::Verdict;
use crate::args::KeyArgs;
use crate::escape::escape;
use crate::failure::Failure;
use crate::json::set_bytes;
use crate::key;
use crate::output::Output;
use crate::store::open_to_read;

pub(crate) fn run(args: &KeyArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let key = key::read(&args.key, args.hex_key)?;
    let store = open_to_read(&args.store, output)?;
    let explanation = store.existing_keyspace(&args.keyspace)?.explain(&key)?;
    if output.is_json() {
        output.json(&document(&args.keyspace, &key, &explanation))?;
    } else {
        output.line(&format!("{}: {explanation}", escape(&key)))?;
    }
    Ok(Verdict::Fine)
}

fn document(keyspace: &str, key: &[u8], explanation: &Explanation) -> Value {
    let tag_index = match explanation.reason {
        Reason::Tag { index } | Reason::StaleTag { index } => Some(index),
        _ => None,
    };
    let mut document = json!({
        "keyspace": keyspace,
        "reason": explanation.reason.to_string(),
        "explanation": explanation.to_string(),
        "sequence": explanation.sequence,
        "written_at": explanation.written_at.map(|at| at.to_string()),
        "gone_at": explanation.gone_at.map(|at| at.to_string()),
        "tags": explanation.sequence.map(|_| explanation.tags),
        "tag_index": tag_index,
        "floor": explanation.floor,
        "floor_at": explanation.floor_at.map(|at| at.to_string()),
        "denied_until": explanation.denied_until.map(|at| at.to_string()),
        "damage": explanation.damage,
    });
    set_bytes(&mut document, "key", key);
    document
}

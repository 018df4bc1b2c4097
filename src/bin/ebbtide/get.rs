//! `ebbtide get`: the bytes of a value.

use std::path::Path;

use ebbtide::Value;
use serde_json::json;

use crate::Verdict;
use crate::args::GetArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::stat::missing;
use crate::store::open_to_read;
use crate::units::size;
use crate::{json, key};

pub(crate) fn run(args: &GetArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let key = key::read(&args.key.key, args.key.hex_key)?;
    let store = open_to_read(&args.key.store, output)?;
    let keyspace = store.existing_keyspace(&args.key.keyspace)?;
    let Some(value) = keyspace.get(&key)? else { return Err(missing(&store, &args.key, &key)) };
    if let Some(path) = &args.output {
        save(path, &value)?;
    }
    if output.is_json() {
        let mut document = json::stat(&args.key.keyspace, &key, value.stat(), store.now());
        document["output"] = json!(args.output.as_deref().map(json::path_text));
        output.json(&document)?;
    } else if let Some(path) = &args.output {
        let len = value.stat().value_len();
        output.remark(&format!("wrote {} to {}", size(len), path.display()))?;
    } else {
        output.bytes(&value)?;
    }
    Ok(Verdict::Fine)
}

fn save(path: &Path, value: &Value) -> Result<(), Failure> {
    std::fs::write(path, value).map_err(|e| Failure::io("write", path.display(), &e))
}

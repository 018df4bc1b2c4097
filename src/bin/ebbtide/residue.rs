//! `ebbtide residue`: every file a store has on the disk, why, and until when.

use ebbtide::{Residue, ResidueOwner, Timestamp};
use serde_json::{Value, json};

use crate::Verdict;
use crate::args::StoreArg;
use crate::failure::Failure;
use crate::json::path_text;
use crate::output::Output;
use crate::store::open_to_read;
use crate::table::{Column, Table};
use crate::units::size;

const COLUMNS: [Column; 6] = [
    Column::Left("KIND"),
    Column::Left("OWNER"),
    Column::Right("SIZE"),
    Column::Left("UNTIL"),
    Column::Left("PATH"),
    Column::Left("WHY"),
];

pub(crate) fn run(args: &StoreArg, output: &mut Output) -> Result<Verdict, Failure> {
    let store = open_to_read(&args.store, output)?;
    let now = store.now();
    let residue = store.residue()?;
    if output.is_json() {
        for item in &residue {
            output.json(&document(item))?;
        }
        return Ok(Verdict::Fine);
    }
    let mut table = Table::new(&COLUMNS);
    for item in &residue {
        let path = item.path.strip_prefix(&args.store.path).unwrap_or(&item.path);
        table.row([
            item.kind.to_string(),
            item.owner.to_string(),
            size(item.bytes),
            until(item, now),
            path_text(path),
            item.kind.why().to_owned(),
        ]);
    }
    output.table(&table)?;
    Ok(Verdict::Fine)
}

fn until(item: &Residue, now: Timestamp) -> String {
    match item.until {
        None => "-".to_owned(),
        Some(until) if until <= now => "due".to_owned(),
        Some(until) => until.to_string(),
    }
}

fn document(item: &Residue) -> Value {
    let (owner, name) = match &item.owner {
        ResidueOwner::Store => ("store", None),
        ResidueOwner::Keyspace(name) => ("keyspace", Some(name)),
        ResidueOwner::Log(name) => ("log", Some(name)),
        _ => ("unknown", None),
    };
    json!({
        "path": path_text(&item.path),
        "kind": item.kind.to_string(),
        "why": item.kind.why(),
        "owner": owner,
        "name": name,
        "bucket": item.bucket.map(|start| start.to_string()),
        "bytes": item.bytes,
        "until": item.until.map(|until| until.to_string()),
    })
}

//! `ebbtide dump`: one segment file, record by record.

use ebbtide::{Error, RecordInfo, SegmentDump, SegmentInfo};
use serde_json::json;

use crate::Verdict;
use crate::args::DumpArgs;
use crate::escape::escape;
use crate::failure::Failure;
use crate::json::{path_text, set_bytes};
use crate::output::Output;
use crate::table::Table;
use crate::units::size;
use crate::verify::problem_line;

pub(crate) fn run(args: &DumpArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let dump = SegmentDump::open(&args.file).map_err(|e| Failure::opening(&e))?;
    tell_segment(args, dump.info(), output)?;
    let is_rows = dump.info().rows;
    let mut verdict = Verdict::Fine;
    for record in dump {
        match record {
            Ok(record) => {
                if record.problem.is_some() {
                    verdict = Verdict::Problems;
                }
                tell_record(&record, is_rows, output)?;
            }
            Err(Error::Corrupt { path, offset, what }) => {
                verdict = Verdict::Problems;
                if output.is_json() {
                    let path = path_text(&path);
                    let problem =
                        json!({ "type": "problem", "path": path, "offset": offset, "what": what });
                    output.json(&problem)?;
                } else {
                    output.line(&problem_line(&path, offset, what))?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(verdict)
}

fn tell_segment(args: &DumpArgs, info: &SegmentInfo, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({
            "type": "segment",
            "path": path_text(&args.file),
            "number": info.number,
            "generation": info.generation,
            "bucket_start": info.bucket_start.to_string(),
            "deadline": info.deadline.to_string(),
            "capacity_bytes": info.capacity_bytes,
            "len_bytes": info.len_bytes,
            "rows": info.rows,
        }));
    }
    let mut table = Table::pairs();
    table.pair("segment", info.number);
    table.pair("generation", info.generation);
    table.pair("holds", if info.rows { "log rows" } else { "values" });
    table.pair("bucket from", info.bucket_start);
    table.pair("deadline", info.deadline);
    table.pair("length", format!("{} of {}", size(info.len_bytes), size(info.capacity_bytes)));
    output.table(&table)?;
    output.line("")?;
    let what = if info.rows { "" } else { "KEY" };
    let heading = format!(
        "{:>10}  {:>10}  {:>16}  {:<24}  {:>4}  {:>8}  {:>10}  {what}",
        "OFFSET", "LENGTH", "SEQUENCE", "WRITTEN AT", "TAGS", "METADATA", "VALUE"
    );
    output.line(heading.trim_end())
}

fn tell_record(record: &RecordInfo, is_rows: bool, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        let mut document = json!({
            "type": "record",
            "offset": record.offset,
            "len_bytes": record.len_bytes,
            "sequence": record.sequence,
            "written_at": record.written_at.to_string(),
            "durable_mark": record.durable_mark,
            "tags": record.tag_count,
            "metadata_len": record.metadata_len,
            "value_len": record.value_len,
            "problem": record.problem,
        });
        set_bytes(&mut document, "key", &record.key);
        return output.json(&document);
    }
    let key = if is_rows { String::new() } else { escape(&record.key) };
    let problem = record.problem.map_or(String::new(), |what| format!("  DAMAGED: {what}"));
    // Records are shown as they are read, so the columns have the widths that nearly all fit into.
    let line = format!(
        "{:>10}  {:>10}  {:>16}  {:<24}  {:>4}  {:>8}  {:>10}  {key}{problem}",
        record.offset,
        record.len_bytes,
        record.sequence,
        record.written_at.to_string(),
        record.tag_count,
        record.metadata_len,
        record.value_len,
    );
    output.line(line.trim_end())
}

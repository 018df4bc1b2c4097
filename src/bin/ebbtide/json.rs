//! The pieces JSON documents are made of.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ebbtide::{LogRow, Stat, Timestamp};
use serde_json::{Value, json};

use crate::escape::{escape, hex};
use crate::units::millis;

/// Sets a field to bytes: to their text, or, if they are not UTF-8, to their escaped form beside a
/// field `<name>_hex` that has them whole.
pub(crate) fn set_bytes(document: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => document[name] = json!(text),
        Err(_) => {
            document[name] = json!(escape(bytes));
            document[format!("{name}_hex")] = json!(hex(bytes));
        }
    }
}

/// A list of paths.
pub(crate) fn paths(paths: &[PathBuf]) -> Value {
    paths.iter().map(|path| json!(path_text(path))).collect()
}

/// A path as text.
pub(crate) fn path_text(path: &Path) -> String {
    escape_path(path.as_os_str().as_bytes())
}

/// A path stands as it is wherever it is UTF-8: a backslash in it is to stay single.
fn escape_path(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| escape(bytes), str::to_owned)
}

/// What is known of a record.
pub(crate) fn stat(keyspace: &str, key: &[u8], stat: &Stat, now: Timestamp) -> Value {
    let mut document = json!({
        "keyspace": keyspace,
        "value_len": stat.value_len(),
        "value_hash": format!("{:032x}", stat.value_hash()),
        "metadata_len": stat.metadata().len(),
        "tags": stat.tag_count(),
        "sequence": stat.sequence(),
        "written_at": stat.written_at().to_string(),
        "gone_at": stat.gone_at().to_string(),
        "age_ms": millis(now.since(stat.written_at())),
        "left_ms": millis(stat.gone_at().since(now)),
    });
    set_bytes(&mut document, "key", key);
    set_bytes(&mut document, "metadata", stat.metadata());
    document
}

/// A row of a log.
pub(crate) fn row(row: &LogRow) -> Value {
    let mut document = json!({
        "id": row.id().to_string(),
        "time": row.time().to_string(),
        "subject": row.subject().map(|subject| subject.to_string()),
        "tags": row.tag_count(),
        "gone_at": row.gone_at().to_string(),
    });
    set_bytes(&mut document, "payload", row.payload());
    document
}

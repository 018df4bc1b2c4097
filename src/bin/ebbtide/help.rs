//! What `--help` says beyond the arguments: exit codes and the shape of each JSON document.

/// After the help of the whole command.
pub(crate) const GENERAL: &str = "\
Commands that only look (info, buckets, ls, get, stat, tail, scan, verify, dump) take no lock and
work beside a process that has the store open. Commands that change something (put, invalidate,
drop-expired) need the store for themselves; they do the upkeep that is due before they end.

Exit codes:
  0  done, also if a list turned out empty
  1  what was named is not there (a key, keyspace or log), or problems were found
  2  the arguments make no sense
  3  the store, or the file to dump, is missing or cannot be opened
  4  another process has the store open
  5  the operation failed: input or output, no space, ...
A reader that closes the pipe early ends the command quietly, with 0.

JSON: with --json every command prints one JSON object, or, for lists, one per line; see the help
of each command. Times are RFC 3339 in UTC, spans are in milliseconds (_ms), sizes in bytes. Bytes
that are not UTF-8 are shown escaped (\\xNN), and a further field <name>_hex has all of them. An
error is one object on stderr: {error, message, exit_code, pid}; pid is that of the process that
has the store open, if known, or null.";

pub(crate) const INFO: &str = "\
JSON: one object: {path, now, clock_suspect_ms, keyspaces, logs, used_bytes, torn_tails: [path],
corrupt: [path], unknown_versions: [path]}";

pub(crate) const BUCKETS: &str = "\
JSON: one object per line: {kind: \"keyspace\"|\"log\", name, start, end, deadline, left_ms, segments,
bytes, records, live}; for logs, records and live count blocks of rows";

pub(crate) const LS: &str = "\
Keys come in the order of their bytes.

JSON without a keyspace: one object per line: {kind: \"keyspace\"|\"log\", name, window_ms, width_ms,
capacity_bytes, used_bytes, keys, buckets}; capacity_bytes and keys are null for logs.
JSON with a keyspace: one object per line, as of `stat`";

pub(crate) const GET: &str = "\
JSON: one object, as of `stat`, and {output}: the file written, or null. The value itself is then
written with -o only";

pub(crate) const PUT: &str = "\
JSON: one object, as of `stat`";

pub(crate) const STAT: &str = "\
JSON: one object: {keyspace, key, value_len, value_hash, metadata, metadata_len, tags, sequence,
written_at, gone_at, age_ms, left_ms}; value_hash is XXH3-128 in hexadecimal, tags their number";

pub(crate) const INVALIDATE: &str = "\
JSON: one object: {keyspace, scope: \"key\"|\"tag\"|\"all\", level, sequence, at, gone_by, widened};
records up to the sequence number are hidden, and off the disk at gone_by at the latest";

pub(crate) const TAIL: &str = "\
With --follow, rows whose own time lies more than a minute behind the newest one are not shown.

JSON: one object per line: {id, time, subject, tags, gone_at, payload}; subject is the pseudonym in
hexadecimal or null, tags their number";

pub(crate) const SCAN: &str = "\
TIME is 2026-11-21T09:30:00Z, 2026-11-21 (midnight in UTC), -3h30m or -2d (so long ago), or now.

JSON: one object per line: {id, time, subject, tags, gone_at, payload}; subject is the pseudonym in
hexadecimal or null, tags their number";

pub(crate) const VERIFY: &str = "\
Exits with 1 if there are problems. A torn tail, as a process leaves that was killed or is still
writing, is no problem.

JSON: one object: {files, records, bytes, problems: [{path, offset, what}], torn_tails: [path]}";

pub(crate) const DUMP: &str = "\
Exits with 1 if a record is damaged or the file does not end with a whole record.

JSON: one object per line. The first is the segment: {type: \"segment\", path, number, generation,
bucket_start, deadline, capacity_bytes, len_bytes, rows}; then each record: {type: \"record\", offset,
len_bytes, sequence, written_at, durable_mark, key, tags, metadata_len, value_len, problem}; problem is
null if there is none; then, if the walk ended early: {type: \"problem\", path, offset, what}";

pub(crate) const DROP_EXPIRED: &str = "\
A step of the wall clock ahead is not believed at once: what is due by it is hidden, but kept for an
hour, lest a wrong clock destroys everything. --confirm-clock believes it now.

JSON: one object: {now, clock_suspect_ms, buckets_dropped, bytes_freed}; clock_suspect_ms is what is
still not believed";

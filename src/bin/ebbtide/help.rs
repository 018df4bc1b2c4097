//! What `--help` says beyond the arguments: exit codes and the shape of each JSON document.

/// After the help of the whole command.
pub(crate) const GENERAL: &str = "\
Commands that only look (info, buckets, ls, get, stat, explain, tail, scan, residue, verify, ledger,
dump)
take no lock and work beside a process that has the store open. Commands that change something (put,
invalidate, erase, drop-expired) need the store for themselves; they do the upkeep that is due before
they end.

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

pub(crate) const EXPLAIN: &str = "\
A number orders all writes and invalidations of a store; an invalidation hides records up to its own.

JSON: one object: {keyspace, key, reason: \"visible\"|\"key\"|\"tag\"|\"all\"|\"stale-key\"|\"stale-tag\"|
\"deadline\"|\"expiry\"|\"denied\"|\"erased\"|\"damaged\"|\"absent\", explanation, sequence, written_at,
gone_at, tags, tag_index, floor, floor_at, denied_until, damage}; null where nothing is known. floor is
the number up to which an invalidation hides, floor_at when that was, tag_index which tag, from 0";

pub(crate) const INVALIDATE: &str = "\
With --tag and no KEYSPACE it is hidden in all keyspaces, with one note; --rows takes in all logs.

JSON: one object: {keyspace, target: \"key\"|\"tag\"|\"all\", level: \"hidden\"|\"scrubbed\"|
\"unlinked\", sequence, at, persist_by, gone_by, widened}; records up to the sequence number are hidden,
the next level is due by persist_by, and they are off the disk at gone_by at the latest; keyspace is
null for all of them";

pub(crate) const ERASE: &str = "\
As `invalidate`, and with --deny-until, storing the key or anything with the tag is refused until then.
Only a keyed hash of it is kept for that.

JSON: one object, as of `invalidate`, and {denied_until}, or null";

pub(crate) const ERASE_ROWS: &str =
    "With --tag and without a keyspace: erase the rows of all logs that carry it too";

pub(crate) const TAIL: &str = "\
With --follow, rows whose own time lies more than a minute behind the newest one are not shown.

JSON: one object per line: {id, time, subject, tags, gone_at, payload}; subject is the pseudonym in
hexadecimal or null, tags their number";

pub(crate) const SCAN: &str = "\
TIME is 2026-11-21T09:30:00Z, 2026-11-21 (midnight in UTC), -3h30m or -2d (so long ago), or now.

JSON: one object per line: {id, time, subject, tags, gone_at, payload}; subject is the pseudonym in
hexadecimal or null, tags their number";

pub(crate) const RESIDUE: &str = "\
UNTIL is when the file is gone at the latest, if a process has the store open for writing then; due
is what only waits for that, and - what may stay as long as the store.

JSON: one object per line: {path, kind, why, owner: \"store\"|\"keyspace\"|\"log\"|\"unknown\", name, bucket,
bytes, until}; name is that of the keyspace or log, bucket when its bucket starts, and until is null
for what may stay as long as the store";

pub(crate) const VERIFY: &str = "\
Exits with 1 if there are problems. A torn tail, as a process leaves that was killed or is still
writing, is no problem.

JSON: one object: {files, records, bytes, problems: [{path, offset, what}], torn_tails: [path]}";

pub(crate) const LEDGER: &str = "\
It holds no personal data: no keys, tags, pseudonyms or contents.

JSON: see the help of verify, show and prove";

pub(crate) const LEDGER_VERIFY: &str = "\
Exits with 1 if the chain is broken. The head is the newest entry: kept elsewhere, it shows later that
nothing up to it was changed.

JSON: one object: {files, entries, head: {number, hash}, problems: [{path, offset, what}]}; head is null
if there is no entry";

pub(crate) const LEDGER_SHOW: &str = "\
JSON: one object per line: {number, kind, text, at, owner_id, owner, bucket_start, deadline, instance,
records, bytes, hash}; what an entry does not tell is null; kind is checkpoint, keyspace, log,
bucket-born, bucket-dropped, bucket-released, invalidated, scrubbed, keys-destroyed, clock-suspect or
bucket-carried";

pub(crate) const LEDGER_PROVE: &str = "\
TIME is 2026-11-21T09:30:00Z, 2026-11-21 (midnight in UTC), -3h30m or -2d (so long ago), or now.
A bucket that left up to a minute after its deadline left in time. Exits with 1 unless the verdict is
\"kept\".

JSON: one object: {verdict: \"kept\"|\"late\"|\"open\"|\"broken\", at, worst_late_ms, buckets, covers_from,
head: {number, hash}, owners: [{owner_id, name, due, dropped, open, missing, late, worst_late_ms}]};
buckets is how many were late, or are still there";

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

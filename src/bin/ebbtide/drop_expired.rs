//! `ebbtide drop-expired`: dropping what is past its deadline, now.

use ebbtide::{Store, StoreStats, Timestamp};
use serde_json::json;

use crate::Verdict;
use crate::args::DropExpiredArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::store::{check_exists, work_on};
use crate::units::{size, span_ms};

/// What was dropped.
struct Dropped {
    now: Timestamp,
    suspect_ms: u64,
    buckets: u64,
    bytes: u64,
}

pub(crate) fn run(args: &DropExpiredArgs, output: &mut Output) -> Result<Verdict, Failure> {
    check_exists(&args.store)?;
    let dropped = work_on(&args.store, output, |store| drop_expired(store, args.confirm_clock))?;
    if output.is_json() {
        output.json(&json!({
            "now": dropped.now.to_string(),
            "clock_suspect_ms": dropped.suspect_ms,
            "buckets_dropped": dropped.buckets,
            "bytes_freed": dropped.bytes,
        }))?;
        return Ok(Verdict::Fine);
    }
    let buckets = match dropped.buckets {
        1 => "1 bucket".to_owned(),
        n => format!("{n} buckets"),
    };
    output.remark(&format!("dropped {buckets}, {}", size(dropped.bytes)))?;
    if dropped.suspect_ms > 0 {
        let ahead = span_ms(dropped.suspect_ms);
        output.remark(&format!(
            "the wall clock is ahead by {ahead} and not yet believed; --confirm-clock believes it"
        ))?;
    }
    Ok(Verdict::Fine)
}

fn drop_expired(store: &Store, confirm_clock: bool) -> Result<Dropped, Failure> {
    if confirm_clock {
        store.confirm_clock()?;
    }
    let before = store.stats();
    store.maintain()?;
    let after = store.stats();
    Ok(Dropped {
        now: after.now,
        suspect_ms: after.suspect_ms,
        buckets: after.buckets_dropped,
        bytes: due_bytes(&before, after.now),
    })
}

/// What the buckets take that are past their deadline.
fn due_bytes(stats: &StoreStats, now: Timestamp) -> u64 {
    let keyspaces = stats.keyspaces.iter().flat_map(|keyspace| &keyspace.buckets);
    let buckets = keyspaces.chain(stats.logs.iter().flat_map(|log| &log.buckets));
    buckets.filter(|bucket| bucket.deadline <= now).map(|bucket| bucket.bytes).sum()
}

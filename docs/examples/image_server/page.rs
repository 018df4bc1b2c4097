//! The page: a look inside the store, as HTML without any framework.

use std::fmt::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use ebbtide::{BucketStats, LogRow, StoreStats, Timestamp};

use crate::answer::Refusal;
use crate::routes::App;
use crate::seed::{NOTE, THUMBNAIL_WIDTH};
use crate::storage::NOTES;
use crate::text::{Html, Size, Span, UrlPart};

/// Rows of the log to show.
const ROWS: usize = 20;
/// Digits of a pseudonym to show; enough to tell visitors apart.
const PSEUDONYM_DIGITS: usize = 8;
/// How long after a deadline the background thread has certainly dropped the bucket.
const DROP_LAG: Duration = Duration::from_secs(3);
/// The page is never older than this.
const MAX_REFRESH: Duration = Duration::from_secs(60);

const HEAD: &str = include_str!("head.html");
const TITLE: &str = "\
<h1>ebbtide image server</h1>
<p>Rendered variants of photos and a log of requests, in one store that forgets on time.</p>
";
const SCRIPT: &str = include_str!("page.js");

/// The page as it is now.
pub(crate) fn render(app: &App) -> Result<String, Refusal> {
    let storage = &app.storage;
    let stats = storage.store.stats();
    let rows = storage.access.latest(stats.now, ROWS)?;
    let note = storage.notes.get(NOTE)?;
    let note = note.map(|note| String::from_utf8_lossy(&note).into_owned());
    let names = app.photos.names();
    let names = names.map_err(|error| Refusal::Internal(format!("list photos: {error}")))?;
    let mut page = String::new();
    write_page(&mut page, app, &stats, &names, &rows, note.as_deref())
        .map_err(|error| Refusal::Internal(error.to_string()))?;
    Ok(page)
}

fn write_page(
    page: &mut String,
    app: &App,
    stats: &StoreStats,
    names: &[String],
    rows: &[LogRow],
    note: Option<&str>,
) -> fmt::Result {
    let refresh = refresh_in(stats).as_secs();
    write!(page, "<!doctype html>\n<html lang=en>\n<meta http-equiv=refresh content={refresh}>\n")?;
    page.push_str(HEAD);
    write_icon(page, names)?;
    page.push_str(TITLE);
    write_counters(page, app, stats)?;
    write_photos(page, names)?;
    write_buckets(page, stats)?;
    write_rows(page, rows, note)?;
    write!(page, "<script>\n{SCRIPT}</script>\n</html>\n")
}

/// The page is due again when the next bucket has gone.
fn refresh_in(stats: &StoreStats) -> Duration {
    let deadlines = stats.keyspaces.iter().flat_map(|keyspace| &keyspace.buckets);
    let deadlines = deadlines.chain(stats.logs.iter().flat_map(|log| &log.buckets));
    let next = deadlines.map(|bucket| bucket.deadline.since(stats.now)).min();
    next.map_or(MAX_REFRESH, |next| (next + DROP_LAG).min(MAX_REFRESH))
}

/// The icon is a preview, so looking at the page keeps filling the keyspace that empties fastest.
fn write_icon(page: &mut String, names: &[String]) -> fmt::Result {
    match names.first() {
        Some(name) => {
            writeln!(page, "<link rel=icon href=\"/img/{}?w=32&amp;format=png\">", UrlPart(name))
        }
        None => Ok(()),
    }
}

fn write_counters(page: &mut String, app: &App, stats: &StoreStats) -> fmt::Result {
    let report = app.storage.store.recovery_report();
    let recovery = if report.is_clean() {
        "clean".to_owned()
    } else {
        format!(
            "{} torn tails, {} files with damage, {} of unknown versions",
            report.torn_tails.len(),
            report.corrupt_records.len(),
            report.unknown_versions.len()
        )
    };
    let tombstones: u64 = stats
        .keyspaces
        .iter()
        .map(|keyspace| keyspace.key_tombstones + keyspace.tag_tombstones)
        .sum();
    let figures = [
        ("hits", app.tally.hits.load(Ordering::Relaxed).to_string()),
        ("misses", app.tally.misses.load(Ordering::Relaxed).to_string()),
        ("stored", stats.inserts.to_string()),
        ("superseded", stats.superseded.to_string()),
        ("invalidations", stats.invalidations.to_string()),
        ("tombstones", tombstones.to_string()),
        ("buckets dropped", stats.buckets_dropped.to_string()),
        ("opened", format!("{}\u{d7}", stats.generation)),
        ("recovery", recovery),
    ];
    page.push_str("<dl>");
    for (name, figure) in figures {
        write!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", Html(figure))?;
    }
    page.push_str("</dl>\n");
    if let Some(reason) = &stats.poisoned {
        writeln!(page, "<p class=alarm>Nothing is stored any more: {}</p>", Html(reason))?;
    }
    Ok(())
}

fn write_photos(page: &mut String, names: &[String]) -> fmt::Result {
    page.push_str("<h2>Photos</h2>\n<pre id=receipt hidden></pre>\n<div class=photos>\n");
    for name in names {
        let (url, name) = (UrlPart(name), Html(name));
        writeln!(
            page,
            "<figure><a href=\"/img/{url}?w=1280\"><img alt=\"{name}\" \
             src=\"/img/{url}?w={THUMBNAIL_WIDTH}&amp;format=webp\"></a>\
             <figcaption title=\"{name}\">{name}</figcaption>\
             <button data-photo=\"{url}\">Purge</button></figure>"
        )?;
    }
    page.push_str("</div>\n");
    Ok(())
}

fn write_buckets(page: &mut String, stats: &StoreStats) -> fmt::Result {
    page.push_str(
        "<h2>Buckets</h2>\n<p>A bucket and all in it are gone at its deadline. Those of \
         <b>previews</b> live for 16 minutes, so one of them goes every minute: this page loads \
         itself again when the next one has gone.</p>\n<div class=buckets>\n",
    );
    for keyspace in stats.keyspaces.iter().filter(|keyspace| keyspace.name != NOTES) {
        let about = format!(
            "{} records, {}, {} tombstones",
            keyspace.keys,
            Size(keyspace.used_bytes),
            keyspace.key_tombstones + keyspace.tag_tombstones
        );
        let title = ("Keyspace", keyspace.name.as_str(), about.as_str());
        write_table(page, title, keyspace.window_ms, &keyspace.buckets, stats.now)?;
    }
    for log in &stats.logs {
        let about = Size(log.used_bytes).to_string();
        let title = ("Log", log.name.as_str(), about.as_str());
        write_table(page, title, log.window_ms, &log.buckets, stats.now)?;
    }
    page.push_str("</div>\n");
    Ok(())
}

fn write_table(
    page: &mut String,
    (kind, name, about): (&str, &str, &str),
    window_ms: u64,
    buckets: &[BucketStats],
    now: Timestamp,
) -> fmt::Result {
    let window = Span(Duration::from_millis(window_ms));
    let counted = if kind == "Log" { "blocks" } else { "live" };
    write!(
        page,
        "<section><h3>{kind} {}</h3><p>kept {window}; {about}</p><table>\
         <tr><th>begun</th><th>age</th><th>{counted}</th><th>bytes</th><th colspan=2>left</th></tr>",
        Html(name)
    )?;
    for bucket in buckets {
        let left = bucket.deadline.since(now);
        write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td><meter max={window_ms} value={}></meter></td><td>{}</td></tr>",
            minute(bucket.start),
            Span(now.since(bucket.start)),
            bucket.live,
            Size(bucket.bytes),
            left.as_millis(),
            Span(left)
        )?;
    }
    page.push_str("</table></section>\n");
    Ok(())
}

fn write_rows(page: &mut String, rows: &[LogRow], note: Option<&str>) -> fmt::Result {
    page.push_str(
        "<h2>Latest requests</h2>\n<p>Each is kept under a pseudonym of the address it came from, \
         never under the address. The key of the pseudonyms changes every day and goes with the \
         day's bucket.",
    );
    if let Some(note) = note {
        write!(page, " {}", Html(note))?;
    }
    page.push_str(
        "</p>\n<table class=rows><tr><th>time (UTC)</th><th>visitor</th><th>request</th></tr>\n",
    );
    for row in rows {
        let visitor = row.subject().map(|subject| subject.to_string()).unwrap_or_default();
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            second(row.time()),
            visitor.get(..PSEUDONYM_DIGITS).unwrap_or(&visitor),
            Html(String::from_utf8_lossy(row.payload()))
        )?;
    }
    page.push_str("</table>\n");
    Ok(())
}

/// A moment of the last year as `11-21 13:30`.
fn minute(at: Timestamp) -> String {
    at.to_string().replace('T', " ").chars().take(16).skip(5).collect()
}

/// A moment as `2026-11-21 13:30:00`.
fn second(at: Timestamp) -> String {
    at.to_string().replace('T', " ").chars().take(19).collect()
}

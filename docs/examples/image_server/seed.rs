//! A first filling, so that there is something to see: variants and requests of the last 30 days.
//!
//! All of it passes through the store as it would have on the day: the store is opened with a
//! clock that stands 29 days back and is advanced from record to record until it shows the present.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebbtide::{Clock, ManualClock, Store, SystemClock, Timestamp};

use crate::access_log::Line;
use crate::args::Args;
use crate::photos::Photos;
use crate::render::{self, Format, RenderError};
use crate::storage::Storage;
use crate::text::Span;
use crate::variants::{Filled, MAX_PREVIEW_WIDTH, Variant};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Days to fill: as many buckets as a window of 30 days has.
const DAYS: u32 = 30;
/// Minutes to fill: as many buckets as a window of 16 minutes has.
const MINUTES: u32 = 16;
/// Photos to fill with; more only make the first start slow.
const MAX_PHOTOS: usize = 8;
/// Variants are rendered from copies of the photos of this width, to be quick.
const COPY_WIDTH: u32 = 320;
/// The width of the thumbnails on the page.
pub(crate) const THUMBNAIL_WIDTH: u32 = 240;
/// The key of the note that says what the store was seeded with.
pub(crate) const NOTE: &str = "seeding";

/// A variant as it was rendered some time ago.
struct Rendering {
    age: Duration,
    variant: Variant,
    bytes: Vec<u8>,
}

/// Makes and fills the store's directory, unless something is there. True if it did.
pub(crate) fn seed(args: &Args, photos: &Photos) -> Result<bool, Box<dyn Error>> {
    if !is_vacant(&args.data)? {
        return Ok(false);
    }
    // Filled beside its place and moved there at the end, so that a start that is interrupted
    // leaves nothing that could be taken for a whole store.
    let beside = beside(&args.data);
    match std::fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => std::fs::create_dir_all(&beside)?,
    }
    let renderings = render_all(photos)?;
    let lines = read_lines(&args.access_log)?;
    let now = SystemClock.wall();
    let clock = ManualClock::new(now - DAY * (DAYS - 1));
    let builder = Store::builder(&beside).clock(clock.clone()).background(false);
    let storage = Storage::of(builder.open()?)?;
    fill(&storage, &clock, now, renderings, lines)?;
    storage.store.close()?;
    std::fs::rename(&beside, &args.data)?;
    Ok(true)
}

fn is_vacant(dir: &Path) -> io::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn beside(dir: &Path) -> PathBuf {
    let mut name = OsString::from(dir);
    name.push(".seeding");
    name.into()
}

/// Lets the time since the first rendering pass, and writes down what happens on the way.
fn fill(
    storage: &Storage,
    clock: &ManualClock,
    now: Timestamp,
    mut renderings: Vec<Rendering>,
    lines: Vec<Line>,
) -> Result<(), Box<dyn Error>> {
    let logged_until = lines.iter().map(|line| line.at).max().unwrap_or(now);
    let shift = now.since(logged_until);
    let shifted = |line: Line| Line { at: line.at + shift, ..line };
    let mut lines: Vec<Line> = lines.into_iter().map(shifted).collect();
    lines.sort_by_key(|line| line.at);
    renderings.sort_by_key(|rendering| std::cmp::Reverse(rendering.age));
    let mut rest = lines.as_slice();
    for Rendering { age, variant, bytes } in renderings {
        let at = now - age;
        clock.advance(at.since(clock.wall()));
        let (past, future) = rest.split_at(rest.partition_point(|line| line.at <= at));
        storage.access.record_all(past)?;
        rest = future;
        let fill = storage.variants.begin(&variant);
        match storage.variants.finish(&variant, fill, bytes) {
            Filled::Stored(_) => {}
            Filled::Superseded(_) => return Err("something else writes to the store".into()),
            Filled::Refused(_, error) => return Err(error.into()),
        }
    }
    clock.advance(now.since(clock.wall()));
    storage.access.record_all(rest)?;
    if !lines.is_empty() {
        storage.notes.insert(NOTE, note(logged_until, shift, lines.len()))?;
    }
    Ok(())
}

/// What to say about rows that did not happen when they claim to.
fn note(logged_until: Timestamp, shift: Duration, count: usize) -> String {
    let shift = Span(shift);
    let text = logged_until.to_string();
    let month = text.get(..7).unwrap_or_default();
    format!(
        "The first {count} rows are an access log of {month}, its times shifted by {shift} so that \
         its last line fell on the first start of this server."
    )
}

fn read_lines(path: &Path) -> io::Result<Vec<Line>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(Line::parse).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Renders what is to be stored, each photo in a thread of its own.
fn render_all(photos: &Photos) -> Result<Vec<Rendering>, Box<dyn Error>> {
    let names: Vec<String> = photos.names()?.into_iter().take(MAX_PHOTOS).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .enumerate()
            .filter_map(|(index, name)| Some((index, name, photos.path(name)?)))
            .map(|(index, name, path)| {
                let count = names.len() as u32;
                (name, scope.spawn(move || render_photo(name, &path, index as u32, count)))
            })
            .collect();
        let mut renderings = Vec::new();
        for (name, thread) in threads {
            match thread.join() {
                Ok(Ok(rendered)) => renderings.extend(rendered),
                // One that is no image is shown as such, and the others are seeded all the same.
                Ok(Err(error)) => eprintln!("image_server: {name}: {error}"),
                Err(_) => return Err(format!("rendering {name} panicked").into()),
            }
        }
        Ok(renderings)
    })
}

/// Renders one photo's share: its thumbnail of today, and smaller ones spread over days and minutes.
fn render_photo(
    name: &str,
    path: &Path,
    index: u32,
    count: u32,
) -> Result<Vec<Rendering>, RenderError> {
    let copy = render::fit(&render::decode(path)?, COPY_WIDTH, u32::MAX);
    let mut wanted = vec![(Duration::ZERO, THUMBNAIL_WIDTH, Format::Webp)];
    for day in (0..DAYS).filter(|day| day % count == index || (day + 1) % count == index) {
        wanted.push((DAY * day, MAX_PREVIEW_WIDTH + 4 * (day + 1), Format::Jpeg));
    }
    for minute in (0..MINUTES).filter(|minute| minute % 2 == index % 2) {
        wanted.push((MINUTE * minute, MAX_PREVIEW_WIDTH - minute, Format::Webp));
    }
    let render = |(age, width, format)| {
        let bytes = render::encode(&render::fit(&copy, width, u32::MAX), format)?;
        Ok(Rendering { age, variant: Variant::new(name, width, format), bytes })
    };
    wanted.into_iter().map(render).collect()
}

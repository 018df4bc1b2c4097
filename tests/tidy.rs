//! House rules, checked by reading the text of the repository; nothing is built or run.
//!
//! The reader here knows comments, literals and braces, not Rust: what it cannot see, such as a
//! name made by a macro, it does not check. Each rule lists all violations at once.

use std::fs;
use std::io;
use std::path::Path;

/// Modules at the top of `src`, lowest layer first. A module may name its own layer and those below.
const LAYERS: &[&[&str]] = &[
    &["error", "time", "hash", "keyed_map", "retention", "sync", "parallel", "planted"],
    &["format", "disk", "map", "process", "options"],
    &["segment", "twin_file", "sequence", "scrub"],
    &[
        "index",
        "floors",
        "denials",
        "visibility",
        "tombstone",
        "ledger",
        "spare",
        "state",
        "bucket",
        "pseudonym",
        "table",
        "trash",
    ],
    &["engine"],
    &["owner"],
    &["keyspace", "log", "invalidation", "value", "receipt", "report"],
    &["recovery"],
    &["store", "janitor", "dump", "fuzzing"],
    &["lib", "bin"],
];

/// Where each dependency may be named: files, or directories with a slash at the end.
const CRATES: &[(&str, &[&str])] = &[
    ("blake3", &["src/pseudonym.rs", "src/format/ledger/"]),
    ("bytes", &["src/"]),
    ("clap", &["src/bin/"]),
    ("indicatif", &["src/bin/"]),
    ("serde_json", &["src/bin/"]),
    ("crc32fast", &["src/format/checksum.rs"]),
    ("memmap2", &["src/map.rs"]),
    ("parking_lot", &["src/sync/mod.rs"]),
    ("rustix", &["src/disk/", "src/map.rs", "src/time/system.rs"]),
    ("shuttle", &["src/sync/"]),
    ("xxhash_rust", &["src/hash.rs"]),
];

/// What the engine may take from `std::sync` directly. All else comes from `src/sync/`, where a model
/// checker's can stand in for it.
const UNCHECKED: &[&str] = &["Arc", "Weak", "OnceLock"];

/// Where `unsafe` may stand in `src`.
const UNSAFE_FILES: &[&str] = &["src/map.rs"];

/// Where the unsafe way to open a store may be declared: the beginnings of paths.
const OPEN_MAPPED_FILES: &[&str] = &["src/store", "src/options", "src/builder"];

/// What the top level of the repository holds, beside files whose name begins with a dot or with
/// `LICENSE-`.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "benches",
    "fuzz",
    "tests",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "target",
];

/// Lines in a source file, without the test module at its end.
const MAX_FILE_LINES: usize = 600;

/// Lines in a function, from `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 70;

/// Where Rust source is kept.
const RUST: &[&str] = &["src", "tests", "benches", "docs/examples", "fuzz/fuzz_targets"];

/// Where text is kept that people wrote.
const TEXT: &[&str] =
    &["src", "tests", "benches", "docs", "fuzz/fuzz_targets", ".ci", "README.md", "CHANGELOG.md"];

/// Where files lie that have no extension and are no text.
const BINARY: &[&str] = &["tests/golden", "benches/peers/target"];

#[test]
fn the_top_level_holds_only_what_belongs_there() -> io::Result<()> {
    let mut violations = Vec::new();
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let fits = TOP_LEVEL.contains(&name.as_str())
            || name.starts_with('.')
            || name.starts_with("LICENSE-");
        if !fits {
            violations.push(format!("{name}:1: does not belong at the top level"));
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn every_source_file_opens_by_saying_what_it_is_for() -> io::Result<()> {
    let mut violations = Vec::new();
    for source in rust_sources(RUST)? {
        if !source.text.starts_with("//!") {
            violations.push(format!("{}:1: the first line is not a //! comment", source.path));
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn unsafe_code_stands_in_the_map_only() -> io::Result<()> {
    let mut violations = Vec::new();
    for source in rust_sources(&["src"])? {
        if UNSAFE_FILES.contains(&source.path.as_str()) {
            continue;
        }
        let may_open = OPEN_MAPPED_FILES.iter().any(|start| source.path.starts_with(start));
        for offset in word_offsets(&source.code, "unsafe") {
            let opens = source.code[offset..].starts_with("unsafe fn open_mapped");
            if !(opens && may_open) {
                violations.push(source.at(offset, "unsafe code outside of the map"));
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() -> io::Result<()> {
    let mut violations = Vec::new();
    for source in rust_sources(RUST)? {
        for offset in word_offsets(&source.code, "unsafe") {
            let next = source.code[offset + "unsafe".len()..].trim_start();
            let needs_reason = next.starts_with('{') || first_word(next) == "impl";
            if needs_reason && !has_safety_comment(&source, line_of(&source.code, offset)) {
                violations.push(source.at(offset, "no SAFETY: comment directly above"));
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn nothing_is_marked_as_unfinished() -> io::Result<()> {
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!")];
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
    let mut violations = Vec::new();
    for (path, text) in texts(TEXT)? {
        for needle in macros.iter().chain(&marks) {
            for offset in word_offsets(&text, needle) {
                violations.push(format!("{path}:{}: {needle}", line_of(&text, offset)));
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn nothing_waits_by_sleeping() -> io::Result<()> {
    let mut violations = Vec::new();
    for source in rust_sources(&["src", "tests"])? {
        if source.path.starts_with("tests/rigs/") {
            continue;
        }
        for (index, line) in source.code.lines().enumerate() {
            let has = |word| word_offsets(line, word).next().is_some();
            if has("thread") && (has("sleep") || has("sleep_until")) {
                violations.push(format!("{}:{}: a thread sleeps", source.path, index + 1));
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn layers_look_down_only() -> io::Result<()> {
    let mut violations = Vec::new();
    for source in rust_sources(&["src"])? {
        let module = module_of(&source.path);
        let Some(layer) = layer_of(module) else {
            violations.push(format!("{}:1: `{module}`: add it to the table", source.path));
            continue;
        };
        for (offset, name) in references(&source) {
            // A name that is no module's is one that lib.rs passes on, so it belongs to that layer.
            let named = layer_of(name).unwrap_or(LAYERS.len() - 1);
            if named > layer {
                let what =
                    format!("`{module}` (layer {layer}) looks up to `{name}` (layer {named})");
                violations.push(source.at(offset, &what));
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn each_dependency_is_named_in_its_own_file_only() -> io::Result<()> {
    let mut violations = Vec::new();
    for (line, name) in dependencies()? {
        if !CRATES.iter().any(|(known, _)| *known == name) {
            violations.push(format!("Cargo.toml:{line}: `{name}`: add it to the table"));
        }
    }
    for source in rust_sources(&["src"])? {
        for (name, places) in CRATES {
            if places.iter().any(|place| is_within(&source.path, place)) {
                continue;
            }
            for offset in word_offsets(&source.code, name) {
                violations.push(source.at(offset, &format!("`{name}` belongs in {places:?}")));
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn locks_and_atomics_come_from_one_place() -> io::Result<()> {
    let mut violations = Vec::new();
    for source in rust_sources(&["src"])? {
        if is_within(&source.path, "src/sync/") || is_within(&source.path, "src/bin/") {
            continue;
        }
        for (offset, path) in source.shipped.match_indices("std::sync::") {
            for name in first_names(&source.shipped[offset + path.len()..]) {
                if !UNCHECKED.contains(&name) {
                    let what = format!("`{name}`: from `crate::sync`, not `std::sync`");
                    violations.push(source.at(offset, &what));
                }
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn files_stay_small() -> io::Result<()> {
    let mut violations = Vec::new();
    for source in rust_sources(&["src"])? {
        let lines = source.shipped.trim_end().lines().count();
        if lines > MAX_FILE_LINES {
            violations.push(format!("{}:{MAX_FILE_LINES}: {lines} lines", source.path));
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn functions_stay_small() -> io::Result<()> {
    let mut violations = Vec::new();
    for source in rust_sources(&["src"])? {
        for (offset, name, lines) in functions(&source.code) {
            if lines > MAX_FUNCTION_LINES {
                violations.push(source.at(offset, &format!("`{name}` has {lines} lines")));
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn no_text_names_a_path_of_one_machine() -> io::Result<()> {
    let needles = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    let mut violations = Vec::new();
    for (path, text) in texts(TEXT)? {
        for needle in needles {
            for (offset, _) in text.match_indices(needle) {
                violations.push(format!("{path}:{}: {needle}", line_of(&text, offset)));
            }
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn comments_and_literals_are_not_taken_for_code() {
    let blanked = [
        "// x",
        "/* x /* x */ x */",
        r#""x""#,
        r#""\"x""#,
        r###"r#"x"x"#"###,
        r#"b"x""#,
        "'x'",
        r"'\''",
        "b'{'",
        r#"br"x""#,
        r"'\u{41}'",
    ];
    for literal in blanked {
        let code = code_only(&format!("a {literal}\nz"));
        assert_eq!(code.replace(['b', ' '], ""), "a\nz", "{literal}");
    }
    assert_eq!(code_only("&'a str, r#type, '_"), "&'a str, r#type, '_");
}

#[test]
fn test_items_are_not_taken_for_shipped_code() {
    let shipped = |text| without_tests(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(shipped("a #[cfg(test)] mod tests { x { y } z } b"), "a b");
    assert_eq!(shipped("a #[cfg(test)] #[path] use x::y; b"), "a b");
    assert_eq!(shipped("a #[cfg(all(test, not(miri)))] fn f(x: [u8; 2]) { y } b"), "a b");
    assert_eq!(shipped("a #[cfg(unix)] mod tests { x }"), "a #[cfg(unix)] mod tests { x }");
    assert_eq!(shipped("#![cfg(test)] a"), "");
}

#[test]
fn references_to_modules_are_found_however_they_are_written() {
    let names = |path: &str, text: &str| {
        let source = Source::new(path.to_owned(), text.to_owned());
        references(&source).into_iter().map(|(_, name)| name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("src/a.rs", "use crate::disk::{Disk, Access};"), ["disk"]);
    assert_eq!(
        names("src/a.rs", "use crate::{\n disk::{Disk, Access},\n map,\n Error,\n};"),
        ["disk", "map", "Error"]
    );
    assert_eq!(
        names("src/a.rs", "fn f() -> $crate::map::Map { super::disk::f() }"),
        ["map", "disk"]
    );
    assert_eq!(
        names("src/disk/real.rs", "use super::map::X; use super::super::hash::Y;"),
        ["hash"]
    );
    assert!(names("src/a.rs", "//! [`crate::map`]\npub(crate) fn f() {}").is_empty());
}

#[test]
fn functions_are_measured_to_their_closing_brace() {
    let text = "fn a(x: [u8; 2]) -> u8 {\n {\n }\n}\nfn b();\nlet c: fn() = a;";
    let found: Vec<_> = functions(text).into_iter().map(|(_, name, n)| (name, n)).collect();
    assert_eq!(found, [("a", 4), ("b", 1)]);
}

#[test]
fn a_reason_for_unsafe_code_must_stand_directly_above() {
    let reasoned = |text: &str| {
        let source = Source::new("src/map.rs".to_owned(), text.to_owned());
        has_safety_comment(&source, text.lines().count())
    };
    assert!(reasoned("// SAFETY: so.\nunsafe {"));
    assert!(reasoned("// SAFETY: so,\n// and so.\n#[expect(\n unsafe_code\n)]\nlet x = unsafe {"));
    assert!(reasoned("// SAFETY: so.\nlet x =\n unsafe {"));
    assert!(!reasoned("// so.\nunsafe {"));
    assert!(!reasoned("// SAFETY: so.\n\nunsafe {"));
    assert!(!reasoned("// SAFETY: so.\nf();\nunsafe {"));
}

/// A Rust file: as it stands, without comments and literals, and without test items as well. The
/// last two have the lines of the first, with spaces for what is left out.
struct Source {
    path: String,
    text: String,
    code: String,
    shipped: String,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let code = code_only(&text);
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let shipped = if is_test { String::new() } else { without_tests(&code) };
        Self { path, text, code, shipped }
    }

    /// A violation at an offset into `code` or `shipped`.
    fn at(&self, offset: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line_of(&self.code, offset))
    }
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n{}\n", violations.len(), violations.join("\n"));
}

/// The Rust files under some directories.
fn rust_sources(tops: &[&str]) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for (path, text) in texts(tops)? {
        if path.ends_with(".rs") {
            sources.push(Source::new(path, text));
        }
    }
    Ok(sources)
}

/// The paths and contents of the text files at or under some places; one that is missing is empty.
fn texts(tops: &[&str]) -> io::Result<Vec<(String, String)>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<String> = tops.iter().map(|top| (*top).to_owned()).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        let full = repository.join(&path);
        if BINARY.contains(&path.as_str()) {
            continue;
        }
        if full.is_dir() {
            for entry in fs::read_dir(full)? {
                waiting.push(format!("{path}/{}", entry?.file_name().to_string_lossy()));
            }
        } else if full.is_file() && is_text(&path) {
            found.push((path, fs::read_to_string(full)?));
        }
    }
    found.sort();
    Ok(found)
}

/// True for files that people write, by their extension.
fn is_text(path: &str) -> bool {
    let extension = Path::new(path).extension().map(|extension| extension.to_string_lossy());
    extension.is_none_or(|extension| {
        ["rs", "md", "toml", "sh", "py", "yml"].contains(&extension.as_ref())
    })
}

/// True if a path is a place, or lies in it if the place ends with a slash.
fn is_within(path: &str, place: &str) -> bool {
    path == place || (place.ends_with('/') && path.starts_with(place))
}

/// The line number, from 1, of an offset.
fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifier a text begins with; may be empty.
fn first_word(text: &str) -> &str {
    text.split(|c| !is_word_char(c)).next().unwrap_or_default()
}

/// Where a word stands that is not part of a longer one.
fn word_offsets<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(offset, _)| offset).filter(move |offset| {
        let before = text[..*offset].chars().next_back();
        let after = text[offset + word.len()..].chars().next();
        !before.is_some_and(is_word_char) && !after.is_some_and(is_word_char)
    })
}

/// A text with spaces for its comments and literals; lines stay where they are.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.chars().next_back().is_some_and(is_word_char);
        let skipped = comment_len(rest).or_else(|| literal_len(rest, after_word));
        let (piece, tail) = rest.split_at(skipped.unwrap_or(first.len_utf8()));
        if skipped.is_some() {
            push_blank(&mut code, piece)
        } else {
            code.push(first)
        }
        rest = tail;
    }
    code
}

fn push_blank(code: &mut String, piece: &str) {
    code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
}

/// The length of the comment a text begins with.
fn comment_len(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut len) = (0_usize, 0);
    while len < text.len() {
        let rest = &text[len..];
        if rest.starts_with("/*") {
            depth += 1;
            len += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            len += 2;
            if depth == 0 {
                break;
            }
        } else {
            len += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(len)
}

/// The length of the string or character a text begins with. A lifetime is neither.
fn literal_len(text: &str, after_word: bool) -> Option<usize> {
    if text.starts_with('"') {
        return Some(quoted_len(text, '"'));
    }
    if let Some(inner) = text.strip_prefix('\'') {
        let mut chars = inner.chars();
        let (first, second) = (chars.next()?, chars.next()?);
        return (first == '\\' || second == '\'').then(|| quoted_len(text, '\''));
    }
    if after_word {
        return None;
    }
    let raw = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let body = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let body_len = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + body_len)
}

/// The length of what stands between two quotes, these included, where a backslash escapes.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (offset, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return offset + quote.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Code with spaces for the items that are compiled for tests only; lines stay where they are.
fn without_tests(code: &str) -> String {
    if code.contains("#![cfg(test)]") {
        return String::new();
    }
    let mut shipped = String::with_capacity(code.len());
    let mut rest = code;
    loop {
        let starts = [rest.find("#[cfg(test)]"), rest.find("#[cfg(all(test,")];
        let Some(start) = starts.into_iter().flatten().min() else {
            break;
        };
        let attribute_end = rest[start..].find(']').map_or(rest.len(), |at| start + at + 1);
        let end = attribute_end + item_len(&rest[attribute_end..], &[';', ',']);
        shipped.push_str(&rest[..start]);
        push_blank(&mut shipped, &rest[start..end]);
        rest = &rest[end..];
    }
    shipped.push_str(rest);
    shipped
}

/// The length of an item: up to the end of its braces, or to one of some characters before them.
fn item_len(code: &str, ends: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut in_body = false;
    for (offset, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => {
                in_body |= c == '{' && depth == 0;
                depth += 1;
            }
            ')' | ']' | '}' if depth == 0 => return offset,
            ')' | ']' | '}' => {
                depth -= 1;
                if in_body && depth == 0 {
                    return offset + 1;
                }
            }
            _ if depth == 0 && ends.contains(&c) => return offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// The functions in some code: where each begins, its name and its lines.
fn functions(code: &str) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    for offset in word_offsets(code, "fn") {
        let item = &code[offset..];
        let name = first_word(item["fn".len()..].trim_start());
        if !name.is_empty() {
            let lines = item[..item_len(item, &[';'])].lines().count();
            found.push((offset, name, lines));
        }
    }
    found
}

/// True if the statement that holds a line, counted from 1, has a reason in the comment above it.
fn has_safety_comment(source: &Source, line: usize) -> bool {
    let texts: Vec<&str> = source.text.lines().map(str::trim).collect();
    let codes: Vec<&str> = source.code.lines().map(str::trim).collect();
    let mut in_attribute = false;
    let mut in_comment = false;
    for above in (0..line - 1).rev() {
        let (text, code) = (texts[above], codes[above]);
        let is_comment = text.starts_with("//");
        if is_comment && text.contains("SAFETY:") {
            return true;
        }
        in_attribute = (in_attribute || code.ends_with(']')) && !is_comment;
        let is_end = text.is_empty() || code.ends_with([';', '{', '}', ',']);
        if !is_comment && (in_comment || (is_end && !in_attribute)) {
            return false;
        }
        in_attribute &= !code.starts_with("#[");
        in_comment |= is_comment;
    }
    false
}

/// The module at the top of `src` that a file belongs to.
fn module_of(path: &str) -> &str {
    let inner = path.trim_start_matches("src/");
    let module = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs");
    if module == "main" { "bin" } else { module }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What shipped code names at the root of the crate: through `crate::`, or through as many
/// `super::` as lead there.
fn references(source: &Source) -> Vec<(usize, &str)> {
    let code = source.shipped.as_str();
    let mut found = Vec::new();
    for offset in word_offsets(code, "crate") {
        if let Some(tail) = code[offset + "crate".len()..].strip_prefix("::") {
            found.extend(first_names(tail).into_iter().map(|name| (offset, name)));
        }
    }
    let file = source.path.trim_end_matches("/mod.rs");
    let depth = file.matches('/').count();
    for offset in word_offsets(code, "super") {
        let tail = code[offset..].trim_start_matches("super::");
        let climbed = (code.len() - offset - tail.len()) / "super::".len();
        if climbed >= depth && !code[..offset].ends_with("super::") {
            // In a module within the file these may be names of the file itself.
            let names = first_names(tail).into_iter().filter(|name| layer_of(name).is_some());
            found.extend(names.map(|name| (offset, name)));
        }
    }
    found
}

/// The first name of a path, or of each path in a group of them.
fn first_names(tail: &str) -> Vec<&str> {
    let Some(group) = tail.strip_prefix('{') else {
        return vec![first_word(tail)];
    };
    let mut names = Vec::new();
    let mut rest = group.trim_start();
    while !rest.is_empty() && !rest.starts_with('}') {
        names.push(first_word(rest));
        let mut depth = 0_usize;
        let end = rest.find(|c| {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => return true,
                _ => {}
            }
            false
        });
        rest = end.map_or("", |end| rest[end..].trim_start_matches(',').trim_start());
    }
    names
}

/// What the package depends on outside of tests: the line in its manifest and the crate's name.
fn dependencies() -> io::Result<Vec<(usize, String)>> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))?;
    let mut found = Vec::new();
    let mut listed = false;
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            listed = line == "[dependencies]" || line.ends_with(".dependencies]");
        } else if listed && line.starts_with(char::is_alphabetic) {
            let name = line.split(|c: char| !is_word_char(c) && c != '-').next();
            found.extend(name.map(|name| (index + 1, name.replace('-', "_"))));
        }
    }
    Ok(found)
}

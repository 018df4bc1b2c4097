//! The counts that are committed: a table of `docs/performance.md` and what it was counted with.

use std::path::PathBuf;

/// The table stands between these lines.
const BEGIN: &str = "<!-- instructions: begin -->\n";
const END: &str = "<!-- instructions: end -->\n";
/// What the line under it begins with.
const COUNTED_WITH: &str = "Counted with ";

/// Operations with their counts, and what they were counted with.
#[derive(Default)]
pub(crate) struct Table {
    setting: String,
    rows: Vec<(String, u64)>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(setting: &str) -> Self {
        Self { setting: setting.to_owned(), rows: Vec::new() }
    }

    /// The table that is committed; what is no row of it is passed over.
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap();
        let (_, inside, _) = split(&text);
        let mut table = Self::default();
        for line in inside.lines() {
            if let Some(setting) = line.strip_prefix(COUNTED_WITH) {
                table.setting = setting.trim_end_matches('.').to_owned();
            }
            table.rows.extend(parse_row(line));
        }
        table
    }

    /// Puts this table in place of the one that is committed.
    pub(crate) fn write(&self) {
        let text = std::fs::read_to_string(path()).unwrap();
        let (before, _, after) = split(&text);
        let mut table = "\n| operation | instructions |\n|---|---|\n".to_owned();
        for (what, count) in &self.rows {
            table += &format!("| {what} | {} |\n", grouped(*count));
        }
        table += &format!("\n{COUNTED_WITH}{}.\n\n", self.setting);
        std::fs::write(path(), format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, what: &str, count: u64) {
        self.rows.push((what.to_owned(), count));
    }

    /// What it was counted with.
    pub(crate) fn setting(&self) -> &str {
        &self.setting
    }

    /// All rows.
    pub(crate) fn rows(&self) -> &[(String, u64)] {
        &self.rows
    }

    /// The count of an operation.
    pub(crate) fn count(&self, what: &str) -> Option<u64> {
        self.rows.iter().find(|(row, _)| row == what).map(|(_, count)| *count)
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join("performance.md")
}

/// The text before, between and after the two lines.
fn split(text: &str) -> (&str, &str, &str) {
    let (before, rest) = text.split_once(BEGIN).expect("the table's first line is missing");
    let (inside, after) = rest.split_once(END).expect("the table's last line is missing");
    (before, inside, after)
}

fn parse_row(line: &str) -> Option<(String, u64)> {
    let (what, count) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
    Some((what.to_owned(), count.replace(',', "").parse().ok()?))
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

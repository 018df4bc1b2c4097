//! The table of a run: a line for each work, a column for each peer.

use crate::figures::more_is_better;
use crate::report::median;
use crate::results::{Results, Row, in_order};

/// Whom the ratios are about.
pub const OURS: &str = "ebbtide";

/// All works of the comparison, with medians, spread, and how many times as good ours is.
pub fn markdown(results: &Results, rounds: usize) -> String {
    let rows = results.of("peers");
    let peers = column_order(&rows);
    let mut text = format!(
        "{}; {rounds} rounds\n\nMedian (least–most); × is how many times as good {OURS} is, in the \
         middle of the rounds.\n\n| work | unit |",
        results.machine
    );
    peers.iter().for_each(|peer| text += &format!(" {peer} |"));
    text += &format!("\n|---|---|{}\n", "---|".repeat(peers.len()));
    for work in in_order(rows.iter().map(|row| row.work.as_str())) {
        let of = |peer: &str| rows.iter().find(|row| row.work == work && row.peer == peer);
        let unit = rows.iter().find(|row| row.work == work).map_or("", |row| row.unit.as_str());
        let ours = of(OURS);
        text += &format!("| {work} | {unit} |");
        for peer in &peers {
            let cell = of(peer).map_or("-".to_owned(), |row| cell(row, ours));
            text += &format!(" {cell} |");
        }
        text += "\n";
    }
    text
}

/// The peers in the order they take part in; what is beside them last.
fn column_order<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let known = crate::peers::all();
    let place = |name: &str| known.iter().position(|peer| peer.name == name);
    let mut names = in_order(rows.iter().map(|row| row.peer.as_str()));
    names.sort_by_key(|name| place(name).unwrap_or(known.len()));
    names
}

fn cell(row: &Row, ours: Option<&&Row>) -> String {
    let spread = format!("{} ({}–{})", short(row.median()), short(row.least()), short(row.most()));
    match ours.and_then(|ours| advantage(ours, row)) {
        Some(ratio) if row.peer != OURS => format!("{spread} {}×", short(ratio)),
        _ => spread,
    }
}

/// How many times as good ours is, by the middle of the rounds' ratios.
pub fn advantage(ours: &Row, theirs: &Row) -> Option<f64> {
    let more = more_is_better(&ours.unit);
    let pairs = ours.values.iter().zip(&theirs.values);
    let ratios: Vec<f64> = pairs.map(|(a, b)| if more { a / b } else { b / a }).collect();
    let ratio = (!ratios.is_empty()).then(|| median(&ratios))?;
    ratio.is_finite().then_some(ratio)
}

/// A number with three digits that count.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.0} k", value / 1e3),
        size if size >= 1e3 => format!("{:.1} k", value / 1e3),
        size if size >= 1e2 => format!("{value:.0}"),
        size if size >= 1e1 => format!("{value:.1}"),
        size if size >= 1e-1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_better_has_the_greater_ratio_whatever_the_unit() {
        for (unit, ours, theirs) in [("ops/s", 300.0, 100.0), ("ms", 10.0, 30.0)] {
            let mut results = Results::new(String::new());
            results.push("work", OURS, unit, ours);
            results.push("work", "other", unit, theirs);
            assert_eq!(advantage(&results.rows[0], &results.rows[1]), Some(3.0));
            assert!(markdown(&results, 1).contains(" 3.00× |"));
        }
    }

    #[test]
    fn numbers_are_short() {
        let cases = [(8.8e6, "8.80 M"), (21_250.0, "21 k"), (1234.0, "1.2 k"), (0.0481, "0.048")];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }
}

//! How full, how finely divided and how much at a time: the packed layouts with other numbers.

use crate::measure::COLUMNS;
use crate::table::Tuning;
use crate::{TUNED, medians, run};

/// Every choice, one number changed at a time.
fn choices() -> Vec<Tuning> {
    let mut choices = vec![TUNED];
    choices.extend([1100, 1125, 1250, 1400, 1500].map(|growth| Tuning { growth, ..TUNED }));
    choices.extend([900, 930, 950, 970, 980].map(|max_load| Tuning { max_load, ..TUNED }));
    choices.extend([8, 32, 64].map(|nodes| Tuning { nodes, ..TUNED }));
    choices.extend([10, 11, 13, 14].map(|shard_bits| Tuning { shard_bits, ..TUNED }));
    choices
}

pub(crate) fn run_all(keys: u64) {
    println!("| slots | shards | growth | most load | lines searched | {} |", COLUMNS.join(" | "));
    println!("|---|---|---|---|---|{}", "---|".repeat(COLUMNS.len()));
    for tuning in choices() {
        for name in ["ten", "nine"] {
            let figures = medians(&[run(name, keys, tuning)]).join(" | ");
            let Tuning { shard_bits, growth, max_load, nodes } = tuning;
            let (growth, load) = (growth as f64 / 1e3, max_load as f64 / 1e3);
            let shards = 1 << shard_bits;
            println!("| {name} | {shards} | {growth} | {load} | {nodes} | {figures} |");
        }
    }
}

//! Figures of a run, and the file they are kept in.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::peer::Result;

/// What one peer has done in all rounds.
#[derive(Debug, PartialEq)]
pub struct Row {
    pub table: String,
    pub work: String,
    pub peer: String,
    pub unit: String,
    pub values: Vec<f64>,
    /// In a table of growth: how much there was.
    pub x: Option<f64>,
}

impl Row {
    pub fn median(&self) -> f64 {
        crate::report::median(&self.values)
    }

    pub fn least(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// All of them, in the order in which they came.
pub struct Results {
    pub machine: String,
    pub rows: Vec<Row>,
}

impl Results {
    pub fn new(machine: String) -> Self {
        Self { machine, rows: Vec::new() }
    }

    /// Adds a value to the row of the comparison that it belongs to.
    pub fn push(&mut self, work: &str, peer: &str, unit: &str, value: f64) {
        self.add("peers", work, peer, unit, None, value);
    }

    /// Adds a value to the row of the growth that it belongs to.
    pub fn push_at(&mut self, x: f64, work: &str, peer: &str, unit: &str, value: f64) {
        self.add("growth", work, peer, unit, Some(x), value);
    }

    fn add(&mut self, table: &str, work: &str, peer: &str, unit: &str, x: Option<f64>, value: f64) {
        let same = |row: &&mut Row| {
            row.table == table && row.work == work && row.peer == peer && row.x == x
        };
        match self.rows.iter_mut().find(same) {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                table: table.to_owned(),
                work: work.to_owned(),
                peer: peer.to_owned(),
                unit: unit.to_owned(),
                values: vec![value],
                x,
            }),
        }
    }

    pub fn of(&self, table: &str) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.table == table && !row.values.is_empty()).collect()
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let rows: Vec<Json> = self.rows.iter().map(to_json).collect();
        let all = json!({ "machine": self.machine, "rows": rows });
        Ok(std::fs::write(path, format!("{all:#}\n"))?)
    }

    pub fn load(path: &Path) -> Result<Self> {
        let all: Json = serde_json::from_slice(&std::fs::read(path)?)?;
        let rows = all["rows"].as_array().ok_or("no rows")?;
        let rows = rows.iter().map(|row| from_json(row).ok_or(format!("what is {row}?").into()));
        let machine = all["machine"].as_str().unwrap_or_default().to_owned();
        Ok(Self { machine, rows: rows.collect::<Result<_>>()? })
    }
}

fn to_json(row: &Row) -> Json {
    let Row { table, work, peer, unit, values, x } = row;
    let mut json =
        json!({ "table": table, "work": work, "peer": peer, "unit": unit, "values": values });
    if let Some(x) = x {
        json["x"] = json!(x);
    }
    json
}

fn from_json(json: &Json) -> Option<Row> {
    let text = |name: &str| Some(json[name].as_str()?.to_owned());
    Some(Row {
        table: text("table")?,
        work: text("work")?,
        peer: text("peer")?,
        unit: text("unit")?,
        values: json["values"].as_array()?.iter().filter_map(Json::as_f64).collect(),
        x: json["x"].as_f64(),
    })
}

/// Things in the order in which each comes first.
pub fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_back_as_they_were() -> Result<()> {
        let mut results = Results::new("a machine".to_owned());
        for value in [3.0, 1.5] {
            results.push("work", "peer", "ops/s", value);
        }
        results.push_at(1e6, "work", "peer", "ops/s", 2.0);
        assert_eq!(results.rows[0].values, [3.0, 1.5]);
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("results.json");
        results.save(&path)?;
        let read = Results::load(&path)?;
        assert_eq!(read.machine, results.machine);
        assert_eq!(read.rows, results.rows);
        Ok(())
    }
}

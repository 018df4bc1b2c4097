//! [`Table`]: plain text in aligned columns.

use std::fmt;

/// A column: its heading, and where its cells stand in it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    /// Words begin at one place.
    Left(&'static str),
    /// Figures end at one place.
    Right(&'static str),
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Self::Left(heading) | Self::Right(heading) => heading,
        }
    }
}

/// Rows of cells under headings; without any heading, rows alone.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Two columns without headings: names and what belongs to them.
    pub(crate) fn pairs() -> Self {
        Self::new(&[Column::Left(""), Column::Left("")])
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a name and what belongs to it.
    pub(crate) fn pair(&mut self, name: &str, value: impl fmt::Display) {
        self.row([name.to_owned(), value.to_string()]);
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| c.heading().len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    fn write_row<'a>(
        &self,
        f: &mut fmt::Formatter<'_>,
        widths: &[usize],
        cells: impl Iterator<Item = &'a str>,
    ) -> fmt::Result {
        let last = self.columns.len().saturating_sub(1);
        for (at, ((column, width), cell)) in self.columns.iter().zip(widths).zip(cells).enumerate()
        {
            let gap = if at == 0 { "" } else { "  " };
            match column {
                // Nothing is aligned to the end of the last column, so it needs no padding.
                Column::Left(_) if at == last => write!(f, "{gap}{cell}")?,
                Column::Left(_) => write!(f, "{gap}{cell:<width$}")?,
                Column::Right(_) => write!(f, "{gap}{cell:>width$}")?,
            }
        }
        writeln!(f)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        if self.columns.iter().any(|column| !column.heading().is_empty()) {
            self.write_row(f, &widths, self.columns.iter().map(|column| column.heading()))?;
        }
        self.rows
            .iter()
            .try_for_each(|row| self.write_row(f, &widths, row.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_do_not_end_in_spaces() {
        let mut table = Table::new(&[Column::Right("SIZE"), Column::Left("KEY")]);
        table.row(["1".to_owned(), "a".to_owned()]);
        table.row(["12345".to_owned(), "\u{e9}".to_owned()]);
        assert_eq!(table.to_string(), " SIZE  KEY\n    1  a\n12345  \u{e9}\n");
    }
}

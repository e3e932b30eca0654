//! Aligned columns, two spaces apart, with no lines to get in the way of `cut` and `awk`.

use super::style::{Painter, width};

/// Which edge a column's cells share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A heading a column, then rows. Cells may carry colour.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns by heading; one that begins with `>` is aligned to the right.
    pub(crate) fn new<S: AsRef<str>>(headings: impl IntoIterator<Item = S>) -> Self {
        let column = |s: S| match s.as_ref().strip_prefix('>') {
            Some(rest) => (rest.to_owned(), Align::Right),
            None => (s.as_ref().to_owned(), Align::Left),
        };
        Table { columns: headings.into_iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, excess ones are dropped.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, ending in a newline. Headings are left out if all are empty.
    pub(crate) fn render(&self, paint: Painter) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (heading, _))| {
                let cells = self.rows.iter().map(|r| width(&r[i]));
                cells.chain([width(heading)]).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        if self.columns.iter().any(|(h, _)| !h.is_empty()) {
            let headings = self.columns.iter().map(|(h, _)| paint.dim(&h.to_uppercase()));
            self.push_row(&mut text, headings, &widths);
        }
        for row in &self.rows {
            self.push_row(&mut text, row.iter().cloned(), &widths);
        }
        text
    }

    fn push_row(&self, text: &mut String, cells: impl Iterator<Item = String>, widths: &[usize]) {
        let mut line = String::new();
        for ((cell, (_, align)), &wide) in cells.zip(&self.columns).zip(widths) {
            let pad = " ".repeat(wide.saturating_sub(width(&cell)));
            match align {
                Align::Left => line.extend([cell, pad]),
                Align::Right => line.extend([pad, cell]),
            }
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Names and values, one a line: a table without headings.
pub(crate) fn pairs<S: Into<String>>(
    paint: Painter,
    pairs: impl IntoIterator<Item = (&'static str, S)>,
) -> Table {
    let mut table = Table::new(["", ""]);
    for (name, value) in pairs {
        let value = value.into();
        if !value.is_empty() {
            table.row([paint.dim(name), value]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_colour() {
        let mut table = Table::new(["name", ">size"]);
        table.row([Painter::new(true).good("a"), "1".into()]);
        table.row(["long".to_owned(), "1234".into()]);
        assert_eq!(table.render(Painter::new(false)), "NAME  SIZE\n\x1b[32ma\x1b[0m        1\nlong  1234\n");
    }

    #[test]
    fn a_short_row_is_padded_and_no_line_ends_in_spaces() {
        let mut table = Table::new(["a", "b"]);
        table.row(["x"]);
        assert_eq!(table.render(Painter::new(false)), "A  B\nx\n");
    }

    #[test]
    fn pairs_leave_out_what_is_empty() {
        let table = pairs(Painter::new(false), [("id", "1"), ("worker", "")]);
        assert_eq!(table.render(Painter::new(false)), "id  1\n");
    }
}

//! What a command prints: tables for people, tab-separated lines for pipes, JSON for programs.
//!
//! Results go to standard output, everything else to standard error. JSON keys are those of the API's
//! proto JSON; numbers are numbers, also where proto JSON writes 64 bits as text.

use crate::failure::Failure;
use crate::streams::{self, notice};
use clap::ValueEnum;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns on a terminal; tab-separated lines without a heading in a pipe
    #[default]
    Table,
    /// As table, with more columns
    Wide,
    /// One JSON document
    Json,
    /// One JSON object per line
    Jsonl,
}

impl Format {
    pub fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

/// Standard output in the format that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub format: Format,
    /// A person looks at it.
    pub terminal: bool,
}

impl Output {
    pub fn new(format: Format) -> Output {
        Output { format, terminal: std::io::stdout().is_terminal() }
    }

    /// One result: `text` is called unless JSON was asked for.
    pub fn one<T: Serialize>(
        &self,
        view: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.print(&(pretty(view)? + "\n")),
            Format::Jsonl => self.print(&(line(view)? + "\n")),
            Format::Table | Format::Wide => self.print(&text()),
        }
    }

    /// A list: as JSON an object with the list in `name`, as JSON lines one line for each row.
    pub fn many<T: Serialize>(
        &self,
        name: &str,
        rows: &[T],
        table: impl FnOnce() -> Table,
    ) -> Result<(), Failure> {
        self.many_with(name, rows, None::<(&str, ())>, table)
    }

    /// The same with something beside the list, under a key of its own.
    pub fn many_with<T: Serialize, B: Serialize>(
        &self,
        name: &str,
        rows: &[T],
        beside: Option<(&str, B)>,
        table: impl FnOnce() -> Table,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => {
                let mut document = serde_json::json!({ name: rows });
                if let Some((key, value)) = beside {
                    document[key] = serde_json::json!(value);
                }
                self.print(&(pretty(&document)? + "\n"))
            }
            Format::Jsonl => {
                let mut text = String::new();
                for row in rows {
                    text += &line(row)?;
                    text.push('\n');
                }
                self.print(&text)
            }
            Format::Table | Format::Wide => self.print(&self.table(&table())),
        }
    }

    pub fn table(&self, table: &Table) -> String {
        table.render(self.terminal, self.format == Format::Wide)
    }

    /// Writes at once, so that a reader at the end of a pipe sees it now.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        streams::write_results(text.as_bytes()).map_err(|error| Failure::writing(&error))
    }
}

fn pretty<T: Serialize>(view: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(view).map_err(|error| Failure::writing(&error.into()))
}

fn line<T: Serialize>(view: &T) -> Result<String, Failure> {
    serde_json::to_string(view).map_err(|error| Failure::writing(&error.into()))
}

/// Tells the user of a failure, on standard error, and gives the exit code.
pub fn report(failure: &Failure, format: Format) -> ExitCode {
    if !failure.is_silent() {
        if format.is_json() {
            notice!("{}", failure.view());
        } else {
            notice!("{failure}");
        }
    }
    ExitCode::from(failure.exit() as u8)
}

/// A heading and what is special about the column under it.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    name: &'static str,
    right: bool,
    wide_only: bool,
}

/// A column of words.
pub const fn text(name: &'static str) -> Column {
    Column { name, right: false, wide_only: false }
}

/// A column of numbers.
pub const fn number(name: &'static str) -> Column {
    Column { name, right: true, wide_only: false }
}

impl Column {
    /// Shown with `-o wide` only.
    pub const fn wide(self) -> Column {
        Column { wide_only: true, ..self }
    }
}

/// Rows under headings. A cell that says nothing is `-`.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// # Panics
    /// If the row has not as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "one cell for each column");
        let dash = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows.push(cells.into_iter().map(dash).collect());
    }

    fn render(&self, terminal: bool, wide: bool) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|&index| wide || !self.columns[index].wide_only)
            .collect();
        let mut out = String::new();
        if !terminal {
            for row in &self.rows {
                let cells: Vec<_> = shown.iter().map(|&index| row[index].as_str()).collect();
                out += &cells.join("\t");
                out.push('\n');
            }
            return out;
        }
        let heading: Vec<String> =
            self.columns.iter().map(|column| column.name.to_owned()).collect();
        let width = |index: usize| {
            let cells = self.rows.iter().chain([&heading]);
            cells.map(|row| row[index].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = shown.iter().map(|&index| width(index)).collect();
        for row in [&heading].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (&index, &width) in shown.iter().zip(&widths) {
                let cell = &row[index];
                let padded = if self.columns[index].right {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:<width$}  ")
                };
                line += &padded;
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// Text as it is; what could steer a terminal, and what is no text, escaped.
pub fn visible(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut utf8 = [0; 4];
            if character == '\t' || !character.is_control() {
                out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
            } else {
                let _ = write!(out, "{}", character.escape_default());
            }
        }
        let _ = write!(out, "{}", chunk.invalid().escape_ascii());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[text("NAME"), number("PARTITIONS"), text("ID").wide()]);
        table.row(vec!["orders".into(), "12".into(), "abc".into()]);
        table.row(vec!["x".into(), "1".into(), String::new()]);
        table
    }

    #[test]
    fn a_terminal_gets_aligned_columns_with_headings() {
        assert_eq!(
            table().render(true, false),
            "NAME    PARTITIONS\norders          12\nx                1\n"
        );
        assert!(table().render(true, true).starts_with("NAME    PARTITIONS  ID\n"));
    }

    #[test]
    fn a_pipe_gets_tab_separated_rows_and_nothing_else() {
        assert_eq!(table().render(false, true), "orders\t12\tabc\nx\t1\t-\n");
    }
}

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
        let colours = self.terminal && std::io::stdout().is_terminal() && streams::colours();
        table.render(self.terminal, self.format == Format::Wide, colours)
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
            let colours = std::io::stderr().is_terminal() && streams::colours();
            let text = failure.to_string();
            match text.strip_prefix("error:").filter(|_| colours) {
                Some(rest) => notice!("\x1b[1;31merror:\x1b[0m{rest}"),
                None => notice!("{text}"),
            }
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
    pipe_only: bool,
    /// On a terminal, no cell is longer.
    most: Option<usize>,
}

/// How a cell is coloured on a terminal: what is wrong shall be seen first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    /// Not as it should be, and served.
    Warning,
    /// Not served.
    Bad,
}

impl Tone {
    /// Text in this colour, as terminals take it.
    fn paint(self, text: &str) -> String {
        match self {
            Tone::Plain => text.to_owned(),
            Tone::Warning => format!("\x1b[33m{text}\x1b[0m"),
            Tone::Bad => format!("\x1b[31m{text}\x1b[0m"),
        }
    }
}

/// A column of words.
pub const fn text(name: &'static str) -> Column {
    Column { name, right: false, wide_only: false, pipe_only: false, most: None }
}

/// A column of numbers.
pub const fn number(name: &'static str) -> Column {
    Column { name, right: true, wide_only: false, pipe_only: false, most: None }
}

impl Column {
    /// Shown with `-o wide` only.
    pub const fn wide(self) -> Column {
        Column { wide_only: true, ..self }
    }

    /// Not on a terminal, which is narrow, unless `-o wide`.
    pub const fn roomy(self) -> Column {
        Column { pipe_only: true, ..self }
    }

    /// On a terminal its cells are cut to so many characters, unless `-o wide`.
    pub const fn at_most(self, characters: usize) -> Column {
        Column { most: Some(characters), ..self }
    }

    /// What of a cell is shown: its end tells more than its middle.
    fn shorten(&self, cell: &str) -> String {
        match self.most {
            Some(most) if cell.chars().count() > most && most > 8 => {
                let (begin, end) = (most - 5, cell.chars().count() - 4);
                let kept: String = cell.chars().take(begin).collect();
                kept + "…" + &cell.chars().skip(end).collect::<String>()
            }
            _ => cell.to_owned(),
        }
    }
}

/// Rows under headings. A cell that says nothing is `-`.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    /// For each row, which cell is coloured, and how.
    tones: Vec<(Tone, usize)>,
}

impl Table {
    pub fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new(), tones: Vec::new() }
    }

    /// # Panics
    /// If the row has not as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        self.toned_row(Tone::Plain, 0, cells);
    }

    /// The same with one cell in a colour.
    ///
    /// # Panics
    /// As [`Table::row`].
    pub fn toned_row(&mut self, tone: Tone, cell: usize, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "one cell for each column");
        let dash = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows.push(cells.into_iter().map(dash).collect());
        self.tones.push((tone, cell));
    }

    fn render(&self, terminal: bool, wide: bool, colours: bool) -> String {
        let is_shown =
            |column: &Column| wide || !(column.wide_only || terminal && column.pipe_only);
        let shown: Vec<usize> =
            (0..self.columns.len()).filter(|&index| is_shown(&self.columns[index])).collect();
        let mut out = String::new();
        if !terminal {
            for row in &self.rows {
                let cells: Vec<_> = shown.iter().map(|&index| row[index].as_str()).collect();
                out += &cells.join("\t");
                out.push('\n');
            }
            return out;
        }
        if self.rows.is_empty() {
            // A heading over nothing looks as if something were missing.
            return "none\n".to_owned();
        }
        let heading: Vec<String> =
            self.columns.iter().map(|column| column.name.to_owned()).collect();
        let cell = |row: &[String], index: usize| match wide {
            true => row[index].clone(),
            false => self.columns[index].shorten(&row[index]),
        };
        let width = |index: usize| {
            let cells = self.rows.iter().chain([&heading]);
            cells.map(|row| cell(row, index).chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = shown.iter().map(|&index| width(index)).collect();
        let plain = (Tone::Plain, 0);
        let tones = [&plain].into_iter().chain(&self.tones);
        for (row, (tone, toned)) in [&heading].into_iter().chain(&self.rows).zip(tones) {
            let mut line = String::new();
            for (&index, &width) in shown.iter().zip(&widths) {
                let text = cell(row, index);
                let padding = " ".repeat(width - text.chars().count());
                let text = if colours && index == *toned { tone.paint(&text) } else { text };
                line += &match self.columns[index].right {
                    true => format!("{padding}{text}  "),
                    false => format!("{text}{padding}  "),
                };
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
            table().render(true, false, false),
            "NAME    PARTITIONS\norders          12\nx                1\n"
        );
        assert!(table().render(true, true, false).starts_with("NAME    PARTITIONS  ID\n"));
    }

    #[test]
    fn a_list_of_nothing_says_so_on_a_terminal_and_is_empty_in_a_pipe() {
        let table = Table::new(&[text("NAME")]);
        assert_eq!(table.render(true, false, false), "none\n");
        assert_eq!(table.render(false, false, false), "");
    }

    #[test]
    fn a_pipe_gets_tab_separated_rows_and_nothing_else() {
        assert_eq!(table().render(false, true, false), "orders\t12\tabc\nx\t1\t-\n");
    }

    #[test]
    fn a_narrow_terminal_gets_short_cells_and_fewer_columns_and_a_pipe_gets_all() {
        let mut table = Table::new(&[text("ID").at_most(12), text("HOST").roomy(), number("LAG")]);
        table.row(vec!["consumer-0123456789".into(), "10.0.0.7".into(), "4".into()]);
        assert_eq!(table.render(true, false, false), "ID            LAG\nconsume…6789    4\n");
        let whole = "consumer-0123456789\t10.0.0.7\t4\n";
        assert_eq!(table.render(false, false, false), whole);
        assert!(table.render(true, true, false).contains("consumer-0123456789  10.0.0.7"));
    }

    #[test]
    fn what_is_wrong_is_coloured_where_colours_are_wanted() {
        let mut table = Table::new(&[number("NODE"), text("STATE"), text("RACK")]);
        table.toned_row(Tone::Bad, 1, vec!["1".into(), "fenced".into(), "a".into()]);
        table.row(vec!["2".into(), "active".into(), "b".into()]);
        let plain = "NODE  STATE   RACK\n   1  fenced  a\n   2  active  b\n";
        assert_eq!(table.render(true, false, false), plain);
        let coloured = plain.replace("fenced", "\x1b[31mfenced\x1b[0m");
        assert_eq!(table.render(true, false, true), coloured);
        assert!(!table.render(false, false, true).contains('\x1b'), "nor in a pipe");
    }
}

//! Lines in the format that was asked for. As JSON, all files are one document.

use super::facts::Facts;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::streams::Results;
use serde_json::{Map, Value, json};
use std::io::{BufWriter, Write};
use std::path::Path;
use troupe_log::dump::FileKind;

pub struct Printer {
    out: BufWriter<Results>,
    format: Format,
    files: u64,
    lines: u64,
}

impl Printer {
    pub fn new(output: &Output) -> Printer {
        let out = BufWriter::with_capacity(256 << 10, Results);
        Printer { out, format: output.format, files: 0, lines: 0 }
    }

    fn put(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|error| Failure::writing(&error))
    }

    pub fn is_json(&self) -> bool {
        self.format.is_json()
    }

    /// A file begins.
    pub fn open(&mut self, path: &Path, kind: FileKind) -> Result<(), Failure> {
        self.open_plain(path)?;
        match troupe_log::dump::base_offset(path) {
            Some(base) if kind == FileKind::Log => {
                self.text(&format!("Log starting offset: {base}\n"))
            }
            _ => Ok(()),
        }
    }

    /// The same, without an offset of its own.
    pub fn open_plain(&mut self, path: &Path) -> Result<(), Failure> {
        self.lines = 0;
        let first = self.files == 0;
        self.files += 1;
        match self.format {
            Format::Jsonl => Ok(()),
            Format::Json => {
                let name = json!(path.display().to_string());
                let before = if first { "{\"files\":[" } else { "," };
                self.put(&format!("{before}\n{{\"file\":{name},\"entries\":["))
            }
            Format::Table | Format::Wide => self.put(&format!("Dumping {}\n", path.display())),
        }
    }

    pub fn close(&mut self) -> Result<(), Failure> {
        if self.format == Format::Json { self.put("]}") } else { Ok(()) }
    }

    pub fn end(&mut self) -> Result<(), Failure> {
        if self.format == Format::Json {
            let before = if self.files == 0 { "{\"files\":[" } else { "" };
            self.put(&format!("{before}]}}\n"))?;
        }
        self.flush()
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::writing(&error))
    }

    /// A line for people, not in JSON.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_json() { Ok(()) } else { self.put(text) }
    }

    pub fn line(&mut self, facts: Facts) -> Result<(), Failure> {
        self.line_behind("", facts)
    }

    /// The same; in text, something stands before it.
    pub fn line_behind(&mut self, before: &str, facts: Facts) -> Result<(), Failure> {
        if self.is_json() {
            let object: Map<String, Value> =
                facts.into_iter().map(|fact| (fact.name.into_owned(), fact.json)).collect();
            return self.entry(&Value::Object(object));
        }
        let mut line = before.to_owned();
        let told = facts.into_iter().filter_map(|fact| Some((fact.name, fact.text?)));
        for (at, (name, text)) in told.enumerate() {
            if at > 0 {
                line.push(' ');
            }
            line += &format!("{name}: {text}");
        }
        line.push('\n');
        self.put(&line)
    }

    /// A document of its own.
    pub fn entry(&mut self, entry: &Value) -> Result<(), Failure> {
        let first = self.lines == 0;
        self.lines += 1;
        match self.format {
            Format::Json => self.put(&format!("{}\n{entry}", if first { "" } else { "," })),
            _ => self.put(&format!("{entry}\n")),
        }
    }
}

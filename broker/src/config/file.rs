//! The two ways in which a file of settings is written: TOML, and Java's properties.
//!
//! Promise: each value is told with its line.
//! Never here: what a key means.

use super::sources::{ConfigFile, FileFormat, Origin, Written};
use encoding_rs::UTF_8;
use java_properties::{LineContent, PropertiesIter};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

impl ConfigFile {
    /// Its format is told by its extension, or else by its content.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> ConfigFile {
        let (name, text) = (name.into(), text.into());
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        let (format, told_by) = match extension.as_deref() {
            Some("toml") => (FileFormat::Toml, "as its extension says"),
            Some("properties") => (FileFormat::Properties, "as its extension says"),
            _ => (format_of(&text), "as its content looks"),
        };
        ConfigFile { name, text, format, told_by }
    }

    /// The format, and how it is known.
    pub fn told(&self) -> String {
        format!("{}, {}", self.format, self.told_by)
    }
}

/// What a file without a telling name is written in. What is TOML is taken for it; what is not, and has neither tables
/// nor quoted values, for properties.
fn format_of(text: &str) -> FileFormat {
    if DeTable::parse(text).is_ok() {
        return FileFormat::Toml;
    }
    let looks_like_toml = |line: &str| {
        let line = line.trim();
        let value = line.split_once('=').map_or("", |(_, value)| value.trim());
        line.starts_with('[') || value.starts_with(['"', '\'', '['])
    };
    match text.lines().any(looks_like_toml) {
        true => FileFormat::Toml,
        false => FileFormat::Properties,
    }
}

/// The values of a file, in its order.
///
/// # Errors
/// It is not written as it should be: where and why.
pub(super) fn read(file: &ConfigFile) -> Result<Vec<Written>, String> {
    let values = match file.format {
        FileFormat::Toml => toml_values(&file.text).map_err(|error| {
            let advice =
                "if it is written as Kafka's server.properties is, name it so: *.properties";
            format!("{} is not TOML ({}): {error}\n    {advice}", file.name, file.told())
        }),
        FileFormat::Properties => properties(&file.text).map_err(|error| {
            format!("{} is no file of properties ({}): {error}", file.name, file.told())
        }),
    }?;
    let written = |Value { key, value, line }| {
        let origin = Origin::File { name: file.name.clone(), line };
        Written { key, value, origin }
    };
    Ok(values.into_iter().map(written).collect())
}

struct Value {
    key: String,
    value: String,
    line: usize,
}

fn toml_values(text: &str) -> Result<Vec<Value>, toml::de::Error> {
    let table = DeTable::parse(text)?;
    let mut values = Vec::new();
    flatten(text, "", table.get_ref(), &mut values);
    Ok(values)
}

/// Tables become dotted keys, so that `[log] dir = …` and `log.dir = …` are the same.
fn flatten(text: &str, prefix: &str, table: &DeTable<'_>, values: &mut Vec<Value>) {
    for (name, value) in table {
        let key = match prefix {
            "" => name.get_ref().to_string(),
            prefix => format!("{prefix}.{}", name.get_ref()),
        };
        if let DeValue::Table(inner) = value.get_ref() {
            flatten(text, &key, inner, values);
            continue;
        }
        let line = 1 + text[..value.span().start].matches('\n').count();
        values.push(Value { key, value: shown(text, value), line });
    }
}

/// As it would be written without quotes; a list with commas between what is in it.
fn shown(text: &str, value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_str()) => {
            let items: Vec<_> = items.iter().filter_map(|item| item.get_ref().as_str()).collect();
            items.join(",")
        }
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
        _ => text[value.span()].to_owned(),
    }
}

fn properties(text: &str) -> Result<Vec<Value>, java_properties::PropertiesError> {
    let mut values: Vec<Value> = Vec::new();
    let text = without_comments(text);
    for line in PropertiesIter::new_with_encoding(text.as_bytes(), UTF_8) {
        let line = line?;
        let number = line.line_number();
        if let LineContent::KVPair(key, value) = line.consume_content() {
            // As in Java, what is said last counts.
            values.retain(|earlier| earlier.key != key);
            // Nothing here means anything by the blanks at an end.
            values.push(Value { key, value: value.trim_end().to_owned(), line: number });
        }
    }
    Ok(values)
}

/// Java passes comments over as they are; the parser would read `C:\users` in one as an escape.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut goes_on = false;
    for line in text.lines() {
        let is_comment = !goes_on && line.trim_start().starts_with(['#', '!']);
        if !is_comment {
            kept.push_str(line);
        }
        let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
        goes_on = !is_comment && backslashes % 2 == 1;
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, text: &str) -> Vec<(String, String, usize)> {
        let read = read(&ConfigFile::new(name, text)).unwrap();
        let value = |written: Written| match written.origin {
            Origin::File { line, .. } => (written.key, written.value, line),
            other => panic!("{other}"),
        };
        read.into_iter().map(value).collect()
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "# of C:\\users\n! and so on\n\nnode.id=1\nlog.dirs : /a,\\\n   /b\nnum.partitions 3\n\
                    broker.rack = K\\u00f6ln\\t\\\n#1\nempty=\nnode.id=2\n";
        let expected = [
            ("log.dirs", "/a,/b", 5),
            ("num.partitions", "3", 7),
            ("broker.rack", "Köln\t#1", 8),
            ("empty", "", 10),
            ("node.id", "2", 11),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, value, line)| ((*key).to_owned(), (*value).to_owned(), *line))
            .collect();
        assert_eq!(values("server.properties", text), expected);
        let umlaut = values("server.properties", "broker.rack=Köln\r\n");
        assert_eq!(umlaut, [("broker.rack".to_owned(), "Köln".to_owned(), 1)]);
    }

    #[test]
    fn the_format_is_told_by_the_extension_and_else_by_the_content() {
        let format = |name: &str, text: &str| ConfigFile::new(name, text).format;
        let (toml, properties) = ("log.dir = \"/a\"\n", "log.dir = /a\n");
        assert_eq!(format("a.toml", properties), FileFormat::Toml);
        assert_eq!(format("a.properties", toml), FileFormat::Properties);
        for name in ["troupe.conf", "server", "/etc/conf.d/troupe"] {
            assert_eq!(format(name, toml), FileFormat::Toml);
            assert_eq!(format(name, properties), FileFormat::Properties);
            assert_eq!(format(name, "[log\ndir = \"/a\"\n"), FileFormat::Toml);
        }
        let fault = read(&ConfigFile::new("a.toml", properties)).unwrap_err();
        assert!(
            fault.contains("as its extension says") && fault.contains("*.properties"),
            "{fault}"
        );
    }

    #[test]
    fn tables_and_lists_of_toml_are_keys_and_commas() {
        let text = "node.id = 0x10\n[log]\ndirs = [\"/a\", \"/b\"]\n[num]\npartitions = 1_000\n";
        let found = values("troupe.toml", text);
        let expected =
            [("log.dirs", "/a,/b", 3), ("node.id", "16", 1), ("num.partitions", "1000", 5)];
        for (key, value, line) in expected {
            assert!(found.contains(&(key.to_owned(), value.to_owned(), line)), "{key}: {found:?}");
        }
    }
}

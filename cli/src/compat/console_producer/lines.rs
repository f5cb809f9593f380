//! What a line is: a value, or headers and a key in front of it.

use crate::compat::ended::Ended;
use crate::compat::properties::Properties;
use crate::streams::notice;
use bytes::Bytes;
use troupe_client::ProducerRecord;

/// How lines are cut.
#[derive(Debug)]
pub struct Reader {
    parse_key: bool,
    parse_headers: bool,
    key_separator: Vec<u8>,
    headers_delimiter: Vec<u8>,
    headers_separator: Vec<u8>,
    headers_key_separator: Vec<u8>,
    null_marker: Option<Vec<u8>>,
    ignore_error: bool,
}

const KNOWN: [&str; 8] = [
    "parse.key",
    "parse.headers",
    "key.separator",
    "headers.delimiter",
    "headers.separator",
    "headers.key.separator",
    "null.marker",
    "ignore.error",
];

impl Reader {
    /// # Errors
    /// What does not go together.
    pub fn new(properties: &Properties) -> Result<Reader, Ended> {
        for (key, _) in properties.pairs() {
            if !KNOWN.contains(&key.as_str()) {
                notice!("WARN: {key} has no effect here");
            }
        }
        let is_on =
            |key| properties.get(key).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
        let bytes = |key, default: &str| properties.get(key).unwrap_or(default).as_bytes().to_vec();
        let reader = Reader {
            parse_key: is_on("parse.key"),
            parse_headers: is_on("parse.headers"),
            key_separator: bytes("key.separator", "\t"),
            headers_delimiter: bytes("headers.delimiter", "\t"),
            headers_separator: bytes("headers.separator", ","),
            headers_key_separator: bytes("headers.key.separator", ":"),
            null_marker: properties.get("null.marker").map(|text| text.as_bytes().to_vec()),
            ignore_error: is_on("ignore.error"),
        };
        if reader.headers_separator == reader.headers_key_separator {
            return Err(Ended::err(
                "org.apache.kafka.common.KafkaException: headers.separator and headers.key.separator may not be equal",
            ));
        }
        if reader.null_marker.as_ref() == Some(&reader.key_separator) {
            return Err(Ended::err(
                "org.apache.kafka.common.KafkaException: null.marker and key.separator may not be equal",
            ));
        }
        Ok(reader)
    }

    /// # Errors
    /// A separator is missing, in Kafka's words.
    pub fn record(&self, line: &[u8], number: u64, topic: &str) -> Result<ProducerRecord, String> {
        let mut record = ProducerRecord::new(topic);
        let mut rest = line;
        if self.parse_headers {
            match cut(rest, &self.headers_delimiter) {
                Some((headers, behind)) => {
                    record.headers = self.headers(headers, number)?;
                    rest = behind;
                }
                None if self.ignore_error => {}
                None => return Err(missing("headers delimiter", number, line)),
            }
        }
        if self.parse_key {
            match cut(rest, &self.key_separator) {
                Some((key, behind)) => {
                    record.key = self.unless_null(key);
                    rest = behind;
                }
                None if self.ignore_error => {}
                None => return Err(missing("key separator", number, line)),
            }
        }
        record.value = self.unless_null(rest);
        Ok(record)
    }

    fn headers(&self, text: &[u8], number: u64) -> Result<Vec<(String, Option<Bytes>)>, String> {
        if self.null_marker.as_deref() == Some(text) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut rest = text;
        loop {
            let (one, behind) = match cut(rest, &self.headers_separator) {
                Some((one, behind)) => (one, Some(behind)),
                None => (rest, None),
            };
            match cut(one, &self.headers_key_separator) {
                Some((name, value)) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    found.push((name, self.unless_null(value)));
                }
                None if self.ignore_error => {
                    found.push((String::from_utf8_lossy(one).into_owned(), None));
                }
                None => {
                    return Err(format!(
                        "No header key separator found in pair '{}' on line number {number}",
                        String::from_utf8_lossy(one)
                    ));
                }
            }
            match behind {
                Some(behind) => rest = behind,
                None => return Ok(found),
            }
        }
    }

    fn unless_null(&self, bytes: &[u8]) -> Option<Bytes> {
        match self.null_marker.as_deref() == Some(bytes) {
            true => None,
            false => Some(Bytes::copy_from_slice(bytes)),
        }
    }
}

/// What is in front of it, and behind.
fn cut<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memchr::memmem::find(bytes, separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

fn missing(what: &str, number: u64, line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    format!("No {what} found on line number {number}: '{line}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(pairs: &[&str]) -> Reader {
        Reader::new(&Properties::default().and(pairs).unwrap()).unwrap()
    }

    /// A5.
    #[test]
    fn a_line_is_headers_a_key_and_a_value() {
        let plain = reader(&[]).record(b"a:b", 1, "t").unwrap();
        assert_eq!((plain.key, plain.value.as_deref()), (None, Some(&b"a:b"[..])));
        let keyed = reader(&["parse.key=true", "key.separator=:", "null.marker=NULL"]);
        let record = keyed.record(b"a:b:c", 1, "t").unwrap();
        assert_eq!((record.key.unwrap(), record.value.unwrap()), ("a".into(), "b:c".into()));
        assert_eq!(keyed.record(b"a:NULL", 1, "t").unwrap().value, None);
        let told = keyed.record(b"nokey", 7, "t").unwrap_err();
        assert_eq!(told, "No key separator found on line number 7: 'nokey'");
        let all = reader(&["parse.key=true", "parse.headers=true"]);
        let record = all.record(b"h1:a,h2:b\tk\tv", 1, "t").unwrap();
        let expected = [("h1".to_owned(), Some("a".into())), ("h2".to_owned(), Some("b".into()))];
        assert_eq!(record.headers, expected);
        assert_eq!((record.key.unwrap(), record.value.unwrap()), ("k".into(), "v".into()));
        let told = all.record(b"h1\tk\tv", 2, "t").unwrap_err();
        assert_eq!(told, "No header key separator found in pair 'h1' on line number 2");
    }

    #[test]
    fn errors_are_ignored_where_that_was_asked_for() {
        let lenient = reader(&["parse.key=true", "ignore.error=true"]);
        let record = lenient.record(b"no tab", 1, "t").unwrap();
        assert_eq!((record.key, record.value.unwrap()), (None, "no tab".into()));
    }
}

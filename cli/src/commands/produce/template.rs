//! What the command line says of every record, checked before the first byte is read.

use super::arguments::Produce;
use crate::failure::Failure;
use crate::record_format::{InputFormat, unescape};
use troupe_proto::ids::PartitionId;

/// What every record has, and how the input is cut.
pub struct Template {
    pub framing: Framing,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub partition: Option<PartitionId>,
}

pub enum Framing {
    /// At \n and nothing else.
    Lines,
    Format(InputFormat),
}

impl Template {
    pub fn new(produce: &Produce) -> Result<Template, Failure> {
        let null = produce.null_marker.as_deref().map(str::as_bytes);
        let escaped = |text: &str| text.replace('%', "%%");
        let format = match (&produce.format, &produce.key_separator) {
            (Some(format), _) => Some(format.clone()),
            (None, Some(separator)) => {
                unescape(separator).map_err(Failure::usage)?;
                Some(format!("%k{}%v\\n", escaped(separator)))
            }
            (None, None) if null.is_some() => Some("%v\\n".to_owned()),
            (None, None) => None,
        };
        let framing = match format {
            None => Framing::Lines,
            Some(format) => match InputFormat::parse(&format, null) {
                Ok(format) => Framing::Format(format),
                Err(error) => return Err(Failure::usage(format!("-f '{format}': {error}"))),
            },
        };
        let headers: Result<_, _> = produce.headers.iter().map(|text| parse_header(text)).collect();
        Ok(Template {
            framing,
            key: produce.key.clone().map(String::into_bytes),
            headers: headers?,
            partition: produce.partition().map(PartitionId),
        })
    }
}

/// `name: value` as in curl, or `name=value` as in kcat; a name alone has no value.
fn parse_header(text: &str) -> Result<(String, Option<Vec<u8>>), Failure> {
    let (name, value) = match text.find([':', '=']) {
        Some(at) => {
            let value = &text[at + 1..];
            let value = value.strip_prefix(' ').unwrap_or(value);
            (&text[..at], Some(value.as_bytes().to_vec()))
        }
        None => (text, None),
    };
    if name.trim().is_empty() {
        return Err(Failure::usage(format!("-H '{text}': the name is empty; write 'name: value'")));
    }
    Ok((name.trim().to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_written_as_in_curl_or_in_kcat() {
        let header = |text| parse_header(text).ok();
        let value = |name: &str, value: &[u8]| Some((name.to_owned(), Some(value.to_vec())));
        assert_eq!(header("type: text/plain"), value("type", b"text/plain"));
        assert_eq!(header("a=b:c"), value("a", b"b:c"));
        assert_eq!(header("empty:"), value("empty", b""));
        assert_eq!(header("null"), Some(("null".to_owned(), None)));
        assert_eq!(header(": x"), None);
    }
}

//! Printing records by a format. A compiled format is a list of pieces; printing allocates nothing.

use super::grammar::{
    Encoding, FormatError, NUMBER_ENCODINGS, NumberEncoding, Token, fault, tokens,
};
use crate::timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;
use troupe_proto::batch::{BatchHeader, RecordRef};

/// A record and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Printed<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub header: &'a BatchHeader,
    pub record: RecordRef<'a>,
    /// From 1: how many were printed, this one included.
    pub count: u64,
}

/// A compiled format of `consume -f`.
#[derive(Clone, Debug)]
pub struct RecordFormat {
    pieces: Vec<Piece>,
    /// What is printed for a null key or value.
    null: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(Vec<u8>),
    Bytes(BytesOf, Encoding),
    Number(NumberOf, NumberEncoding),
    Moment,
    /// `k=v,k=v`.
    HeaderList,
    Headers(Vec<Piece>),
}

#[derive(Clone, Copy, Debug)]
enum BytesOf {
    Topic,
    Key,
    Value,
}

#[derive(Clone, Copy, Debug)]
enum NumberOf {
    Partition,
    Offset,
    LeaderEpoch,
    Timestamp,
    TopicLength,
    KeyLength,
    ValueLength,
    HeaderCount,
    Count,
    ProducerId,
    ProducerEpoch,
}

impl RecordFormat {
    pub fn parse(format: &str, null: &[u8]) -> Result<RecordFormat, FormatError> {
        Ok(RecordFormat { pieces: compile(format, false)?, null: null.to_vec() })
    }

    pub fn write(&self, record: &Printed<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Bytes(of, encoding) => {
                    let bytes = match of {
                        BytesOf::Topic => Some(record.topic.as_bytes()),
                        BytesOf::Key => record.record.key,
                        BytesOf::Value => record.record.value,
                    };
                    self.write_bytes(bytes, *encoding, out);
                }
                Piece::Number(of, encoding) => write_number(number(*of, record), *encoding, out),
                Piece::Moment => {
                    out.extend_from_slice(timestamp::show(record.record.timestamp_ms).as_bytes());
                }
                Piece::HeaderList => {
                    for (index, (key, value)) in record.record.headers().enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        out.extend_from_slice(key.as_bytes());
                        out.push(b'=');
                        self.write_bytes(value, Encoding::Plain, out);
                    }
                }
                Piece::Headers(pieces) => {
                    for (key, value) in record.record.headers() {
                        self.write_header(pieces, key, value, out);
                    }
                }
            }
        }
    }

    fn write_header(&self, pieces: &[Piece], key: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
        for piece in pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Bytes(BytesOf::Value, encoding) => self.write_bytes(value, *encoding, out),
                Piece::Bytes(_, encoding) => self.write_bytes(Some(key.as_bytes()), *encoding, out),
                Piece::Number(NumberOf::ValueLength, encoding) => {
                    write_number(length(value), *encoding, out);
                }
                Piece::Number(_, encoding) => write_number(key.len() as i64, *encoding, out),
                Piece::Moment | Piece::HeaderList | Piece::Headers(_) => {
                    unreachable!("compile() allows keys, values and their lengths in %h{{}} only")
                }
            }
        }
    }

    fn write_bytes(&self, bytes: Option<&[u8]>, encoding: Encoding, out: &mut Vec<u8>) {
        let Some(bytes) = bytes else {
            let null: &[u8] = if encoding == Encoding::Json { b"null" } else { &self.null };
            out.extend_from_slice(null);
            return;
        };
        match encoding {
            Encoding::Plain => out.extend_from_slice(bytes),
            Encoding::Hex => bytes.iter().for_each(|byte| write_hex(u64::from(*byte), 2, out)),
            Encoding::Base64 => out.extend_from_slice(STANDARD.encode(bytes).as_bytes()),
            Encoding::Json => {
                // Writing text to memory cannot fail.
                let _ = serde_json::to_writer(&mut *out, &String::from_utf8_lossy(bytes));
            }
        }
    }
}

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

fn number(of: NumberOf, printed: &Printed<'_>) -> i64 {
    let record = &printed.record;
    match of {
        NumberOf::Partition => i64::from(printed.partition),
        NumberOf::Offset => record.offset.to_wire(),
        NumberOf::LeaderEpoch => i64::from(printed.header.leader_epoch.0),
        NumberOf::Timestamp => record.timestamp_ms,
        NumberOf::TopicLength => printed.topic.len() as i64,
        NumberOf::KeyLength => length(record.key),
        NumberOf::ValueLength => length(record.value),
        NumberOf::HeaderCount => record.headers().count() as i64,
        NumberOf::Count => printed.count as i64,
        NumberOf::ProducerId => printed.header.producer.map_or(-1, |stamp| stamp.id.0 as i64),
        NumberOf::ProducerEpoch => {
            printed.header.producer.map_or(-1, |stamp| i64::from(stamp.epoch.0))
        }
    }
}

/// Binary forms keep the low bits: -1 is all ones in every width.
fn write_number(number: i64, encoding: NumberEncoding, out: &mut Vec<u8>) {
    match encoding {
        NumberEncoding::Ascii => {
            // Writing to memory cannot fail.
            let _ = write!(out, "{number}");
        }
        NumberEncoding::Hex { bits } => write_hex(number as u64, bits as usize / 4, out),
        NumberEncoding::Big { bits } => {
            out.extend_from_slice(&number.to_be_bytes()[8 - bits as usize / 8..]);
        }
        NumberEncoding::Little { bits } => {
            out.extend_from_slice(&number.to_le_bytes()[..bits as usize / 8]);
        }
    }
}

fn write_hex(number: u64, digits: usize, out: &mut Vec<u8>) {
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * digit) & 0xf) as usize]);
    }
}

fn compile(format: &str, in_header: bool) -> Result<Vec<Piece>, FormatError> {
    tokens(format)?
        .into_iter()
        .map(|token| match token {
            Token::Literal(bytes) => Ok(Piece::Literal(bytes)),
            Token::Verb(verb, modifier) => compile_verb(verb, modifier.as_deref(), in_header),
        })
        .collect()
}

fn compile_verb(verb: char, modifier: Option<&str>, in_header: bool) -> Result<Piece, FormatError> {
    if in_header && !matches!(verb, 'k' | 'v' | 'K' | 'V' | 's' | 'S') {
        return fault(format!("`%{verb}` has no meaning in %h{{…}}; use %k, %v, %K and %V there"));
    }
    let bytes = |of| match modifier {
        None => Ok(Piece::Bytes(of, Encoding::Plain)),
        Some(name) => match Encoding::named(name) {
            Some(encoding) => Ok(Piece::Bytes(of, encoding)),
            None => fault(format!("`%{verb}{{{name}}}` is unknown; use hex, base64 or json")),
        },
    };
    let number = |of| match modifier {
        None => Ok(Piece::Number(of, NumberEncoding::Ascii)),
        Some(name) => match NumberEncoding::named(name) {
            Some(encoding) => Ok(Piece::Number(of, encoding)),
            None => fault(format!("`%{verb}{{{name}}}` is unknown; use one of {NUMBER_ENCODINGS}")),
        },
    };
    match verb {
        't' => bytes(BytesOf::Topic),
        'k' => bytes(BytesOf::Key),
        'v' => bytes(BytesOf::Value),
        'p' => number(NumberOf::Partition),
        'o' => number(NumberOf::Offset),
        'e' => number(NumberOf::LeaderEpoch),
        'T' | 'd' if matches!(modifier, Some("iso" | "rfc3339")) => Ok(Piece::Moment),
        'T' | 'd' => number(NumberOf::Timestamp),
        'l' => number(NumberOf::TopicLength),
        'K' => number(NumberOf::KeyLength),
        'V' | 's' | 'S' => number(NumberOf::ValueLength),
        'H' => number(NumberOf::HeaderCount),
        'i' => number(NumberOf::Count),
        'x' => number(NumberOf::ProducerId),
        'y' => number(NumberOf::ProducerEpoch),
        'h' => match modifier {
            None => Ok(Piece::HeaderList),
            Some(inner) => Ok(Piece::Headers(compile(inner, true)?)),
        },
        _ => fault(format!(
            "`%{verb}` is unknown; use %v %k %t %p %o %T %h %e, or their lengths %V %K %H"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::batch::{BuiltBatch, Compression, Limits, RecordSet, RecordSetBuilder};
    use troupe_proto::ids::LeaderEpoch;

    fn batch() -> BuiltBatch {
        let mut builder = RecordSetBuilder::new();
        let headers: [(&str, Option<&[u8]>); 2] = [("a", Some(b"1")), ("b", None)];
        builder.push(1_709_210_096_789, Some(b"key"), Some(b"v\xff"), &headers);
        builder.push(1_709_210_096_790, None, Some(b""), &[]);
        builder.finish(Compression::None, None).unwrap()
    }

    fn print(format: &str) -> Vec<u8> {
        let batch = batch();
        let mut header = batch.header;
        header.leader_epoch = LeaderEpoch(3);
        let records = RecordSet::decode(&header, batch.payload, Limits::default()).unwrap();
        let format = RecordFormat::parse(format, b"").unwrap();
        let mut out = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let record = record.unwrap();
            let count = index as u64 + 1;
            let printed = Printed { topic: "orders", partition: 7, header: &header, record, count };
            format.write(&printed, &mut out);
        }
        out
    }

    #[test]
    fn every_verb_prints_its_part() {
        assert_eq!(print("%v|"), b"v\xff||");
        assert_eq!(print("%t/%p@%o %k\\n"), b"orders/7@0 key\norders/7@1 \n");
        assert_eq!(print("%e,%i;"), b"3,1;3,2;");
        assert_eq!(
            print("%T %d{iso}\\t").split(|b| *b == b'\t').next().unwrap(),
            b"1709210096789 2024-02-29T12:34:56.789Z"
        );
        assert_eq!(print("%K %V %s %H %l,"), b"3 2 2 2 6,-1 0 0 0 6,");
        assert_eq!(print("%h;"), b"a=1,b=;;");
        assert_eq!(print("%h{%k(%V)%v }."), b"a(1)1 b(-1) ..");
        assert_eq!(print("%x%%%{%}"), b"-1%{}-1%{}");
    }

    #[test]
    fn codings_keep_every_byte() {
        assert_eq!(print("%v{hex} "), b"76ff  ");
        assert_eq!(print("%v{base64} "), b"dv8=  ");
        assert_eq!(print("%k{json} "), b"\"key\" null ");
        assert_eq!(print("%K{big32}"), b"\0\0\0\x03\xff\xff\xff\xff");
        assert_eq!(print("%V{little16}"), b"\x02\0\0\0");
        assert_eq!(print("%p{hex8}"), b"0707");
    }

    #[test]
    fn an_unknown_verb_is_told_with_what_there_is() {
        for format in ["%q", "%v{zip}", "%V{big7}", "%h{%t}"] {
            let error = RecordFormat::parse(format, b"").unwrap_err();
            assert!(error.0.contains("use"), "{format}: {error}");
        }
    }
}

//! Where records are printed: a large buffer in front of standard output.

use crate::decoder::Decoder;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::visible;
use crate::record_format::{Printed, RecordFormat};
use crate::streams::write_results_counted;
use crate::timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, Write};

const BUFFER_BYTES: usize = 256 << 10;

/// How a record looks.
#[derive(Debug)]
pub enum RecordStyle {
    Format(RecordFormat),
    /// One JSON object per line.
    Json,
    /// The same, of what the record of an internal topic says.
    Decoded(Decoder),
    /// For a person: one line per record, control characters made visible.
    Readable {
        wide: bool,
    },
}

#[derive(Debug)]
pub struct Sink {
    style: RecordStyle,
    buffer: Vec<u8>,
    /// Bytes that surely are where they belong.
    written: u64,
    /// Something could not be written: nothing is any more, and what was not is never taken for written.
    failed: Option<Failure>,
}

impl Sink {
    pub fn new(style: RecordStyle) -> Sink {
        Sink { style, buffer: Vec::with_capacity(2 * BUFFER_BYTES), written: 0, failed: None }
    }

    /// True if everything so far is written out, this record included; else that waits for [`Sink::flush`].
    ///
    /// # Errors
    /// It cannot be decoded or written out: nor can anything after it.
    #[inline]
    pub fn write(&mut self, printed: &Printed<'_>) -> Result<bool, Failure> {
        match &self.style {
            RecordStyle::Format(format) => format.write(printed, &mut self.buffer),
            RecordStyle::Json => write_json(printed, &mut self.buffer),
            RecordStyle::Decoded(decoder) => match decoder.decode(&printed.record) {
                // Writing to memory cannot fail.
                Ok(meaning) => drop(writeln!(self.buffer, "{meaning}")),
                Err(cause) => return Err(Failure::new(Exit::Failed, "cannot decode", cause)),
            },
            RecordStyle::Readable { wide } => write_readable(printed, *wide, &mut self.buffer),
        }
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(false);
        }
        self.flush().map(|()| true)
    }

    /// Writes out what was printed.
    ///
    /// # Errors
    /// Some of it is not written, now or since an earlier call.
    pub fn flush(&mut self) -> Result<(), Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let mut taken = 0;
        let outcome = write_results_counted(&self.buffer, &mut taken);
        self.buffer.clear();
        let in_a_pipe = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted)
        };
        // What is still in a pipe when its reader leaves, or stops, nobody has got.
        if !outcome.as_ref().is_err_and(in_a_pipe) {
            self.written += taken;
        }
        outcome.map_err(|error| self.failed.insert(Failure::writing(&error)).clone())
    }

    /// Bytes that surely are where they belong, of all that were printed.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that were printed, as long as nothing has failed.
    pub fn printed(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }
}

/// Text as `value`, other bytes as `valueBase64`; null is `"value": null`.
fn write_json(printed: &Printed<'_>, out: &mut Vec<u8>) {
    let record = &printed.record;
    out.extend_from_slice(b"{\"topic\":");
    json_text(printed.topic, out);
    // Writing to memory cannot fail.
    let _ = write!(
        out,
        ",\"partition\":{},\"offset\":{},\"timestamp\":{}",
        printed.partition, record.offset, record.timestamp_ms
    );
    json_bytes("key", record.key, out);
    json_bytes("value", record.value, out);
    out.extend_from_slice(b",\"headers\":[");
    for (index, (key, value)) in record.headers().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"key\":");
        json_text(key, out);
        json_bytes("value", value, out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
}

fn json_text(text: &str, out: &mut Vec<u8>) {
    // Text to memory: neither can fail.
    let _ = serde_json::to_writer(out, text);
}

fn json_bytes(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    let _ = write!(out, ",\"{name}");
    match bytes.map(|bytes| (bytes, str::from_utf8(bytes))) {
        None => out.extend_from_slice(b"\":null"),
        Some((_, Ok(text))) => {
            out.extend_from_slice(b"\":");
            json_text(text, out);
        }
        Some((bytes, Err(_))) => {
            let _ = write!(out, "Base64\":\"{}\"", STANDARD.encode(bytes));
        }
    }
}

fn write_readable(printed: &Printed<'_>, wide: bool, out: &mut Vec<u8>) {
    let record = &printed.record;
    let _ = write!(out, "{}:{:<8} ", printed.partition, record.offset);
    if wide {
        let _ = write!(
            out,
            "{}  epoch {}  ",
            timestamp::show(record.timestamp_ms),
            printed.header.leader_epoch
        );
    }
    if let Some(key) = record.key {
        visible(key, out);
        out.extend_from_slice(b" = ");
    }
    match record.value {
        Some(value) => visible(value, out),
        None => out.extend_from_slice(b"(null)"),
    }
    for (index, (key, value)) in record.headers().enumerate() {
        out.extend_from_slice(if index == 0 { b"  {" } else { b", " });
        visible(key.as_bytes(), out);
        if let Some(value) = value {
            out.extend_from_slice(b": ");
            visible(value, out);
        }
    }
    if record.headers().next().is_some() {
        out.push(b'}');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::batch::{Compression, Limits, RecordSet, RecordSetBuilder};

    fn printed(write: impl Fn(&Printed<'_>, &mut Vec<u8>)) -> String {
        let mut builder = RecordSetBuilder::new();
        builder.push(0, Some(b"k\x1b[2J"), Some(b"v\xff"), &[("a", Some(b"1")), ("b", None)]);
        builder.push(1, None, None, &[]);
        let batch = builder.finish(Compression::None, None).unwrap();
        let records = RecordSet::decode(&batch.header, batch.payload, Limits::default()).unwrap();
        let mut out = Vec::new();
        for record in records.iter() {
            let (header, record) = (&batch.header, record.unwrap());
            write(&Printed { topic: "t", partition: 3, header, record, count: 1 }, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_keeps_text_bytes_and_null_apart() {
        let lines = printed(write_json);
        let mut lines = lines.lines();
        assert_eq!(
            lines.next().unwrap(),
            r#"{"topic":"t","partition":3,"offset":0,"timestamp":0,"key":"k\u001b[2J","valueBase64":"dv8=","headers":[{"key":"a","value":"1"},{"key":"b","value":null}]}"#
        );
        assert_eq!(
            lines.next().unwrap(),
            r#"{"topic":"t","partition":3,"offset":1,"timestamp":1,"key":null,"value":null,"headers":[]}"#
        );
    }

    #[test]
    fn a_terminal_is_never_steered_by_what_a_record_holds() {
        let lines = printed(|record, out| write_readable(record, false, out));
        assert_eq!(lines, "3:0        k\\u{1b}[2J = v\\xff  {a: 1, b}\n3:1        (null)\n");
    }
}

//! `troupe log dump`: a line for each batch, record or entry, as it is read; nothing is kept in memory.

use crate::decoder::Decoder;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Format, Output, visible};
use crate::streams::{Results, notice};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use troupe_log::LogError;
use troupe_log::dump::{DumpedBatch, FileKind, LogFile};
use troupe_proto::batch::{BatchError, Limits, RecordRef, RecordSet};
use troupe_proto::log::v1::ProducerSnapshot;

/// The facts of a line, in order.
type Facts = Vec<(&'static str, Value)>;

/// What is printed of a segment.
#[derive(Clone, Copy, Debug)]
pub enum Detail {
    Batches,
    BatchesAndRecords,
    /// The records, and only their meaning; other files than segments have none.
    Decoded(Decoder),
}

pub fn run(global: &Global, files: &[(PathBuf, FileKind)], detail: Detail) -> Result<(), Failure> {
    let mut output = global.output();
    if matches!(detail, Detail::Decoded(_)) && output.format != Format::Json {
        output.format = Format::Jsonl;
    }
    let mut printer = Printer::new(&output);
    let mut damaged = 0;
    for (path, kind) in files {
        if matches!(detail, Detail::Decoded(_)) && *kind != FileKind::Log {
            continue;
        }
        printer.open(path, *kind)?;
        if let Err(error) = dump(path, *kind, detail, &mut printer) {
            match error {
                DumpError::Printing(failure) => return Err(failure),
                DumpError::Reading(cause) => {
                    printer.out.flush().map_err(|error| Failure::writing(&error))?;
                    notice!("{}: {cause}", path.display());
                    damaged += 1;
                }
            }
        }
        printer.close()?;
    }
    printer.end()?;
    match damaged {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Failed, "", format!("{count} files are damaged"))),
    }
}

enum DumpError {
    Printing(Failure),
    /// What is wrong with the file; the others go on.
    Reading(String),
}

impl From<Failure> for DumpError {
    fn from(failure: Failure) -> Self {
        DumpError::Printing(failure)
    }
}

impl From<LogError> for DumpError {
    fn from(error: LogError) -> Self {
        DumpError::Reading(error.to_string())
    }
}

fn dump(
    path: &Path,
    kind: FileKind,
    detail: Detail,
    printer: &mut Printer,
) -> Result<(), DumpError> {
    match kind {
        FileKind::Log => {
            for batch in LogFile::open(path)? {
                let batch = batch.map_err(|error| DumpError::Reading(error.to_string()))?;
                if !matches!(detail, Detail::Decoded(_)) {
                    printer.line(batch_facts(&batch))?;
                }
                dump_records(&batch, detail, printer)?;
            }
        }
        FileKind::OffsetIndex => {
            for (offset, position) in troupe_log::dump::offset_index(path)? {
                printer.line(vec![("offset", json!(offset.0)), ("position", json!(position))])?;
            }
        }
        FileKind::TimeIndex => {
            for (timestamp, offset) in troupe_log::dump::time_index(path)? {
                printer.line(vec![("timestamp", json!(timestamp)), ("offset", json!(offset.0))])?;
            }
        }
        FileKind::Snapshot => dump_snapshot(path, printer)?,
        FileKind::Epochs => {
            for (epoch, start) in troupe_log::dump::leader_epochs(path)? {
                printer
                    .line(vec![("leaderEpoch", json!(epoch.0)), ("startOffset", json!(start.0))])?;
            }
        }
        FileKind::Checkpoint => {
            for line in troupe_log::dump::checkpoint_lines(path)? {
                printer.line(vec![("line", json!(line))])?;
            }
        }
    }
    Ok(())
}

fn batch_facts(batch: &DumpedBatch) -> Facts {
    let header = &batch.header;
    let producer = header.producer;
    let last_sequence = producer.map(|stamp| stamp.last_sequence(header.record_count).0);
    let mut facts = vec![
        ("baseOffset", json!(header.base_offset.0)),
        ("lastOffset", json!(header.last_offset().0)),
        ("count", json!(header.record_count)),
        ("baseSequence", json!(producer.map(|stamp| stamp.base_sequence.0))),
        ("lastSequence", json!(last_sequence)),
        ("producerId", json!(producer.map(|stamp| stamp.id.0))),
        ("producerEpoch", json!(producer.map(|stamp| stamp.epoch.0))),
        ("leaderEpoch", json!(header.leader_epoch.0)),
        ("isTransactional", json!(header.attributes.is_transactional())),
        ("isControl", json!(header.attributes.is_control())),
        ("position", json!(batch.position)),
        ("baseTimestamp", json!(header.base_timestamp)),
        ("maxTimestamp", json!(header.max_timestamp)),
        ("size", json!(header.encoded_len())),
        ("compression", json!(header.attributes.compression().name())),
        ("payloadCrc", json!(format!("{:08x}", header.payload_crc))),
        ("headerCrc", json!(format!("{:08x}", batch.header_crc))),
        ("isValid", json!(batch.fault.is_none())),
    ];
    facts.extend(batch.fault.as_ref().map(|fault| ("fault", json!(fault.to_string()))));
    facts
}

fn dump_records(
    batch: &DumpedBatch,
    detail: Detail,
    printer: &mut Printer,
) -> Result<(), DumpError> {
    if matches!(detail, Detail::Batches) {
        return Ok(());
    }
    let unreadable = |error: BatchError| {
        DumpError::Reading(format!("the records of the batch at byte {}: {error}", batch.position))
    };
    let records = RecordSet::decode(&batch.header, batch.payload.clone(), Limits::default());
    for (record, index) in records.map_err(unreadable)?.iter().zip(0..) {
        let record = record.map_err(unreadable)?;
        if let Detail::Decoded(decoder) = detail {
            printer.entry(&decoder.decode(&record).map_err(DumpError::Reading)?)?;
            continue;
        }
        let sequence = batch.header.producer.map(|stamp| stamp.base_sequence.plus(index).0);
        printer.record(&record, sequence)?;
    }
    Ok(())
}

fn dump_snapshot(path: &Path, printer: &mut Printer) -> Result<(), DumpError> {
    let bytes = troupe_log::dump::producer_snapshot(path)?;
    let snapshot = <ProducerSnapshot as prost::Message>::decode(bytes)
        .map_err(|error| DumpError::Reading(error.to_string()))?;
    for producer in snapshot.producers {
        for batch in &producer.batches {
            printer.line(vec![
                ("producerId", json!(producer.producer_id)),
                ("producerEpoch", json!(producer.producer_epoch)),
                ("firstSequence", json!(batch.first_sequence)),
                ("lastSequence", json!(batch.last_sequence)),
                ("baseOffset", json!(batch.base_offset)),
                ("lastOffset", json!(batch.last_offset)),
                ("timestamp", json!(batch.timestamp_ms)),
                ("lastAppend", json!(producer.last_append_ms)),
            ])?;
        }
    }
    Ok(())
}

/// Lines in the format that was asked for. As JSON, all files are one document.
struct Printer {
    out: BufWriter<Results>,
    format: Format,
    file: String,
    files: u64,
    lines: u64,
}

impl Printer {
    fn new(output: &Output) -> Printer {
        let out = BufWriter::with_capacity(256 << 10, Results);
        Printer { out, format: output.format, file: String::new(), files: 0, lines: 0 }
    }

    fn put(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|error| Failure::writing(&error))
    }

    fn open(&mut self, path: &Path, kind: FileKind) -> Result<(), Failure> {
        self.file = path.display().to_string();
        self.lines = 0;
        let first = self.files == 0;
        self.files += 1;
        match self.format {
            Format::Jsonl => Ok(()),
            Format::Json => {
                let name = json!(self.file);
                let before = if first { "{\"files\":[" } else { "," };
                self.put(&format!("{before}\n{{\"file\":{name},\"entries\":["))
            }
            Format::Table | Format::Wide => {
                self.put(&format!("Dumping {}\n", path.display()))?;
                match troupe_log::dump::base_offset(path).filter(|_| kind == FileKind::Log) {
                    Some(base) => self.put(&format!("Log starting offset: {base}\n")),
                    None => Ok(()),
                }
            }
        }
    }

    fn close(&mut self) -> Result<(), Failure> {
        if self.format == Format::Json { self.put("]}") } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.format == Format::Json {
            self.put("]}\n")?;
        }
        self.out.flush().map_err(|error| Failure::writing(&error))
    }

    fn line(&mut self, facts: Facts) -> Result<(), Failure> {
        if self.format.is_json() {
            return self.object(facts);
        }
        let mut text = String::new();
        for (index, (name, value)) in facts.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            let _ = match value {
                Value::Null => write!(text, "{gap}{name}: -"),
                Value::String(word) => write!(text, "{gap}{name}: {word}"),
                other => write!(text, "{gap}{name}: {other}"),
            };
        }
        text.push('\n');
        self.put(&text)
    }

    fn object(&mut self, facts: Facts) -> Result<(), Failure> {
        let object: Map<String, Value> =
            facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.entry(&Value::Object(object))
    }

    /// A document of its own.
    fn entry(&mut self, entry: &Value) -> Result<(), Failure> {
        let first = self.lines == 0;
        self.lines += 1;
        match self.format {
            Format::Json => self.put(&format!("{}\n{entry}", if first { "" } else { "," })),
            _ => self.put(&format!("{entry}\n")),
        }
    }

    fn record(&mut self, record: &RecordRef<'_>, sequence: Option<u32>) -> Result<(), Failure> {
        let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
        let mut facts: Facts = vec![
            ("offset", json!(record.offset.0)),
            ("timestamp", json!(record.timestamp_ms)),
            ("keySize", json!(size(record.key))),
            ("valueSize", json!(size(record.value))),
            ("sequence", json!(sequence)),
        ];
        if self.format.is_json() {
            let headers: Vec<Value> = record
                .headers()
                .map(|(key, value)| json!({ "key": key, "value": value.map(lossy) }))
                .collect();
            facts.push(("headers", json!(headers)));
            facts.push(("key", json!(record.key.map(lossy))));
            facts.push(("value", json!(record.value.map(lossy))));
            return self.object(facts);
        }
        let keys: Vec<&str> = record.headers().map(|(key, _)| key).collect();
        facts.push(("headerKeys", json!(format!("[{}]", keys.join(",")))));
        let shown = |bytes: &[u8]| {
            let mut text = Vec::new();
            visible(bytes, &mut text);
            json!(lossy(&text))
        };
        facts.push(("key", record.key.map_or(Value::Null, shown)));
        facts.push(("value", record.value.map_or(Value::Null, shown)));
        self.put("| ")?;
        self.line(facts)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

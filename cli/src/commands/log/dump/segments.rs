//! Batches and their records, in Kafka's words.
//!
//! A batch has two checksums here: `crc` is the one over its records, `headerCrc` the one over header and partition.
//! `magic` is that of the Kafka batches that say the same.

use super::facts::{Fact, Facts, fact, if_there, optional_long, or_minus_one};
use super::failure::DumpFailure;
use super::options::{Detail, Options};
use super::printer::Printer;
use crate::output::visible;
use serde_json::{Value, json};
use std::path::Path;
use troupe_log::dump::{DumpError, DumpedBatch, LogFile};
use troupe_proto::batch::{BatchError, BatchHeader, Limits, RecordRef, RecordSet};

/// Kafka's version of what a batch says: with producer, leader epoch and sequences.
const MAGIC: u32 = 2;

/// Prints what can be read; what is wrong with the file comes back.
pub fn dump(
    path: &Path,
    options: &Options,
    printer: &mut Printer,
) -> Result<Vec<String>, DumpFailure> {
    let mut faults = Vec::new();
    for batch in LogFile::open(path)?.up_to(options.max_bytes) {
        match batch {
            Ok(batch) => dump_batch(&batch, options, printer, |fault| {
                let (position, path) = (batch.position, path.display());
                faults.push(format!("{path}: the batch at byte {position}: {fault}"));
            })?,
            Err(DumpError::Log(error)) => return Err(error.into()),
            Err(error) => {
                if let DumpError::BadBatch { left, .. } = error {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    printer.text(&format!("Found {left} invalid bytes at the end of {name}\n"))?;
                }
                faults.push(format!("{}: {error}", path.display()));
            }
        }
    }
    Ok(faults)
}

fn dump_batch(
    batch: &DumpedBatch,
    options: &Options,
    printer: &mut Printer,
    mut fault: impl FnMut(String),
) -> Result<(), DumpFailure> {
    if let Some(cause) = &batch.fault {
        fault(cause.to_string());
    }
    if !options.detail.is_meaning_only() {
        printer.line(batch_facts(batch))?;
    }
    if options.detail == Detail::Batches {
        return Ok(());
    }
    if options.detail.is_meaning_only() && batch.header.attributes.is_control() {
        return Ok(());
    }
    let records = RecordSet::decode(&batch.header, batch.payload.clone(), Limits::default());
    let records = match records {
        Ok(records) => records,
        Err(error) => {
            fault(unreadable(&error));
            return Ok(());
        }
    };
    for record in records.iter() {
        match (record, options.detail) {
            (Err(error), _) => {
                fault(unreadable(&error));
                return Ok(());
            }
            (Ok(record), Detail::Decoded(decoder)) => match decoder.decode(&record) {
                Ok(entry) => printer.entry(&entry)?,
                Err(cause) => fault(cause),
            },
            (Ok(record), _) => {
                let facts = record_facts(&batch.header, &record, options, printer.is_json());
                printer.line_behind("| ", facts)?;
            }
        }
    }
    Ok(())
}

fn unreadable(error: &BatchError) -> String {
    format!("its records cannot be read: {error}")
}

/// What a timestamp is called: the producer's, or the leader's.
fn timestamp_name(header: &BatchHeader) -> &'static str {
    if header.attributes.is_log_append_time() { "LogAppendTime" } else { "CreateTime" }
}

fn batch_facts(batch: &DumpedBatch) -> Facts {
    let header = &batch.header;
    let producer = header.producer;
    // in the place of a marker's sequence stands what it says
    let sequenced = producer.filter(|_| header.marker().is_none());
    // as it was produced: compaction keeps the offsets, and with them the sequences
    let produced = header.last_offset_delta.saturating_add(1);
    let mut facts = vec![
        fact("baseOffset", header.base_offset.0),
        fact("lastOffset", header.last_offset().0),
        fact("count", header.record_count),
        or_minus_one("baseSequence", sequenced.map(|stamp| stamp.base_sequence.0)),
        or_minus_one("lastSequence", sequenced.map(|stamp| stamp.last_sequence(produced).0)),
        or_minus_one("producerId", producer.map(|stamp| stamp.id.0)),
        or_minus_one("producerEpoch", producer.map(|stamp| stamp.epoch.0)),
        fact("partitionLeaderEpoch", header.leader_epoch.0),
        fact("isTransactional", header.attributes.is_transactional()),
        fact("isControl", header.attributes.is_control()),
        optional_long("deleteHorizonMs", header.delete_horizon_ms()),
        fact("position", batch.position),
        fact(timestamp_name(header), header.max_timestamp),
        fact("size", header.encoded_len()),
        fact("magic", MAGIC),
        fact("compresscodec", header.attributes.compression().name()),
        fact("crc", header.payload_crc),
        fact("isvalid", batch.fault.is_none()),
        fact("headerCrc", batch.header_crc),
        fact("baseTimestamp", header.base_timestamp),
    ];
    facts.extend(marker_facts(header));
    facts.extend(batch.fault.as_ref().map(|cause| fact("fault", cause.to_string())));
    facts
}

/// How a transaction has ended.
fn marker_facts(header: &BatchHeader) -> Facts {
    let Some(marker) = header.marker() else { return Vec::new() };
    vec![
        fact("endTxnMarker", if marker.committed { "COMMIT" } else { "ABORT" }),
        fact("coordinatorEpoch", marker.coordinator_epoch.0),
    ]
}

fn record_facts(
    header: &BatchHeader,
    record: &RecordRef<'_>,
    options: &Options,
    as_json: bool,
) -> Facts {
    let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    let delta = record.offset.0.saturating_sub(header.base_offset.0) as u32;
    let sequenced = header.producer.filter(|_| header.marker().is_none());
    let sequence = sequenced.map(|stamp| stamp.base_sequence.plus(delta).0);
    let mut facts: Facts = Vec::new();
    if !options.skip_record_metadata {
        facts.extend([
            fact("offset", record.offset.0),
            fact(timestamp_name(header), record.timestamp_ms),
            fact("keySize", size(record.key)),
            fact("valueSize", size(record.value)),
            or_minus_one("sequence", sequence),
        ]);
        let keys: Vec<&str> = record.headers().map(|(key, _)| key).collect();
        facts.push(Fact {
            name: "headerKeys".into(),
            json: json!(keys),
            text: Some(format!("[{}]", keys.join(","))),
        });
    }
    if header.marker().is_some() {
        facts.extend(marker_facts(header));
        return facts;
    }
    facts.push(content("key", record.key));
    facts.push(content("payload", record.value));
    if as_json {
        let headers: Vec<Value> = record
            .headers()
            .map(|(key, value)| json!({ "key": key, "value": value.map(lossy) }))
            .collect();
        facts.push(fact("headers", headers));
    }
    facts
}

/// Of a record without a key or value, Kafka's tool prints none.
fn content(name: &'static str, bytes: Option<&[u8]>) -> Fact {
    let shown = bytes.map(|bytes| {
        let mut text = Vec::new();
        visible(bytes, &mut text);
        lossy(&text)
    });
    if_there(name, bytes.map(|bytes| json!(lossy(bytes))), shown)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;

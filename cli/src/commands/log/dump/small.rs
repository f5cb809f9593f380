//! Indexes, producer snapshots, and the small text files.

use super::facts::{self, Fact, Facts, fact, optional_long};
use super::failure::DumpFailure;
use super::printer::Printer;
use prost::Message;
use serde_json::{Value, json};
use std::path::Path;
use troupe_log::dump::{self, FileKind, Mismatch, TxnEntry};
use troupe_proto::log::v1::{ProducedBatch, ProducerEntry, ProducerSnapshot};

/// Prints what can be read; what is wrong with the file comes back.
pub fn dump(
    path: &Path,
    kind: FileKind,
    printer: &mut Printer,
) -> Result<Vec<String>, DumpFailure> {
    match kind {
        FileKind::OffsetIndex => offset_index(path, printer),
        FileKind::TimeIndex => time_index(path, printer),
        FileKind::TxnIndex => txn_index(path, printer),
        FileKind::Snapshot => snapshot(path, printer),
        FileKind::Epochs => {
            for (epoch, start) in dump::leader_epochs(path)? {
                printer.line(vec![fact("leaderEpoch", epoch.0), fact("startOffset", start.0)])?;
            }
            Ok(Vec::new())
        }
        FileKind::Inventory => inventory(path, printer),
        FileKind::Checkpoint | FileKind::Log => {
            let (lines, fault) = dump::checkpoint_lines(path)?;
            for line in &lines {
                printer.line(line_facts(line))?;
            }
            Ok(fault.iter().map(ToString::to_string).collect())
        }
    }
}

fn offset_index(path: &Path, printer: &mut Printer) -> Result<Vec<String>, DumpFailure> {
    let mut mismatches = Vec::new();
    for entry in dump::offset_entries(path)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                mismatches.push(format!("{}: {error}", path.display()));
                break;
            }
        };
        printer.line(vec![fact("offset", entry.offset.0), fact("position", entry.position)])?;
        mismatches.extend(entry.mismatch.map(|mismatch| match mismatch {
            Mismatch::OtherBatch { log } | Mismatch::NoBatch { log } => {
                let log = or_minus_one(log.map(|offset| offset.0));
                format!("  Index offset: {}, log offset: {log}", entry.offset)
            }
            other => format!("  Index offset: {}: {other}", entry.offset),
        }));
    }
    Ok(headed(format!("Mismatches in :{}", path.display()), mismatches))
}

fn time_index(path: &Path, printer: &mut Printer) -> Result<Vec<String>, DumpFailure> {
    let (mut differing, mut unordered, mut unfound) = (Vec::new(), Vec::new(), Vec::new());
    let mut torn = Vec::new();
    for entry in dump::time_entries(path)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                torn.push(format!("{}: {error}", path.display()));
                break;
            }
        };
        let (timestamp, offset) = (entry.timestamp, entry.offset);
        printer.line(vec![fact("timestamp", timestamp), fact("offset", offset.0)])?;
        match entry.mismatch {
            None => {}
            Some(Mismatch::OtherTimestamp { log }) => {
                differing.push(format!("  Index timestamp: {timestamp}, log timestamp: {log}"));
            }
            Some(Mismatch::OutOfOrder { before }) => unordered.push(format!(
                "  Index timestamp: {timestamp}, Previously indexed timestamp: {before}"
            )),
            Some(other @ Mismatch::NoMarker) => unfound.push(other.to_string()),
            Some(Mismatch::NoBatch { log } | Mismatch::OtherBatch { log }) => {
                let log = or_minus_one(log.map(|offset| offset.0));
                unfound.push(format!("Indexed offset: {offset}, found log offset: {log}"));
            }
        }
    }
    let name = path.display();
    let mut faults = headed(format!("Found timestamp mismatch in :{name}"), differing);
    faults.extend(headed(format!("Found out of order timestamp in :{name}"), unordered));
    let heading = "The following indexed offsets are not found in the log.".to_owned();
    faults.extend(headed(heading, unfound));
    faults.extend(torn);
    Ok(faults)
}

fn txn_index(path: &Path, printer: &mut Printer) -> Result<Vec<String>, DumpFailure> {
    let mut faults = Vec::new();
    for entry in dump::txn_entries(path)? {
        let TxnEntry { aborted, mismatch } = match entry {
            Ok(entry) => entry,
            Err(error) => {
                faults.push(format!("{}: {error}", path.display()));
                break;
            }
        };
        printer.line(vec![
            fact("version", dump::TXN_INDEX_VERSION),
            fact("producerId", aborted.producer_id.0),
            fact("firstOffset", aborted.first_offset.0),
            fact("lastOffset", aborted.last_offset.0),
        ])?;
        faults.extend(mismatch.map(|it| format!("  Marker at {}: {it}", aborted.last_offset)));
    }
    Ok(headed(format!("Mismatches in :{}", path.display()), faults))
}

fn or_minus_one(offset: Option<u64>) -> String {
    offset.map_or_else(|| "-1".to_owned(), |offset| offset.to_string())
}

/// A list under its heading; nothing if there is none.
fn headed(heading: String, list: Vec<String>) -> Vec<String> {
    if list.is_empty() { list } else { std::iter::once(heading).chain(list).collect() }
}

/// A line for each producer: as in Kafka, its last batch. Those before it, which Kafka's snapshots do not have, come
/// behind.
fn snapshot(path: &Path, printer: &mut Printer) -> Result<Vec<String>, DumpFailure> {
    let (bytes, fault) = dump::producer_snapshot(path)?;
    let snapshot = match ProducerSnapshot::decode(bytes) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let cause = fault.map_or_else(|| error.to_string(), |fault| fault.to_string());
            return Err(DumpFailure::Reading(cause));
        }
    };
    for producer in snapshot.producers {
        printer.line(producer_facts(&producer))?;
    }
    Ok(fault.iter().map(ToString::to_string).collect())
}

fn producer_facts(producer: &ProducerEntry) -> Facts {
    let mut facts = vec![
        fact("producerId", producer.producer_id),
        fact("producerEpoch", producer.producer_epoch),
        facts::or_minus_one("coordinatorEpoch", producer.coordinator_epoch),
        optional_long(
            "currentTxnFirstOffset",
            producer.transaction_first_offset.map(|first| first as i64),
        ),
        fact("lastTimestamp", producer.last_append_ms),
    ];
    let Some((last, earlier)) = producer.batches.split_last() else { return facts };
    facts.extend([
        fact("firstSequence", last.first_sequence),
        fact("lastSequence", last.last_sequence),
        fact("lastOffset", last.last_offset),
        fact("offsetDelta", last.last_offset.saturating_sub(last.base_offset)),
        fact("timestamp", last.timestamp_ms),
    ]);
    let listed = earlier.iter().map(|batch| {
        let ProducedBatch { first_sequence, last_sequence, base_offset, last_offset, .. } = batch;
        format!("{first_sequence}-{last_sequence}@{base_offset}-{last_offset}")
    });
    let as_json = earlier.iter().map(|batch| {
        json!({
            "firstSequence": batch.first_sequence, "lastSequence": batch.last_sequence,
            "baseOffset": batch.base_offset, "lastOffset": batch.last_offset,
            "timestamp": batch.timestamp_ms,
        })
    });
    facts.push(Fact {
        name: "earlierBatches".into(),
        json: Value::Array(as_json.collect()),
        text: Some(format!("[{}]", listed.collect::<Vec<_>>().join(","))),
    });
    facts
}

fn inventory(path: &Path, printer: &mut Printer) -> Result<Vec<String>, DumpFailure> {
    let mut faults = Vec::new();
    for line in dump::inventory_lines(path)? {
        match line {
            Ok(line) => {
                let mut facts = vec![
                    fact("directory", line.directory),
                    fact("topicId", line.topic_id.to_string()),
                    fact("deleted", !line.is_there),
                ];
                let id = line.log_directory.map(|id| fact("logDirectoryId", id.to_string()));
                facts.extend(id);
                printer.line(facts)?;
            }
            Err(line) => {
                let text = line.escape_debug();
                faults.push(format!("{}: `{text}` says nothing", path.display()));
            }
        }
    }
    Ok(faults)
}

/// `recovery_point 7` is `recoveryPoint: 7`. What has no name, or more than one value, keeps its words.
fn line_facts(line: &str) -> Facts {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["closed", base, size] => {
            vec![fact("closedSegment", value(base)), fact("size", value(size))]
        }
        ["aborted", base, count] => {
            vec![fact("abortedInSegment", value(base)), fact("count", value(count))]
        }
        [name, single] => vec![fact(camel_case(name), value(single))],
        [name, _, ..] => vec![fact(camel_case(name), line[name.len() + 1..].to_owned())],
        _ => vec![fact("line", line.to_owned())],
    }
}

fn value(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number))
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut characters = word.chars();
        out.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        out.extend(characters);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<(String, Value)> {
        line_facts(line).into_iter().map(|fact| (fact.name.into_owned(), fact.json)).collect()
    }

    #[test]
    fn lines_of_checkpoints_have_names_and_values() {
        let one = |name: &str, value: Value| vec![(name.to_owned(), value)];
        assert_eq!(shown("recovery_point 7"), one("recoveryPoint", json!(7)));
        assert_eq!(shown("cluster.id abc"), one("cluster.id", json!("abc")));
        assert_eq!(shown("cause it was hit"), one("cause", json!("it was hit")));
        assert_eq!(shown("odd"), one("line", json!("odd")));
        assert_eq!(shown(""), one("line", json!("")));
        let closed = shown("closed 0 4096");
        assert_eq!(closed[0], ("closedSegment".to_owned(), json!(0)));
        assert_eq!(closed[1], ("size".to_owned(), json!(4096)));
    }
}

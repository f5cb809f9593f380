//! The metadata log of a node: what it knows of its quorum, the snapshot, and the entries behind it.
//!
//! An entry is a batch: its offset is the one of the Raft log, which is Kafka's in `__cluster_metadata`, and its leader
//! epoch the term.

use super::facts::{Fact, Facts, fact, or_minus_one};
use super::failure::DumpFailure;
use super::options::Detail;
use super::printer::Printer;
use crate::metadata_records::MetadataRecords;
use serde_json::json;
use std::path::Path;
use troupe_controller::{
    MetadataEntry, MetadataLogContent, MetadataPayload, MetadataPosition, MetadataSnapshot,
};
use troupe_proto::ids::NodeId;
use troupe_proto::internal::v1::MetadataRecord;

/// Prints what can be read; what is wrong with the log comes back.
pub fn dump(dir: &Path, detail: Detail, printer: &mut Printer) -> Result<Vec<String>, DumpFailure> {
    let content =
        MetadataLogContent::read(dir).map_err(|error| DumpFailure::Reading(error.to_string()))?;
    let records = MetadataRecords::new().map_err(DumpFailure::Reading)?;
    let mut dump = Dump { printer, records, detail, faults: Vec::new() };
    if detail != Detail::Metadata {
        dump.quorum(&content)?;
    }
    if let Some(snapshot) = &content.snapshot {
        dump.snapshot(snapshot)?;
    }
    for entry in &content.entries {
        dump.entry(entry)?;
    }
    let damage = content.damage.iter().map(|what| format!("{}: {what}", dir.display()));
    let unknown = dump.faults.iter().map(|what| format!("{}: {what}", dir.display()));
    Ok(damage.chain(unknown).collect())
}

struct Dump<'a> {
    printer: &'a mut Printer,
    records: MetadataRecords,
    detail: Detail,
    faults: Vec<String>,
}

impl Dump<'_> {
    fn quorum(&mut self, content: &MetadataLogContent) -> Result<(), DumpFailure> {
        if let Some(quorum) = &content.quorum {
            self.printer.line(vec![
                fact("clusterId", quorum.cluster_id.clone()),
                fact("nodeId", quorum.node_id.0),
                voters(&quorum.voters),
            ])?;
        }
        if let Some(vote) = content.vote {
            self.printer.line(vec![
                fact("currentTerm", vote.term),
                fact("votedId", vote.node_id.0),
                fact("isLeader", vote.granted),
            ])?;
        }
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &MetadataSnapshot) -> Result<(), DumpFailure> {
        let last = snapshot.last;
        if self.detail != Detail::Metadata {
            let end = last.map_or(0, |last| last.index + 1);
            let epoch = last.map_or(0, |last| last.term);
            self.printer.text(&format!("Snapshot end offset: {end}, epoch: {epoch}\n"))?;
            self.printer.line(vec![
                fact("snapshotEndOffset", end),
                or_minus_one("leaderEpoch", last.map(|last| last.term)),
                fact("count", snapshot.records.len()),
                fact("nextMetadataOffset", snapshot.next_offset.0),
                voters(&snapshot.voters),
            ])?;
        }
        for (offset, record) in &snapshot.records {
            self.record(offset.0, record)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &MetadataEntry) -> Result<(), DumpFailure> {
        if self.detail != Detail::Metadata {
            self.printer.line(entry_facts(entry))?;
        }
        if let MetadataPayload::Decision { base_offset, records, .. } = &entry.payload {
            for (at, record) in records.iter().enumerate() {
                self.record(base_offset.0 + at as u64, record)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, offset: u64, record: &MetadataRecord) -> Result<(), DumpFailure> {
        if self.detail == Detail::Batches {
            return Ok(());
        }
        let mut shown = match self.records.show(record) {
            Ok(shown) => shown,
            Err(cause) => {
                self.faults.push(format!("the record at offset {offset}: {cause}"));
                return Ok(());
            }
        };
        if self.detail == Detail::Metadata {
            shown["offset"] = json!(offset);
            self.printer.entry(&shown)?;
            return Ok(());
        }
        let payload = Fact { name: "payload".into(), text: Some(shown.to_string()), json: shown };
        let facts = vec![fact("offset", offset), fact("keySize", -1), payload];
        self.printer.line_behind("| ", facts)?;
        Ok(())
    }
}

fn entry_facts(entry: &MetadataEntry) -> Facts {
    let MetadataPosition { index, term, leader } = entry.position;
    let mut facts = vec![
        fact("baseOffset", index),
        fact("lastOffset", index),
        fact("partitionLeaderEpoch", term),
        fact("leaderId", leader.0),
    ];
    match &entry.payload {
        MetadataPayload::LeaderChange => {
            facts.extend([fact("isControl", true), fact("type", "LEADER_CHANGE")]);
        }
        MetadataPayload::Voters(list) => {
            facts.extend([fact("isControl", true), fact("type", "KRAFT_VOTERS"), voters(list)]);
        }
        MetadataPayload::Barrier => {
            facts.extend([fact("isControl", true), fact("type", "BARRIER")]);
        }
        MetadataPayload::Decision { base_offset, term, records } => facts.extend([
            fact("isControl", false),
            fact("count", records.len()),
            fact("metadataOffset", base_offset.0),
            fact("ifTerm", *term),
        ]),
    }
    facts
}

fn voters(ids: &[NodeId]) -> Fact {
    let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
    let shown = ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    Fact { name: "voters".into(), json: json!(ids), text: Some(format!("[{shown}]")) }
}

//! `troupe log verify`: one verdict for each file, all faults on standard error.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::streams::notice;
use serde::Serialize;
use std::path::{Path, PathBuf};
use troupe_log::LogError;
use troupe_log::dump::{
    FileKind, SegmentReport, checkpoint_lines, leader_epochs, missing_files, offset_index,
    producer_snapshot, time_index, verify_segment,
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    file: String,
    ok: bool,
    /// Batches, or entries of an index.
    entries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentView>,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SegmentView {
    records: u64,
    bytes: u64,
    first_offset: Option<u64>,
    end_offset: Option<u64>,
    largest_timestamp: Option<i64>,
    /// Whether the header checksums could be checked: that takes the partition's identity.
    identity_known: bool,
}

pub fn run(global: &Global, files: &[(PathBuf, FileKind)]) -> Result<(), Failure> {
    let verdicts: Vec<Verdict> = files.iter().map(|(path, kind)| verify(path, *kind)).collect();
    global.output().many("files", &verdicts, || table(&verdicts))?;
    for verdict in &verdicts {
        for fault in &verdict.faults {
            notice!("{}: {fault}", verdict.file);
        }
    }
    match verdicts.iter().filter(|verdict| !verdict.ok).count() {
        0 => Ok(()),
        bad => {
            let cause = format!("{bad} of {} files are damaged", verdicts.len());
            Err(Failure::new(Exit::Failed, "", cause))
        }
    }
}

fn verify(path: &Path, kind: FileKind) -> Verdict {
    let count = |found: Result<usize, LogError>| found.map(|count| (count as u64, None));
    let found = match kind {
        FileKind::Log => verify_segment(path).map(|report| (report.batches, Some(report))),
        FileKind::OffsetIndex => count(offset_index(path).map(|entries| entries.len())),
        FileKind::TimeIndex => count(time_index(path).map(|entries| entries.len())),
        FileKind::Snapshot => count(producer_snapshot(path).map(|_| 1)),
        FileKind::Epochs => count(leader_epochs(path).map(|entries| entries.len())),
        FileKind::Checkpoint => count(checkpoint_lines(path).map(|lines| lines.len())),
    };
    let elsewhere = match kind {
        FileKind::Checkpoint => missing_files(path).unwrap_or_default(),
        _ => Vec::new(),
    };
    let file = path.display().to_string();
    match found {
        Err(error) => {
            Verdict { file, ok: false, entries: 0, segment: None, faults: vec![error.to_string()] }
        }
        Ok((entries, report)) => {
            let mut faults = report.as_ref().map_or_else(Vec::new, |report| report.faults.clone());
            faults.extend(elsewhere);
            let segment = report.as_ref().map(SegmentView::new);
            Verdict { file, ok: faults.is_empty(), entries, segment, faults }
        }
    }
}

impl SegmentView {
    fn new(report: &SegmentReport) -> SegmentView {
        SegmentView {
            records: report.records,
            bytes: report.bytes,
            first_offset: report.offsets.map(|(first, _)| first.0),
            end_offset: report.offsets.map(|(_, end)| end.0),
            largest_timestamp: report.largest_timestamp,
            identity_known: report.identity_known,
        }
    }
}

fn table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new(&[
        text("FILE"),
        text("VERDICT"),
        number("ENTRIES"),
        number("RECORDS"),
        number("FIRST"),
        number("END"),
        text("HEADER CHECKSUMS").wide(),
    ]);
    for verdict in verdicts {
        let segment = verdict.segment.as_ref();
        let number =
            |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let identity = segment.map(|s| if s.identity_known { "checked" } else { "not checked" });
        table.row(vec![
            verdict.file.clone(),
            if verdict.ok { "ok" } else { "DAMAGED" }.to_owned(),
            verdict.entries.to_string(),
            number(segment.map(|segment| segment.records)),
            number(segment.and_then(|segment| segment.first_offset)),
            number(segment.and_then(|segment| segment.end_offset)),
            identity.unwrap_or_default().to_owned(),
        ]);
    }
    table
}

//! `troupe log verify`: one verdict for each file, all faults on standard error; with `--fix`, mending.

use super::files::{self, Found};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::streams::notice;
use crate::timestamp;
use serde::Serialize;
use std::path::{Path, PathBuf};
use troupe_controller::MetadataLogContent;
use troupe_log::verify::{FileReport, MendError, Remedy, SegmentReport, file, mend, partition};
use troupe_log::{DataDirectory, LogError};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    file: String,
    ok: bool,
    /// Batches, or entries of an index.
    entries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentView>,
    /// A change that was interrupted has left it; the next start of the node clears it away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    leftover: bool,
    faults: Vec<String>,
    /// Whether `--fix` mends it without losing anything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    mendable: bool,
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

/// What `--fix` did to a partition.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Fixed {
    directory: String,
    done: Vec<String>,
    /// Records that were dropped.
    lost: Vec<String>,
    /// Why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

pub fn run(global: &Global, found: &[Found]) -> Result<(), Failure> {
    let verdicts: Vec<Verdict> = found.iter().flat_map(verify).collect();
    global.output().many("files", &verdicts, || table(&verdicts))?;
    conclude(&verdicts)
}

/// Mends each partition for itself; what is wrong afterwards decides.
pub fn fix(global: &Global, found: &[Found], drop_damaged: bool) -> Result<(), Failure> {
    let mut locks: Vec<DataDirectory> = Vec::new();
    let mut fixed = Vec::new();
    for found in found {
        match found {
            Found::Partition(dir) => {
                lock(dir, &mut locks)?;
                fixed.push(fix_partition(dir, drop_damaged));
            }
            Found::File(path, _) => {
                let is_of_partition = !path.parent().is_some_and(files::is_data_directory);
                if is_of_partition {
                    let cause = "what belongs together is mended together";
                    return Err(Failure::new(Exit::Usage, cannot_fix(path), cause)
                        .with_hint("name the directory of the partition"));
                }
            }
            Found::MetadataLog(_) => {}
        }
    }
    let verdicts: Vec<Verdict> = found.iter().flat_map(verify).collect();
    let beside = Some(("fixed", &fixed));
    global.output().many_with("files", &verdicts, beside, || table(&verdicts))?;
    for fixed in &fixed {
        fixed.done.iter().for_each(|what| notice!("fixed: {what}"));
        fixed.lost.iter().for_each(|what| notice!("lost: {what}"));
        if let Some(why) = &fixed.refused {
            notice!("{}: not fixed: {why}", fixed.directory);
        }
    }
    conclude(&verdicts)
}

fn cannot_fix(path: &Path) -> String {
    format!("cannot fix {}", path.display())
}

/// Of a node's data directory, so that no node uses the partition meanwhile.
fn lock(dir: &Path, locks: &mut Vec<DataDirectory>) -> Result<(), Failure> {
    let dir =
        dir.canonicalize().map_err(|error| Failure::new(Exit::Failed, cannot_fix(dir), error))?;
    let Some(parent) = dir.parent().filter(|parent| files::is_data_directory(parent)) else {
        return Ok(());
    };
    if locks.iter().any(|lock| lock.path() == parent) {
        return Ok(());
    }
    match DataDirectory::open(parent) {
        Ok(lock) => {
            locks.push(lock);
            Ok(())
        }
        Err(error) => Err(Failure::new(Exit::Refused, cannot_fix(&dir), error).with_hint(
            "stop the node first; without --fix, a running node's files can be looked at",
        )),
    }
}

fn fix_partition(dir: &Path, drop_damaged: bool) -> Fixed {
    let mut fixed = Fixed { directory: dir.display().to_string(), ..Fixed::default() };
    let mended = partition(dir)
        .map_err(MendError::from)
        .and_then(|reports| mend(dir, &reports, drop_damaged, timestamp::now_ms()));
    match mended {
        Ok(mended) => {
            fixed.done = mended.done;
            fixed.lost = mended.lost;
        }
        Err(error @ MendError::Loss { .. }) => {
            fixed.refused = Some(format!(
                "{error}. A node that is started fills them again from the other replicas; --drop-damaged drops them"
            ));
        }
        Err(error) => fixed.refused = Some(error.to_string()),
    }
    fixed
}

fn conclude(verdicts: &[Verdict]) -> Result<(), Failure> {
    for verdict in verdicts {
        for fault in &verdict.faults {
            notice!("{}: {fault}", verdict.file);
        }
    }
    let bad: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.ok).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let cause = format!("{} of {} files are damaged", bad.len(), verdicts.len());
    let failure = Failure::new(Exit::Failed, "", cause);
    Err(match bad.iter().any(|verdict| verdict.mendable) {
        true => failure
            .with_hint("`troupe log verify DIRECTORY --fix` mends what follows from the batches"),
        false => failure,
    })
}

fn verify(found: &Found) -> Vec<Verdict> {
    match found {
        Found::File(path, kind) => vec![verdict(file(path, *kind), path)],
        Found::Partition(dir) => match partition(dir) {
            Ok(reports) => reports.into_iter().map(Verdict::new).collect(),
            Err(error) => vec![verdict(Err(error), dir)],
        },
        Found::MetadataLog(dir) => vec![metadata(dir)],
    }
}

/// Of a running node it cannot be read, which is no fault.
fn metadata(dir: &Path) -> Verdict {
    use troupe_controller::MetadataReadError::InUse;
    let (entries, faults) = match MetadataLogContent::read(dir) {
        Ok(content) => (content.entries.len() as u64, content.damage),
        Err(error @ InUse { .. }) => {
            notice!("note: not checked: {error}");
            (0, Vec::new())
        }
        Err(error) => (0, vec![error.to_string()]),
    };
    let file = dir.display().to_string();
    let ok = faults.is_empty();
    Verdict { file, ok, entries, segment: None, leftover: false, faults, mendable: false }
}

fn verdict(report: Result<FileReport, LogError>, path: &Path) -> Verdict {
    report.map_or_else(|error| Verdict::unreadable(path.to_owned(), &error), Verdict::new)
}

impl Verdict {
    fn new(report: FileReport) -> Verdict {
        let mendable = report.faults.iter().any(|fault| {
            matches!(fault.remedy, Remedy::MakeAgain | Remedy::Remove | Remedy::CutTail { .. })
        });
        Verdict {
            file: report.path.display().to_string(),
            ok: report.faults.is_empty(),
            entries: report.entries,
            segment: report.segment.as_ref().map(SegmentView::new),
            leftover: report.is_leftover,
            faults: report.faults.into_iter().map(|fault| fault.text).collect(),
            mendable,
        }
    }

    fn unreadable(path: PathBuf, error: &LogError) -> Verdict {
        Verdict {
            file: path.display().to_string(),
            ok: false,
            entries: 0,
            segment: None,
            leftover: false,
            faults: vec![error.to_string()],
            mendable: false,
        }
    }

    fn word(&self) -> &'static str {
        match (self.ok, self.leftover) {
            (false, _) => "DAMAGED",
            (true, true) => "leftover",
            (true, false) => "ok",
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
            verdict.word().to_owned(),
            verdict.entries.to_string(),
            number(segment.map(|segment| segment.records)),
            number(segment.and_then(|segment| segment.first_offset)),
            number(segment.and_then(|segment| segment.end_offset)),
            identity.unwrap_or_default().to_owned(),
        ]);
    }
    table
}

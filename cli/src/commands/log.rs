//! `troupe log`: looks into the files of a log, without a node and without changing them (S31, S32).

mod dump;
mod verify;

use crate::decoder::Decoder;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use troupe_log::dump::FileKind;

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what is in log, index, snapshot and checkpoint files
    #[command(after_help = "Examples:\n  \
        troupe log dump troupe-data/orders-0/00000000000000000000.log\n  \
        troupe log dump troupe-data/orders-0 --records -o jsonl | jq .value\n  \
        troupe log dump troupe-data/__consumer_offsets-12 --decode offsets | jq -c .key.data\n\
        A .log file is also a serialised troupe.log.v1.RecordBatches:\n  \
        protoc --decode troupe.log.v1.RecordBatches record_batch.proto < FILE.log")]
    Dump(Dump),
    /// Check every batch, its checksums and the indexes beside it
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct Dump {
    /// Files, or directories of partitions
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also the records in the batches
    #[arg(long, visible_alias = "print-data-log")]
    records: bool,
    /// Only the records, each as the JSON of what it says
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "records")]
    decode: Option<Decoder>,
}

impl Dump {
    fn detail(&self) -> dump::Detail {
        match (self.decode, self.records) {
            (Some(decoder), _) => dump::Detail::Decoded(decoder),
            (None, true) => dump::Detail::BatchesAndRecords,
            (None, false) => dump::Detail::Batches,
        }
    }
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Files, or directories of partitions
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

pub fn run(global: &Global, command: LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Dump(dump) => dump::run(global, &files(&dump.files)?, dump.detail()),
        LogCommand::Verify(verify) => verify::run(global, &files(&verify.files)?),
    }
}

/// The files of the command line, with what each is; a directory stands for the files in it.
fn files(paths: &[PathBuf]) -> Result<Vec<(PathBuf, FileKind)>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            let kind = FileKind::of(path).ok_or_else(|| unknown(path))?;
            files.push((path.clone(), kind));
            continue;
        }
        let what = || format!("cannot list {}", path.display());
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).with_context(what)? {
            let path = entry.with_context(what)?.path();
            inside.extend(FileKind::of(&path).map(|kind| (path, kind)));
        }
        if inside.is_empty() {
            return Err(unknown(path));
        }
        inside.sort_by(|a, b| a.0.cmp(&b.0));
        files.extend(inside);
    }
    Ok(files)
}

fn unknown(path: &Path) -> Failure {
    let what = format!("cannot read {}", path.display());
    if path.exists() {
        let hint = "name a .log, .index, .timeindex, .snapshot or checkpoint file, or a partition's directory";
        Failure::new(Exit::Usage, what, "it is no file of a log").with_hint(hint)
    } else {
        Failure::new(Exit::NotFound, what, "there is no such file")
    }
}

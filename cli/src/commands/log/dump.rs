//! `troupe log dump`: a line for each batch, record or entry, as it is read; nothing is kept in memory.
//!
//! - [`segments`]: batches and their records; [`small`]: all other files of a partition or a data directory;
//!   [`metadata`]: the metadata log.
//! - [`facts`] is what a line says, in Kafka's words; [`printer`] prints it in the format that was asked for.
//! - [`options`]: what is printed; [`failure`]: why it ends.

mod facts;
mod failure;
mod metadata;
mod options;
mod printer;
mod segments;
mod small;

use super::files::{self, Found};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::Format;
use crate::streams::notice;
use failure::DumpFailure;
pub use options::{Detail, Options};
use printer::Printer;
use std::path::Path;
use troupe_log::dump::FileKind;

pub fn run(global: &Global, found: &[Found], options: Options) -> Result<(), Failure> {
    let mut output = global.output();
    if options.detail.is_meaning_only() && output.format != Format::Json {
        output.format = Format::Jsonl;
    }
    let mut dump = Dump { printer: Printer::new(&output), options, damaged: 0 };
    for found in found {
        match found {
            Found::File(path, kind) => dump.file(path, *kind)?,
            Found::Partition(dir) => {
                for (path, kind) in files::of_partition(dir)? {
                    dump.file(&path, kind)?;
                }
            }
            Found::MetadataLog(dir) if matches!(options.detail, Detail::Decoded(_)) => {
                notice!("note: {} holds no such records; --decode metadata", dir.display());
            }
            Found::MetadataLog(dir) => dump.metadata(dir)?,
        }
    }
    dump.printer.end()?;
    match dump.damaged {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, "", "one file is damaged, or cannot be read")),
        count => Err(Failure::new(
            Exit::Failed,
            "",
            format!("{count} files are damaged, or cannot be read"),
        )),
    }
}

struct Dump {
    printer: Printer,
    options: Options,
    damaged: u64,
}

impl Dump {
    fn file(&mut self, path: &Path, kind: FileKind) -> Result<(), Failure> {
        if !self.options.detail.shows(kind) {
            return Ok(());
        }
        self.printer.open(path, kind)?;
        let dumped = match kind {
            FileKind::Log => segments::dump(path, &self.options, &mut self.printer),
            _ => small::dump(path, kind, &mut self.printer),
        };
        self.close(path, dumped)
    }

    fn metadata(&mut self, dir: &Path) -> Result<(), Failure> {
        self.printer.open_plain(dir)?;
        let dumped = metadata::dump(dir, self.options.detail, &mut self.printer);
        self.close(dir, dumped)
    }

    /// What is wrong with a file is told; the others go on.
    fn close(
        &mut self,
        path: &Path,
        dumped: Result<Vec<String>, DumpFailure>,
    ) -> Result<(), Failure> {
        let faults = match dumped {
            Ok(faults) => faults,
            Err(DumpFailure::Printing(failure)) => return Err(failure),
            Err(DumpFailure::Reading(cause)) => vec![format!("{}: {cause}", path.display())],
        };
        self.printer.close()?;
        if !faults.is_empty() {
            self.printer.flush()?;
            self.damaged += 1;
            faults.iter().for_each(|fault| notice!("{fault}"));
        }
        Ok(())
    }
}

//! `troupe log`: looks into the files of a node that does not run (S31, S32), and has running nodes look through theirs.
//! Of the files of a stopped one only `verify --fix` changes any.

mod dump;
mod files;
mod scrub;
mod verify;

use crate::decoder::Decoder;
use crate::failure::Failure;
use crate::global::Global;
use crate::quantity::parse_size;
use crate::runtime::block_on;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what is in the files of a log, as kafka-dump-log does
    #[command(after_help = "Examples:\n  \
        troupe log dump troupe-data/orders-0/00000000000000000000.log\n  \
        troupe log dump troupe-data/orders-0 --records -o jsonl | jq .payload\n  \
        troupe log dump troupe-data/__consumer_offsets-12 --decode offsets | jq -c .key.data\n  \
        troupe log dump troupe-data/metadata --decode metadata\n\
        The words are Kafka's; what only Troupe has stands behind them. Where an index and its log disagree is told on\n\
        standard error, and so is where a damaged file ends: then the exit code is 1.\n\
        A .log file is also a serialised troupe.log.v1.RecordBatches:\n  \
        protoc --decode troupe.log.v1.RecordBatches record_batch.proto < FILE.log")]
    Dump(Dump),
    /// Check every batch, its checksums, the indexes and the small files beside it, and all of them together
    #[command(after_help = "Examples:\n  \
        troupe log verify troupe-data                 # every partition of a node\n  \
        troupe log verify troupe-data/orders-0 -o json | jq '.files[] | select(.ok | not)'\n  \
        troupe log verify troupe-data --fix           # of a node that is stopped\n\
        --fix makes again what follows from the batches (indexes, leader epochs, checkpoints), cuts off what a crash has\n\
        torn, and clears away what a change has left. Damaged records it leaves to the node, which is filled again by\n\
        the other replicas; --drop-damaged drops them here, says which, and has the replica remember that it lacks them.")]
    Verify(Verify),
    /// Have nodes that run look at every batch of their logs, on their disks
    #[command(after_help = "Examples:\n  \
        troupe log scrub                    # all replicas of all nodes\n  \
        troupe log scrub orders:0,3 --node 2\n\
        What is damaged is filled again from another replica by itself; indexes and checkpoints are made again.")]
    Scrub(scrub::Scrub),
}

#[derive(Debug, Args)]
pub struct Dump {
    /// Files, directories of partitions, data directories, or a node's metadata directory
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also the records in the batches
    #[arg(long, visible_alias = "print-data-log")]
    records: bool,
    /// Only the records, each as the JSON of what it says
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "records")]
    decode: Option<Kind>,
    /// Of each segment only the batches that begin within so many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_bytes: Option<u64>,
    /// Of records only keys and values
    #[arg(long, requires = "records")]
    skip_record_metadata: bool,
}

/// What the records of a log are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Committed offsets and groups, as in `__consumer_offsets`
    #[value(alias = "groups")]
    Offsets,
    /// Transactions, as in `__transaction_state`
    Transactions,
    /// What the cluster consists of, as in a node's metadata directory
    Metadata,
}

impl Dump {
    fn options(&self) -> dump::Options {
        let detail = match (self.decode, self.records) {
            (Some(Kind::Offsets), _) => dump::Detail::Decoded(Decoder::Offsets),
            (Some(Kind::Transactions), _) => dump::Detail::Decoded(Decoder::Transactions),
            (Some(Kind::Metadata), _) => dump::Detail::Metadata,
            (None, true) => dump::Detail::BatchesAndRecords,
            (None, false) => dump::Detail::Batches,
        };
        dump::Options {
            detail,
            max_bytes: self.max_bytes.unwrap_or(u64::MAX),
            skip_record_metadata: self.skip_record_metadata,
        }
    }
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Files, directories of partitions, or data directories
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Mend what can be mended without losing anything; the node must be stopped
    #[arg(long)]
    fix: bool,
    /// With --fix: also drop records that are damaged, and all behind them in their segment; says which
    #[arg(long, requires = "fix")]
    drop_damaged: bool,
}

pub fn run(global: &Global, command: LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Dump(dump) => dump::run(global, &files::find(&dump.files)?, dump.options()),
        LogCommand::Verify(verify) if verify.fix => {
            verify::fix(global, &files::find(&verify.files)?, verify.drop_damaged)
        }
        LogCommand::Verify(verify) => verify::run(global, &files::find(&verify.files)?),
        LogCommand::Scrub(scrub) => block_on(scrub::run(global, scrub)),
    }
}

//! `troupe transaction`: what is open, who writes, what hangs, and aborting it (X21).
//!
//! - [`list`], [`describe`]: what coordinators know; [`producers`]: what the leader of a partition knows; [`hanging`]: where
//!   the two differ.
//! - [`abort`]: a transaction of a coordinator, or one that hangs.

mod abort;
mod describe;
mod hanging;
mod list;
mod producers;
mod view;

use crate::failure::Failure;
use crate::global::Global;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum TransactionCommand {
    /// List the transactional ids
    #[command(after_help = "Examples:\n  \
        troupe transaction list\n  \
        troupe transaction list --state ongoing --open-for 1min\n  \
        troupe transaction list --watch")]
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show a transactional id: its producer, its state, and what its transaction has written to
    #[command(after_help = "Examples:\n  \
        troupe transaction describe billing\n  \
        troupe transaction describe billing -o json | jq .partitions")]
    Describe(describe::Describe),
    /// Show who writes to a partition, and which transactions are open there
    #[command(after_help = "Example:\n  troupe transaction producers orders:0")]
    Producers(producers::Producers),
    /// Find transactions that are open at partitions while no coordinator knows of them: readers of committed records
    /// wait there
    #[command(after_help = "Examples:\n  \
        troupe transaction hanging\n  \
        troupe transaction hanging orders --open-for 1h\n  \
        troupe transaction hanging orders:0 -o json")]
    Hanging(hanging::Hanging),
    /// Abort a transaction, and fence its producer; or one that hangs
    #[command(after_help = "Examples:\n  \
        troupe transaction abort billing --yes\n  \
        troupe transaction abort --hanging orders:0 --start-offset 4711     # as `transaction hanging` shows it")]
    Abort(abort::Abort),
}

pub async fn run(global: &Global, command: TransactionCommand) -> Result<(), Failure> {
    match command {
        TransactionCommand::List(list) => list::run(global, list).await,
        TransactionCommand::Describe(describe) => describe::run(global, describe).await,
        TransactionCommand::Producers(producers) => producers::run(global, producers).await,
        TransactionCommand::Hanging(hanging) => hanging::run(global, hanging).await,
        TransactionCommand::Abort(abort) => abort::run(global, abort).await,
    }
}

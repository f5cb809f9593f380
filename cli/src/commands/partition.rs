//! `troupe partition`: who leads, who is in sync, electing leaders, and doing without what is lost.

mod elect;
mod list;
mod move_dir;
mod recover;
mod view;

use crate::failure::Failure;
use crate::global::Global;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// List partitions with their leaders, replicas and epochs, as the controller has committed them
    #[command(after_help = "Examples:\n  \
        troupe partition list orders\n  \
        troupe partition list --under-replicated\n  \
        troupe partition list orders --watch     # again every second, until Ctrl-C\n  \
        troupe partition list --watch | tee changes.txt    # in a pipe, a row for each change")]
    #[command(visible_aliases = ["ls", "describe"])]
    List(list::List),
    /// Elect leaders
    #[command(after_help = "Examples:\n  \
        troupe partition elect --preferred                  # wherever somebody else leads\n  \
        troupe partition elect --preferred orders payments:0,3\n  \
        troupe partition elect --unclean orders:3           # may lose acknowledged records")]
    Elect(elect::Elect),
    /// Give up what is damaged and no other replica has, and serve the rest
    #[command(after_help = "Example:\n  \
        troupe partition recover orders:3 --accept-loss\n\
        Its leader says what is lost: readers pass those offsets, all others are as they were. Where another\n\
        replica is in sync nothing is lost and nothing has to be done: it is filled again by itself.")]
    Recover(recover::Recover),
    /// Move replicas between the log directories of a node, while they serve
    #[command(after_help = "Examples:\n  \
        troupe partition move-dir orders:0,3 --node 2 --to /disks/two --wait\n  \
        troupe node logdirs --node 2      # where they are, and how far a move has come\n\
        Copied one at a time, with at most replica.alter.log.dirs.io.max.bytes.per.second of the node.")]
    MoveDir(move_dir::MoveDir),
}

pub async fn run(global: &Global, command: PartitionCommand) -> Result<(), Failure> {
    match command {
        PartitionCommand::List(list) => list::run(global, list).await,
        PartitionCommand::MoveDir(move_dir) => move_dir::run(global, move_dir).await,
        PartitionCommand::Elect(elect) => elect::run(global, elect).await,
        PartitionCommand::Recover(recover) => recover::run(global, recover).await,
    }
}

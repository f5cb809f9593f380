//! `troupe group`: who reads what, how far, and moving that.
//!
//! - [`list`], [`describe`], [`lag`]: what there is; with `--watch` again and again.
//! - [`members`]: who is in one. [`show`] is what it and [`describe`] have in common.
//! - [`offsets_view`], [`members_view`], [`state_view`]: the three views of a group, with Kafka's columns; [`view`] is
//!   what they have in common.
//! - [`reset`], [`delete`]: changes to groups that nobody is a member of; [`remove_member`] lets members leave.

mod delete;
mod describe;
mod lag;
mod list;
mod lookup;
mod members;
mod members_view;
mod offsets_view;
mod remove_member;
mod reset;
mod show;
mod state_view;
mod view;

use crate::failure::Failure;
use crate::global::Global;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the groups
    #[command(after_help = "Examples:\n  \
        troupe group list\n  \
        troupe group list --state empty,stable\n  \
        troupe group list --watch")]
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show what groups have committed and how far behind they are, their members, or their state
    #[command(after_help = "Examples:\n  \
        troupe group describe billing                # offsets and lag of each partition, and totals\n  \
        troupe group describe billing --members      # who is in it and reads what\n  \
        troupe group describe --all --state\n  \
        troupe group describe billing --watch --interval 500ms\n  \
        troupe group describe billing -o json | jq .lag")]
    Describe(describe::Describe),
    /// Show the members of groups: the same as `describe --members`
    Members(members::Members),
    /// Show how many records groups are behind, in all
    #[command(after_help = "Examples:\n  \
        troupe group lag\n  \
        troupe group lag billing --watch\n  \
        troupe group lag billing -o json | jq '.groups[].lag'")]
    Lag(lag::Lag),
    /// Move the committed offsets of a group that has no members
    #[command(after_help = "Examples:\n  \
        troupe group reset billing --topics orders --to earliest --dry-run\n  \
        troupe group reset billing --topics orders:0,2,payments --to latest\n  \
        troupe group reset billing --to @2026-01-31T12:00Z     # every topic that it has read\n  \
        troupe group reset billing --to -1h\n  \
        troupe group reset billing --topics orders:1 --to 42 --yes\n\
        Where to: earliest, latest, an offset (42, =42), a time (@2026-01-31, @2026-01-31T12:00Z, @-1h, -1h),\n\
        or so many records from the committed offset (+100, -100). Where there is no such offset, the nearest is taken,\n\
        and that is told.")]
    Reset(reset::Reset),
    /// Let members leave that are away and do not come back
    #[command(after_help = "Examples:\n  \
        troupe group members audit                   # `Away, kept for 41 s`\n  \
        troupe group remove-member audit one         # by --member-name, or by its id\n\
        What they had goes to the others at once. One that is connected all the same may join again.")]
    RemoveMember(remove_member::RemoveMember),
    /// Delete groups, or what they have committed for a topic
    #[command(after_help = "Examples:\n  \
        troupe group delete billing --yes\n  \
        troupe group delete billing --offsets --topic orders:0,2")]
    #[command(visible_alias = "rm")]
    Delete(delete::Delete),
}

pub async fn run(global: &Global, command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List(list) => list::run(global, list).await,
        GroupCommand::Describe(describe) => describe::run(global, describe).await,
        GroupCommand::Members(members) => members::run(global, members).await,
        GroupCommand::Lag(lag) => lag::run(global, lag).await,
        GroupCommand::Reset(reset) => reset::run(global, reset).await,
        GroupCommand::RemoveMember(remove) => remove_member::run(global, remove).await,
        GroupCommand::Delete(delete) => delete::run(global, delete).await,
    }
}

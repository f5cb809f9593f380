//! `troupe group describe`: offsets, members or the state, of some groups or of all.

use super::show::{Section, show};
use crate::failure::Failure;
use crate::global::Global;
use crate::watch::Watch;
use clap::Args;

#[derive(Debug, Args)]
pub struct Describe {
    /// Groups
    #[arg(value_name = "GROUP", required_unless_present = "all", conflicts_with = "all")]
    groups: Vec<String>,
    /// Every group
    #[arg(long, visible_alias = "all-groups")]
    all: bool,
    /// Committed offsets and lag: what is shown if nothing else is asked for
    #[arg(long, group = "face")]
    offsets: bool,
    /// Who is in it, and what each reads
    #[arg(long, group = "face")]
    members: bool,
    /// Its coordinator, assignor, state and epoch
    #[arg(long, group = "face")]
    state: bool,
    #[command(flatten)]
    watch: Watch,
}

pub async fn run(global: &Global, describe: Describe) -> Result<(), Failure> {
    let section = match (describe.members, describe.state) {
        (true, _) => Section::Members,
        (false, true) => Section::State,
        (false, false) => Section::Offsets,
    };
    show(global, section, &describe.groups, &describe.watch).await
}

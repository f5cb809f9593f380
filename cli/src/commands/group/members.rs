//! `troupe group members`.

use super::show::{Section, show};
use crate::failure::Failure;
use crate::global::Global;
use crate::watch::Watch;
use clap::Args;

#[derive(Debug, Args)]
pub struct Members {
    /// Groups
    #[arg(value_name = "GROUP", required_unless_present = "all", conflicts_with = "all")]
    groups: Vec<String>,
    /// Every group
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    watch: Watch,
}

pub async fn run(global: &Global, members: Members) -> Result<(), Failure> {
    show(global, Section::Members, &members.groups, &members.watch).await
}

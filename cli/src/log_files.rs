//! `troupe log`.
use crate::arguments::Global;
use crate::failure::Failure;
#[derive(Debug, clap::Subcommand)]
pub enum LogCommand {
    Dump,
}
pub fn run(_: &Global, _: LogCommand) -> Result<(), Failure> {
    Ok(())
}

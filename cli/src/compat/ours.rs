//! Tools whose words are those of our own commands: what is typed there, as it is typed here.

use super::ended::Ended;
use crate::commands::{log, serve, stop, storage};
use crate::global::Global;
use clap::{Args, Command, FromArgMatches, Subcommand};

/// What our command makes of it; what makes no sense is told in its words.
fn read(command: Command, words: &[String]) -> Result<clap::ArgMatches, Ended> {
    let name = command.get_name().to_owned();
    let words = std::iter::once(&name).chain(words);
    command.try_get_matches_from(words).map_err(|error| Ended::err(error.render()))
}

fn nowhere() -> Global {
    Global::of(Vec::new())
}

fn found<T>(parsed: Result<T, clap::Error>) -> Result<T, Ended> {
    parsed.map_err(|error| Ended::err(error.render()))
}

/// `troupe log …`.
///
/// # Errors
/// As that fails.
pub fn log(words: &[String]) -> Result<(), Ended> {
    let matches = read(log::LogCommand::augment_subcommands(Command::new("troupe log")), words)?;
    let command = found(log::LogCommand::from_arg_matches(&matches))?;
    Ok(log::run(&nowhere(), command)?)
}

/// `troupe storage …`.
///
/// # Errors
/// As that fails.
pub fn storage(words: &[String]) -> Result<(), Ended> {
    let tree = storage::StorageCommand::augment_subcommands(Command::new("troupe storage"));
    let command = found(storage::StorageCommand::from_arg_matches(&read(tree, words)?))?;
    Ok(storage::run(&nowhere(), command)?)
}

/// `troupe serve …`.
///
/// # Errors
/// As that fails.
pub fn serve(words: &[String]) -> Result<(), Ended> {
    let tree = serve::Serve::augment_args(Command::new("troupe serve"));
    let command = found(serve::Serve::from_arg_matches(&read(tree, words)?))?;
    Ok(serve::serve(&nowhere(), &command)?)
}

/// `troupe stop …`.
///
/// # Errors
/// As that fails.
pub fn stop(words: &[String]) -> Result<(), Ended> {
    let tree = stop::Stop::augment_args(Command::new("troupe stop"));
    let command = found(stop::Stop::from_arg_matches(&read(tree, words)?))?;
    Ok(stop::run(&nowhere(), &command)?)
}

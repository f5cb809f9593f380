//! Connecting, with the options that all tools have for it.

use super::ended::Ended;
use super::options::Given;
use super::properties::Properties;
use crate::failure::Failure;
use crate::global::Global;
use crate::runtime::block_on;
use troupe_client::Client;

/// The nodes, separated by commas.
pub fn servers(typed: &str) -> Vec<String> {
    typed.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// What our own commands take for these nodes.
pub fn global(typed: &str) -> Global {
    Global::of(servers(typed))
}

/// # Errors
/// What keeps it from being reached.
pub async fn connect_to(typed: &str) -> Result<Client, Ended> {
    Ok(global(typed).connect().await?)
}

/// By `--bootstrap-server`, which is there, with the settings of `--command-config`.
///
/// # Errors
/// What keeps it from being reached; and settings that make it another kind of connection.
pub async fn connect(given: &Given) -> Result<Client, Ended> {
    check_controller(given)?;
    for option in ["command-config", "admin.config"] {
        Properties::read(given.value(option)?)?.check_security()?;
    }
    connect_to(given.value("bootstrap-server")?.unwrap_or_default()).await
}

/// # Errors
/// A controller is named.
pub fn check_controller(given: &Given) -> Result<(), Ended> {
    match given.has("bootstrap-controller") {
        true => Err(Ended::cannot(
            "--bootstrap-controller",
            "controllers have no door for clients; any node passes on what they decide: use --bootstrap-server",
        )),
        false => Ok(()),
    }
}

/// Runs a tool that asks nodes.
///
/// # Errors
/// As it ends.
pub fn run<T>(tool: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    block_on(async { Ok::<_, Failure>(tool.await) })?
}

/// Prints a result.
///
/// # Errors
/// Nobody takes it.
pub fn print(text: &str) -> Result<(), Ended> {
    crate::streams::write_results(text.as_bytes()).map_err(|error| Failure::writing(&error).into())
}

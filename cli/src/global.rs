//! The flags that every command has, and what they mean: where to connect, how to print.

use crate::endpoints::endpoint;
use crate::failure::{Context, Failure};
use crate::output::{Format, Output};
use crate::waiting::Waiting;
use clap::Args;
use std::io::IsTerminal;
use troupe_client::{Client, ClientConfig};

/// Where a node listens if nothing else was said.
pub const DEFAULT_SERVER: &str = "127.0.0.1:7070";

/// Addresses as they were typed; the default's, if there are none.
///
/// # Errors
/// One of them cannot be an address.
pub fn servers(typed: &[String]) -> Result<Vec<String>, Failure> {
    let mut servers = Vec::new();
    for typed in typed {
        servers.extend(endpoint(typed).map_err(Failure::usage)?);
    }
    if servers.is_empty() {
        servers.push(DEFAULT_SERVER.to_owned());
    }
    Ok(servers)
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How results are printed [default: table]
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    #[arg(help = "How results are printed: table, wide, json or jsonl [default: table]")]
    output: Option<Format>,
    /// A node of the cluster, or several separated by commas
    #[arg(long, global = true, env = "TROUPE_SERVER", value_name = "HOST:PORT")]
    #[arg(visible_alias = "bootstrap-server")]
    #[arg(value_delimiter = ',', hide_env_values = true)]
    pub server: Vec<String>,
    /// No progress on standard error
    #[arg(long, global = true)]
    no_progress: bool,
}

impl Global {
    /// What they are where nothing but nodes is named.
    pub fn of(server: Vec<String>) -> Global {
        Global { output: None, server, no_progress: true }
    }

    pub fn format(&self) -> Format {
        self.output.unwrap_or_default()
    }

    /// The format, if one was asked for: some commands do something else by themselves.
    pub fn chosen_format(&self) -> Option<Format> {
        self.output
    }

    pub fn output(&self) -> Output {
        Output::new(self.format())
    }

    /// Whether there is a person at standard error who wants to see how it goes.
    pub fn progress(&self) -> bool {
        !self.no_progress && std::io::stderr().is_terminal()
    }

    fn servers(&self) -> Result<Vec<String>, Failure> {
        servers(&self.server)
    }

    /// Tells on standard error what a command waits for.
    pub fn waiting(&self) -> Waiting {
        // What cannot be an address was told when it was connected to.
        Waiting::new(self.servers().unwrap_or_default())
    }

    pub async fn connect(&self) -> Result<Client, Failure> {
        self.connect_to(self.servers()?).await
    }

    /// Of another cluster than the one that the flags name.
    pub async fn connect_to(&self, servers: Vec<String>) -> Result<Client, Failure> {
        let servers = self::servers(&servers)?;
        let observer = Some(Waiting::new(servers.clone()).observer());
        let config = ClientConfig { wait_observer: observer, ..ClientConfig::new(servers) };
        Client::connect(config).await.with_context(String::new)
    }
}

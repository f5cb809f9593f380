//! The configuration of a node that runs in this process: from a file, the environment and flags.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use clap::Args;
use std::path::PathBuf;
use troupe_broker::NodeConfig;

/// Where a node's configuration comes from.
#[derive(Debug, Args)]
pub struct Sources {
    /// Configuration in TOML
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A key and its value, before all else; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Sources {
    pub fn load(&self) -> Result<NodeConfig, Failure> {
        let file = match &self.config {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.with_context(|| format!("cannot read {}", path.display()))?)
            }
            None => None,
        };
        load(file.as_deref(), &self.set)
    }
}

/// The configuration of these sources and the environment.
pub fn load(file: Option<&str>, set: &[String]) -> Result<NodeConfig, Failure> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    NodeConfig::load(file, environment, set).map_err(|faults| {
        Failure::new(Exit::Usage, "", faults)
            .with_hint("`troupe serve --help-config` prints every key")
    })
}

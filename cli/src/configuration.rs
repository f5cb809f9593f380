//! The configuration of a node of this machine: from a file, the environment and flags.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use clap::Args;
use std::path::{Path, PathBuf};
use troupe_broker::{ConfigFile, ConfigSources, Configuration, NodeConfig};

/// Where a node's configuration comes from.
#[derive(Debug, Args)]
pub struct Sources {
    /// Configuration, in TOML or as a Kafka node has it (server.properties)
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The same
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A key and its value, before all else; may be repeated
    #[arg(long, value_name = "KEY=VALUE", visible_alias = "override")]
    set: Vec<String>,
}

impl Sources {
    pub fn load(&self) -> Result<NodeConfig, Failure> {
        self.read().map(|configuration| configuration.config)
    }

    /// With all that is known of where it comes from.
    pub fn read(&self) -> Result<Configuration, Failure> {
        let file = self.read_file()?;
        read(ConfigSources { file, environment: environment(), set: self.set.clone() })
    }

    /// The file, if one is named.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref().or(self.config.as_deref())
    }

    pub fn read_file(&self) -> Result<Option<ConfigFile>, Failure> {
        let Some(path) = self.path() else { return Ok(None) };
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(ConfigFile::new(path.display().to_string(), text)))
    }
}

/// The configuration of these settings and the environment.
pub fn load(set: &[String]) -> Result<NodeConfig, Failure> {
    let sources = ConfigSources { file: None, environment: environment(), set: set.to_vec() };
    read(sources).map(|configuration| configuration.config)
}

fn read(sources: ConfigSources) -> Result<Configuration, Failure> {
    sources.load().map_err(|faults| {
        Failure::new(Exit::Usage, "", faults)
            .with_hint("`troupe serve --help-config` prints every key")
    })
}

fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

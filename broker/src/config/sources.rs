//! Where values come from: file < environment (`TROUPE__SECTION__KEY`) < `--set`.
//!
//! Promise: of every value it is known where it was written.
//! Never here: what a key means.

use std::fmt;

/// How a file of settings is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Toml,
    /// Java's properties, as a Kafka node is configured.
    Properties,
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileFormat::Toml => "TOML",
            FileFormat::Properties => "properties",
        })
    }
}

/// A file of settings, as it was read.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// As it is told to people.
    pub name: String,
    pub text: String,
    pub format: FileFormat,
    /// How it is known that it has this format.
    pub(super) told_by: &'static str,
}

/// Where the value of a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        name: String,
        /// The first is 1.
        line: usize,
    },
    Environment {
        variable: String,
    },
    /// `--set` of the command line.
    Set,
    /// It follows from another key.
    Derived {
        from: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Environment { variable } => f.write_str(variable),
            Origin::Set => f.write_str("--set"),
            Origin::Derived { from } => write!(f, "follows from {from}"),
        }
    }
}

/// A value as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub key: String,
    pub value: String,
    pub origin: Origin,
}

/// All that a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources {
    pub file: Option<ConfigFile>,
    /// All variables; those of others are passed over.
    pub environment: Vec<(String, String)>,
    /// The `key=value` pairs of the command line.
    pub set: Vec<String>,
}

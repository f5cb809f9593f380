//! How one value of a configuration is read and shown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use troupe_machines::config::{parse_bytes, parse_millis};

/// A value of a configuration.
pub trait Setting: Sized {
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

/// A size: `65536`, `64KiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A duration: `500` (milliseconds), `500ms`, `30s`, `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub u64);

impl Millis {
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

macro_rules! parsed_by_std {
    ($($type:ty: $what:literal),+) => {
        $(impl Setting for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("`{text}` is not {}", $what))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })+
    };
}

parsed_by_std! {
    i32: "a whole number",
    u32: "a whole number",
    usize: "a whole number",
    bool: "`true` or `false`",
    SocketAddr: "an address like 127.0.0.1:7070"
}

impl Setting for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path is needed".to_owned()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        parse_bytes(text).map(Bytes).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Setting for Millis {
    fn parse(text: &str) -> Result<Self, String> {
        parse_millis(text).map(Millis).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

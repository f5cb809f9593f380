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

/// A long duration: `10080` (minutes), `90m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minutes(pub u64);

impl Minutes {
    pub fn as_millis(self) -> u64 {
        self.0.saturating_mul(MINUTE_MS)
    }
}

const MINUTE_MS: u64 = 60_000;

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

impl Setting for Minutes {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(minutes) = text.trim().parse() {
            return Ok(Minutes(minutes));
        }
        let millis = parse_millis(text).map_err(|error| error.to_string())?;
        match millis % MINUTE_MS {
            0 => Ok(Minutes(millis / MINUTE_MS)),
            _ => Err(format!("`{text}` is not a number of whole minutes")),
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_a_number_alone_or_a_duration() {
        assert_eq!(Minutes::parse("10080"), Ok(Minutes(10_080)));
        assert_eq!(Minutes::parse("7d"), Ok(Minutes(10_080)));
        assert_eq!(Minutes::parse("2h").map(Minutes::as_millis), Ok(7_200_000));
        for wrong in ["90s", "", "soon", "-1"] {
            assert!(Minutes::parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! How one value of a configuration is read and shown.

use std::marker::PhantomData;
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

/// A duration: `300` (seconds), `500ms`, `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds {
    ms: u64,
}

impl Seconds {
    pub const fn of(seconds: u64) -> Self {
        Self { ms: seconds * SECOND_MS }
    }

    pub fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

impl Setting for Seconds {
    fn parse(text: &str) -> Result<Self, String> {
        let ms = match text.trim().parse::<u64>() {
            Ok(seconds) => seconds.saturating_mul(SECOND_MS),
            Err(_) => parse_millis(text).map_err(|error| error.to_string())?,
        };
        Ok(Self { ms })
    }

    fn show(&self) -> String {
        match self.ms % SECOND_MS {
            0 => (self.ms / SECOND_MS).to_string(),
            _ => format!("{}ms", self.ms),
        }
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

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Hours, as the unit of a [`KeptFor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {}

/// What a number alone is a number of.
pub trait Unit {
    const MS: u64;
    const NAME: &str;
}

impl Unit for Millis {
    const MS: u64 = 1;
    const NAME: &str = "milliseconds";
}

impl Unit for Minutes {
    const MS: u64 = MINUTE_MS;
    const NAME: &str = "minutes";
}

impl Unit for Hours {
    const MS: u64 = HOUR_MS;
    const NAME: &str = "hours";
}

/// How long something is kept: a number of the unit, a duration, or -1, for ever. Never no time at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptFor<U> {
    /// In units.
    count: Option<u64>,
    unit: PhantomData<U>,
}

impl KeptFor<Hours> {
    pub const fn hours(count: u64) -> Self {
        Self { count: Some(count), unit: PhantomData }
    }
}

impl<U: Unit> KeptFor<U> {
    /// None: for ever.
    pub fn millis(self) -> Option<u64> {
        self.count.map(|count| count.saturating_mul(U::MS))
    }
}

impl<U: Unit> Setting for KeptFor<U> {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let kept = |count| Self { count, unit: PhantomData };
        if text == "-1" {
            return Ok(kept(None));
        }
        let count = match text.parse() {
            Ok(count) => count,
            Err(_) => {
                let millis = parse_millis(text).map_err(|error| error.to_string())?;
                if millis % U::MS != 0 {
                    return Err(format!("`{text}` is not a number of whole {}", U::NAME));
                }
                millis / U::MS
            }
        };
        match count {
            0 => Err("0 would keep nothing: at least 1 is needed, or -1 for ever".to_owned()),
            count => Ok(kept(Some(count))),
        }
    }

    fn show(&self) -> String {
        self.count.map_or_else(|| "-1".to_owned(), |count| count.to_string())
    }
}

/// A size, or -1: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesLimit(pub Option<u64>);

impl Setting for BytesLimit {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "-1" => Ok(Self(None)),
            text => Bytes::parse(text).map(|bytes| Self(Some(bytes.0))),
        }
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string())
    }
}

/// A value that need not be given: empty, if it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unset<T>(pub Option<T>);

impl<T: Setting> Setting for Unset<T> {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self(None)),
            text => T::parse(text).map(|value| Self(Some(value))),
        }
    }

    fn show(&self) -> String {
        self.0.as_ref().map_or_else(String::new, T::show)
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

    #[test]
    fn seconds_are_a_number_alone_or_a_duration() {
        let shown = |text| Seconds::parse(text).map(|seconds| seconds.show());
        assert_eq!(shown("300"), Ok("300".to_owned()));
        assert_eq!(shown("5m"), Ok("300".to_owned()));
        assert_eq!(shown("50ms"), Ok("50ms".to_owned()));
        assert!(Seconds::parse("-1").is_err() && Seconds::parse("soon").is_err());
    }

    #[test]
    fn what_is_kept_for_ever_or_for_a_while_is_told_from_what_is_kept_for_no_time() {
        let hours = |text| KeptFor::<Hours>::parse(text).map(KeptFor::millis);
        assert_eq!(hours("168"), Ok(Some(604_800_000)));
        assert_eq!(hours("7d"), Ok(Some(604_800_000)));
        assert_eq!(hours("-1"), Ok(None));
        let millis = |text| KeptFor::<Millis>::parse(text).map(KeptFor::millis);
        assert_eq!((millis("1500"), millis("2s")), (Ok(Some(1_500)), Ok(Some(2_000))));
        for wrong in ["0", "90m", "-2", "", "soon"] {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Unset::<KeptFor<Minutes>>::parse(" "), Ok(Unset(None)));
        assert_eq!(BytesLimit::parse("1MiB"), Ok(BytesLimit(Some(1 << 20))));
        assert_eq!(BytesLimit::parse("-1"), Ok(BytesLimit(None)));
        assert!(BytesLimit::parse("-2").is_err());
    }
}

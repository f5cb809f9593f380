//! The grammar of `group reset --to`.
//!
//! ```text
//! earliest  latest     the first record; the end
//! @T                   the first record at or after a time: RFC 3339, a date, 13 digits (ms), 10 digits (s)
//! -1h  @-1h            so long before now: ms, s, m, h, d
//! =42                  an offset
//! +100  -100           so many records from the committed offset; a number with a unit is a time
//! ```

use crate::offset_range::Moment;
use crate::quantity::parse_duration;
use crate::timestamp;
use std::fmt;
use std::str::FromStr;
use troupe_proto::log::v1::reset_group_offsets_request::To;

/// Where committed offsets are moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Earliest,
    Latest,
    At(Moment),
    Offset(i64),
    Shift(i64),
}

impl Target {
    pub fn to_wire(self, now_ms: i64) -> To {
        match self {
            Target::Earliest => To::Earliest(true),
            Target::Latest => To::Latest(true),
            Target::At(moment) => To::TimestampMs(moment.timestamp_ms(now_ms)),
            Target::Offset(offset) => To::Offset(offset),
            Target::Shift(records) => To::ShiftBy(records),
        }
    }
}

/// Text that is no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    text: String,
    what: &'static str,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no {}; use earliest, latest, @2026-01-31, @2026-01-31T12:00Z, @1790000000000, -1h, =42, +100 or -100",
            self.text, self.what
        )
    }
}

impl std::error::Error for TargetError {}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |what| TargetError { text: text.to_owned(), what };
        match text {
            "earliest" | "start" => return Ok(Target::Earliest),
            "latest" | "end" => return Ok(Target::Latest),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            let moment = match time.strip_prefix('-') {
                Some(span) => before_now(span),
                None => timestamp::parse(time).map(Moment::Timestamp),
            };
            return moment.map(Target::At).ok_or_else(|| error("time"));
        }
        if let Some(offset) = text.strip_prefix('=') {
            return digits(offset).map(Target::Offset).ok_or_else(|| error("offset"));
        }
        if let Some(records) = text.strip_prefix('+') {
            return digits(records).map(Target::Shift).ok_or_else(|| error("number of records"));
        }
        if let Some(back) = text.strip_prefix('-') {
            if let Some(records) = digits(back) {
                return Ok(Target::Shift(-records));
            }
            return before_now(back).map(Target::At).ok_or_else(|| error("time span"));
        }
        Err(error("place to move to"))
    }
}

fn digits(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// `1h`: with a unit, so that it is told from a number of records.
fn before_now(span: &str) -> Option<Moment> {
    let unit = span.chars().last()?;
    let ms = parse_duration(span).ok().filter(|_| unit.is_alphabetic())?.as_millis();
    Some(Moment::BeforeNow { ms: i64::try_from(ms).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_the_help_is_understood() {
        assert_eq!(target("earliest"), Target::Earliest);
        assert_eq!(target("latest"), Target::Latest);
        let day = Target::At(Moment::Timestamp(1_709_164_800_000));
        assert_eq!(target("@2024-02-29"), day);
        assert_eq!(target("@2024-02-29T00:00Z"), day);
        assert_eq!(target("@1709164800000"), day);
        let hour = Target::At(Moment::BeforeNow { ms: 3_600_000 });
        assert_eq!(target("-1h"), hour);
        assert_eq!(target("@-1h"), hour);
        assert_eq!(target("=42"), Target::Offset(42));
        assert_eq!(target("+100"), Target::Shift(100));
        assert_eq!(target("-100"), Target::Shift(-100));
    }

    #[test]
    fn times_are_told_to_the_node_as_milliseconds() {
        assert_eq!(target("-1h").to_wire(10_000_000), To::TimestampMs(6_400_000));
        assert_eq!(target("@1970-01-02").to_wire(0), To::TimestampMs(86_400_000));
        assert_eq!(target("-7").to_wire(0), To::ShiftBy(-7));
    }

    #[test]
    fn anything_else_is_refused_with_what_would_do() {
        for text in [
            "",
            "42",
            "now",
            "=",
            "=-1",
            "=x",
            "+",
            "+1h",
            "-",
            "--1",
            "-1y",
            "@",
            "@noon",
            "@2024-02-30",
            "@-5",
            "@tomorrow",
            "=99999999999999999999",
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("@2026-01-31T12:00Z, "), "{text}: {error}");
        }
        assert!("@noon".parse::<Target>().unwrap_err().to_string().contains("`@noon` is no time"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<Target>();
        }
    }
}

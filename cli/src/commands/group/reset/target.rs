//! `group reset --to`: a place in the language of offsets, in which `+100` and `-100` count from where the group has
//! committed.

use crate::offset_range::{Moment, Position};
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
    /// The offset that is asked for, where it is one: the broker gives the nearest that there is.
    pub fn asked(self, committed: Option<i64>) -> Option<i64> {
        match self {
            Target::Offset(offset) => Some(offset),
            Target::Shift(records) => Some(committed?.saturating_add(records)),
            Target::Earliest | Target::Latest | Target::At(_) => None,
        }
    }

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
pub struct TargetError(String);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no place to move to; use earliest, latest, 42, =42, +100, -100, @2026-01-31, @2026-01-31T12:00Z, \
             @1790000000000 or -1h",
            self.0
        )
    }
}

impl std::error::Error for TargetError {}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || TargetError(text.to_owned());
        let number = |number: u64| i64::try_from(number).map_err(|_| error());
        match text.parse().map_err(|_| error())? {
            Position::Start => Ok(Target::Earliest),
            Position::End => Ok(Target::Latest),
            Position::At(moment) => Ok(Target::At(moment)),
            Position::Exact(offset) => Ok(Target::Offset(number(offset)?)),
            Position::AfterStart(records) => Ok(Target::Shift(number(records)?)),
            Position::BeforeEnd(records) => Ok(Target::Shift(-number(records)?)),
        }
    }
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
        assert_eq!(target("42"), Target::Offset(42));
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
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<Target>();
        }
    }
}

//! The language of offsets, the same wherever one is asked for: a place in a partition (`topic purge --before`, `topic
//! offsets --at`, `group reset --to`) or a range, where to begin and, optionally, where to stop (`consume --offset`).
//!
//! ```text
//! earliest  latest     the first record; the end at this moment; also `start` and `end`
//! 42  =42              an exact offset
//! +10  -10             10 after the start; 10 before the end. Of a group: from where it has committed
//! 42:  :42  42:50      from; until; both. The end of a range is exclusive, and any form may stand in it
//! :end                 what there is now
//! @T  @T1:T2  @:T2     by timestamp: RFC 3339, a date, 13 digits (ms), 10 digits (s), -48h (before now)
//! -48h  -2h:-1h        the same: a number with a unit is a time
//! ```
//!
//! One rule for what lies outside of what a partition holds: it is what there is that comes nearest, and that is said.

use crate::quantity::parse_duration;
use crate::timestamp;
use std::fmt;
use std::str::FromStr;

/// One end of a range, before it is known what the partitions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Start,
    End,
    Exact(u64),
    AfterStart(u64),
    BeforeEnd(u64),
    /// The first record with this timestamp or a later one.
    At(Moment),
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Timestamp(i64),
    BeforeNow { ms: i64 },
}

impl Moment {
    /// What stands behind the `@`: a timestamp, or `-48h`.
    pub fn parse(text: &str) -> Option<Moment> {
        Moment::before_now(text).or_else(|| timestamp::parse(text).map(Moment::Timestamp))
    }

    /// `-48h`: with a unit, so that it is told from a number of records.
    fn before_now(text: &str) -> Option<Moment> {
        let span = text.strip_prefix('-')?;
        let unit = span.chars().last()?;
        let ms = parse_duration(span).ok().filter(|_| unit.is_alphabetic())?.as_millis();
        Some(Moment::BeforeNow { ms: i64::try_from(ms).ok()? })
    }

    pub fn timestamp_ms(self, now_ms: i64) -> i64 {
        match self {
            Moment::Timestamp(ms) => ms,
            Moment::BeforeNow { ms } => now_ms.saturating_sub(ms),
        }
    }
}

/// What to read of each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    pub from: Position,
    /// Exclusive; None: for ever.
    pub until: Option<Position>,
}

impl OffsetRange {
    pub const FROM_START: OffsetRange = OffsetRange { from: Position::Start, until: None };
    pub const FROM_END: OffsetRange = OffsetRange { from: Position::End, until: None };
}

/// What one partition holds; the answers that a range needs to become two offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub earliest: u64,
    pub latest: u64,
    /// Offset for the timestamp of `from`, and of `until`; None: no record is that late.
    pub at_from: Option<u64>,
    pub at_until: Option<u64>,
}

impl Bounds {
    /// What there is that comes nearest.
    pub fn clamp(&self, offset: i128) -> u64 {
        let earliest = self.earliest.min(self.latest);
        let within = offset.clamp(i128::from(earliest), i128::from(self.latest));
        u64::try_from(within).unwrap_or(self.latest)
    }
}

impl OffsetRange {
    /// The range in offsets of a partition: from, and the exclusive end, as they are asked for. Exact ones may lie
    /// outside of what there is, and relative ones too.
    pub fn asked(&self, bounds: &Bounds) -> (i128, Option<i128>) {
        let (earliest, latest) = (i128::from(bounds.earliest), i128::from(bounds.latest));
        let resolve = |position, by_time: Option<u64>| match position {
            Position::Start => earliest,
            Position::End => latest,
            Position::Exact(offset) => i128::from(offset),
            Position::AfterStart(count) => earliest + i128::from(count),
            Position::BeforeEnd(count) => latest - i128::from(count),
            Position::At(_) => by_time.map_or(latest, i128::from),
        };
        let from = resolve(self.from, bounds.at_from);
        (from, self.until.map(|until| resolve(until, bounds.at_until)))
    }

    /// The same within what there is.
    pub fn resolve(&self, bounds: &Bounds) -> (u64, Option<u64>) {
        let (from, until) = self.asked(bounds);
        (bounds.clamp(from), until.map(|until| bounds.clamp(until)))
    }
}

/// Text that is no range of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetError(String);

impl fmt::Display for OffsetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no offset; use earliest, latest, 42, =42, +10, -10, 42:50, :end, @2026-01-31, -1h or -2h:-1h",
            self.0
        )
    }
}

impl std::error::Error for OffsetError {}

impl FromStr for OffsetRange {
    type Err = OffsetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || OffsetError(text.to_owned());
        if let Some(times) = text.strip_prefix('@') {
            return time_range(times).ok_or_else(error);
        }
        let (from, until) = text.split_once(':').unwrap_or((text, ""));
        if from.is_empty() && until.is_empty() {
            return Err(error());
        }
        let side = |text: &str| match text {
            "" => Some(None),
            text => position(text).map(Some),
        };
        let from = side(from).ok_or_else(error)?.unwrap_or(Position::Start);
        let until = side(until).ok_or_else(error)?;
        Ok(OffsetRange { from, until })
    }
}

/// Text that is not one place in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionError(String);

impl fmt::Display for PositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no offset; use earliest, latest, 42, =42, +10, -10, @2026-01-31, @1790000000000 or -1h",
            self.0
        )
    }
}

impl std::error::Error for PositionError {}

impl FromStr for Position {
    type Err = PositionError;

    /// One place: any form of one end of a range.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = match text.strip_prefix('@') {
            Some(time) => moment(time).filter(|place| matches!(place, Position::At(_))),
            None => position(text),
        };
        place.ok_or_else(|| PositionError(text.to_owned()))
    }
}

fn position(text: &str) -> Option<Position> {
    match text {
        "start" | "earliest" | "beginning" => return Some(Position::Start),
        "end" | "latest" => return Some(Position::End),
        _ => {}
    }
    if let Some(span) = Moment::before_now(text) {
        return Some(Position::At(span));
    }
    let digits = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    match text.as_bytes().first()? {
        b'+' => digits(&text[1..]).map(Position::AfterStart),
        b'-' => digits(&text[1..]).map(Position::BeforeEnd),
        b'=' => digits(&text[1..]).map(Position::Exact),
        _ => digits(text).map(Position::Exact),
    }
}

/// Timestamps contain colons themselves, so every colon is tried as the one between them.
fn time_range(text: &str) -> Option<OffsetRange> {
    if let Some(from) = moment(text) {
        return Some(OffsetRange { from, until: None });
    }
    text.match_indices(':').find_map(|(at, _)| {
        let (from, until) = (&text[..at], &text[at + 1..]);
        let from = if from.is_empty() { Position::Start } else { moment(from)? };
        match until {
            "" if at == 0 => None,
            "" => Some(OffsetRange { from, until: None }),
            until => Some(OffsetRange { from, until: Some(moment(until)?) }),
        }
    })
}

fn moment(text: &str) -> Option<Position> {
    match text {
        "start" | "earliest" => Some(Position::Start),
        "end" | "latest" => Some(Position::End),
        _ => Moment::parse(text).map(Position::At),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> OffsetRange {
        text.parse().unwrap()
    }

    fn at(ms: i64) -> Position {
        Position::At(Moment::Timestamp(ms))
    }

    #[test]
    fn every_form_of_the_help_is_understood() {
        let from = |from| OffsetRange { from, until: None };
        assert_eq!(range("start"), from(Position::Start));
        assert_eq!(range("end"), from(Position::End));
        assert_eq!(range("earliest"), from(Position::Start));
        assert_eq!(range("latest"), from(Position::End));
        assert_eq!(range("42"), from(Position::Exact(42)));
        assert_eq!(range("=42"), from(Position::Exact(42)));
        assert_eq!(range("42:"), from(Position::Exact(42)));
        assert_eq!(range("+10"), from(Position::AfterStart(10)));
        assert_eq!(range("-10"), from(Position::BeforeEnd(10)));
        let both = |from, until| OffsetRange { from, until: Some(until) };
        assert_eq!(range(":end"), both(Position::Start, Position::End));
        assert_eq!(range(":42"), both(Position::Start, Position::Exact(42)));
        assert_eq!(range("5:9"), both(Position::Exact(5), Position::Exact(9)));
        assert_eq!(range("-5:end"), both(Position::BeforeEnd(5), Position::End));
        assert_eq!(range("@2024-02-29"), from(at(1_709_164_800_000)));
        assert_eq!(range("@1709210096789:"), from(at(1_709_210_096_789)));
        assert_eq!(
            range("@2024-02-29T12:34:56Z:2024-02-29T12:34:57Z"),
            both(at(1_709_210_096_000), at(1_709_210_097_000))
        );
        let before = |ms| Position::At(Moment::BeforeNow { ms });
        assert_eq!(range("@-2h:-90m"), both(before(7_200_000), before(5_400_000)));
        assert_eq!(range("-2h:-90m"), range("@-2h:-90m"));
        assert_eq!(range("-1h"), range("@-1h"));
        assert_eq!(range("-1h:end"), range("@-1h:end"));
        assert_eq!(range("@:-1h"), both(Position::Start, before(3_600_000)));
        assert_eq!(range("@-1h:end"), both(before(3_600_000), Position::End));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", ":", "now", "4x", "--4", "+", "@", "@:", "@noon", "@-5", "1:2:3", "+-1", "=", "=-1",
        ] {
            assert!(text.parse::<OffsetRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_place_is_any_end_of_a_range_and_no_range() {
        for (text, place) in [
            ("42", Position::Exact(42)),
            ("+10", Position::AfterStart(10)),
            ("-10", Position::BeforeEnd(10)),
            ("end", Position::End),
            ("latest", Position::End),
            ("start", Position::Start),
            ("@2024-02-29T12:34Z", at(1_709_210_040_000)),
            ("@-1h", Position::At(Moment::BeforeNow { ms: 3_600_000 })),
            ("-1h", Position::At(Moment::BeforeNow { ms: 3_600_000 })),
            ("=42", Position::Exact(42)),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
        for text in ["", ":", "42:50", ":end", "@", "@start", "@-5", "@noon", "-1y", "now", "@:-1h"]
        {
            let error = text.parse::<Position>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no offset; use ")), "{error}");
        }
    }

    #[test]
    fn what_is_asked_for_stays_within_the_partition() {
        let bounds = Bounds { earliest: 10, latest: 20, at_from: Some(13), at_until: None };
        for (text, expected) in [
            ("start", (10, None)),
            ("end", (20, None)),
            ("-5", (15, None)),
            ("-50", (10, None)),
            ("+5", (15, None)),
            ("+50", (20, None)),
            (":end", (10, Some(20))),
            ("3:99", (10, Some(20))),
            ("99", (20, None)),
            ("12:15", (12, Some(15))),
            ("@1709210096789", (13, None)),
            ("@1709210096789:1709210096790", (13, Some(20))),
        ] {
            assert_eq!(range(text).resolve(&bounds), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<OffsetRange>();
        }

        #[test]
        fn exact_ranges_are_read_back(from: u32, until: u32) {
            let range = range(&format!("{from}:{until}"));
            prop_assert_eq!(range.asked(&Bounds::default()), (i128::from(from), Some(i128::from(until))));
        }
    }
}

//! A part of a whole, exact to a millionth: it can be compared, and is shown as it was written.

use std::fmt;

/// Between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u32);

const WHOLE: u32 = 1_000_000;

impl Ratio {
    /// More than a million are a whole.
    pub const fn from_millionths(millionths: u32) -> Ratio {
        Ratio(if millionths > WHOLE { WHOLE } else { millionths })
    }

    /// So much of all; of nothing it is nothing.
    pub fn of(part: u64, all: u64) -> Ratio {
        let millionths = u128::from(part) * u128::from(WHOLE) / u128::from(all.max(1));
        Ratio(u32::try_from(millionths).unwrap_or(WHOLE).min(WHOLE))
    }

    pub fn parse(text: &str) -> Result<Ratio, String> {
        match text.parse::<f64>() {
            // The cast cannot leave the range, which was looked at.
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => {
                Ok(Ratio((ratio * f64::from(WHOLE)).round() as u32))
            }
            _ => Err("must be a number between 0 and 1".to_owned()),
        }
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_f64(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_between_nothing_and_the_whole() {
        assert_eq!(Ratio::of(0, 0), Ratio::from_millionths(0));
        assert_eq!(Ratio::of(1, 3).to_string(), "0.333333");
        assert_eq!(Ratio::of(u64::MAX, u64::MAX).to_string(), "1");
        assert_eq!(Ratio::of(5, 3), Ratio::from_millionths(WHOLE));
        assert_eq!(Ratio::parse("0.5"), Ok(Ratio::of(1, 2)));
    }
}

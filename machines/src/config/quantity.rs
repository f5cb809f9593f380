//! Sizes and durations as people write them: `1GiB`, `7d`, or a plain number as in Kafka.

use thiserror::Error;

/// What is wrong with a written size or duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuantityError {
    #[error("'{0}' is not a number")]
    NotANumber(String),
    #[error("'{unit}' is not a unit; use one of {known}")]
    UnknownUnit { unit: String, known: &'static str },
    #[error("'{0}' is too large")]
    TooLarge(String),
}

const KNOWN_SIZES: &str = "B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
const KNOWN_DURATIONS: &str = "ms, s, m, h, d, w";

/// Bytes. Units of 1,000 (`KB`, `MB`, …) and of 1,024 (`KiB`, `MiB`, …), in any case; none means bytes.
pub fn parse_bytes(text: &str) -> Result<u64, QuantityError> {
    parse(text, KNOWN_SIZES, |unit| match unit {
        "" | "b" => Some(1),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "tb" => Some(1_000_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        "tib" => Some(1 << 40),
        _ => None,
    })
}

/// Milliseconds. No unit means milliseconds.
pub fn parse_millis(text: &str) -> Result<u64, QuantityError> {
    parse(text, KNOWN_DURATIONS, |unit| match unit {
        "" | "ms" => Some(1),
        "s" => Some(1_000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        "w" => Some(7 * 86_400_000),
        _ => None,
    })
}

fn parse(
    text: &str,
    known: &'static str,
    factor: impl Fn(&str) -> Option<u64>,
) -> Result<u64, QuantityError> {
    let text = text.trim();
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_').count();
    let (number, unit) = text.split_at(digits);
    if !number.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::NotANumber(text.to_owned()));
    }
    let unit = unit.trim();
    let factor = factor(&unit.to_ascii_lowercase())
        .ok_or_else(|| QuantityError::UnknownUnit { unit: unit.to_owned(), known })?;
    number
        .replace('_', "")
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| QuantityError::TooLarge(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1048588", 1_048_588),
            ("1GiB", 1 << 30),
            (" 512 kib ", 512 << 10),
            ("10MB", 10_000_000),
            ("1_000B", 1_000),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in
            [("604800000", 604_800_000), ("7d", 604_800_000), ("12h", 43_200_000), ("45s", 45_000)]
        {
            assert_eq!(parse_millis(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_known_units() {
        assert_eq!(parse_bytes("big"), Err(QuantityError::NotANumber("big".into())));
        assert_eq!(parse_bytes("_"), Err(QuantityError::NotANumber("_".into())));
        assert_eq!(parse_bytes("-1"), Err(QuantityError::NotANumber("-1".into())));
        assert!(matches!(parse_bytes("1d"), Err(QuantityError::UnknownUnit { .. })));
        assert!(matches!(parse_millis("1KiB"), Err(QuantityError::UnknownUnit { .. })));
        assert!(matches!(parse_bytes("99999999999TiB"), Err(QuantityError::TooLarge(_))));
        assert!(matches!(parse_bytes("99999999999999999999"), Err(QuantityError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".*") {
            let _ = parse_bytes(&text);
            let _ = parse_millis(&text);
        }
    }
}

//! Numbers as people write and read them: `64MiB`, `1.5s`, `50k`.

use std::time::Duration;

/// A whole number from 0 on.
pub fn parse_whole<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let number = text.trim().parse().ok().and_then(|number: u64| T::try_from(number).ok());
    number.ok_or_else(|| "it is no whole number from 0 on, or too large".to_owned())
}

/// A number of an option for which Kafka's tools take -1 as if it had not been given: None.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given<T>(pub Option<T>);

/// A whole number from 0 on, or -1.
pub fn parse_given<T: TryFrom<u64>>(text: &str) -> Result<Given<T>, String> {
    if text.trim() == "-1" {
        return Ok(Given(None));
    }
    match parse_whole(text) {
        Ok(number) => Ok(Given(Some(number))),
        Err(_) => {
            Err("it is neither a whole number from 0 on nor -1, which is the default".to_owned())
        }
    }
}

/// `1 record`, `2 records`.
pub fn plural<N: PartialEq + From<u8> + std::fmt::Display>(count: N, what: &str) -> String {
    let end = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{end}")
}

/// The same with the digits in groups: `1,000 records`.
pub fn plural_grouped(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{} {what}{end}", grouped(count))
}

fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative, or no number"));
    }
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number = digits.replace('_', "").parse::<f64>();
    number
        .map(|number| (number, unit.trim()))
        .map_err(|_| format!("`{text}` does not start with a number"))
}

/// Bytes: `4096`, `64KiB`, `1MB`, `2GiB`. `K`, `M` and `G` alone count in 1,024s.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(format!("`{unit}` is no unit of size; use KiB, MiB, GiB, KB, MB or GB")),
    };
    whole(number * factor as f64, text)
}

/// Bytes in a second: `50MiB/s`, `50MiB`, `52428800`; -1, as if it had not been given.
pub fn parse_byte_rate(text: &str) -> Result<Given<u64>, String> {
    let text = text.trim();
    if text == "-1" {
        return Ok(Given(None));
    }
    match parse_size(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err("with 0 nothing would ever be complete".to_owned()),
        rate => Ok(Given(Some(rate))),
    }
}

/// A time span: `500ms`, `20s`, `5m`, `2h`, `7d`; without a unit, milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1e3,
        "m" | "min" => 60e3,
        "h" => 3_600e3,
        "d" => 86_400e3,
        _ => return Err(format!("`{unit}` is no unit of time; use us, ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(number * millis / 1e3).map_err(|_| format!("`{text}` is too long"))
}

/// How many: `1000000`, `1_000_000`, `50k`, `2M`.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        "g" | "G" => 1e9,
        _ => return Err(format!("`{unit}` is no multiple; use k, M or G")),
    };
    whole(number * factor, text)
}

fn whole(number: f64, text: &str) -> Result<u64, String> {
    if number.fract() != 0.0 {
        return Err(format!("`{text}` is not a whole number"));
    }
    if number >= 9.0e15 {
        return Err(format!("`{text}` is too large"));
    }
    Ok(number as u64)
}

/// A number with its thousands apart: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes for a person: `1.5 MiB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A rate for a person: `1.53 M`.
pub fn show_rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.0} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

/// A time span for a person: `850 ms`, `12.3 s`, `2 m 5 s`.
pub fn show_duration(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        seconds => format!("{} m {} s", seconds / 60, seconds % 60),
    }
}

/// To three decimals.
pub fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_counts_are_read_as_people_write_them() {
        assert_eq!(parse_size("1KiB"), Ok(1024));
        assert_eq!(parse_size("1.5MiB"), Ok(1_572_864));
        assert_eq!(parse_size("1 MB"), Ok(1_000_000));
        assert_eq!(parse_size("100"), Ok(100));
        assert!(parse_size("0.5").is_err());
        assert!(parse_size("big").is_err());
        assert!(parse_size("99999999999GiB").is_err());
        assert_eq!(parse_byte_rate("50MiB/s"), Ok(Given(Some(50 << 20))));
        assert_eq!(parse_byte_rate("50000"), Ok(Given(Some(50_000))));
        assert_eq!(parse_byte_rate("-1"), Ok(Given(None)));
        assert!(parse_byte_rate("0").is_err());
        assert!(parse_byte_rate("5MiB/m").is_err());
        assert_eq!(parse_duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("5 fortnights").is_err());
        assert_eq!(parse_count("50k"), Ok(50_000));
        assert_eq!(parse_count("1_000"), Ok(1000));
        assert!(parse_count("-1").is_err());
    }

    #[test]
    fn numbers_are_shown_in_few_digits() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_rate(1_534_000.0), "1.53 M");
        assert_eq!(show_duration(Duration::from_millis(850)), "850 ms");
        assert_eq!(show_duration(Duration::from_secs(125)), "2 m 5 s");
    }
}

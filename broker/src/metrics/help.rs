//! What each series is, in the words of `deploy/metrics.md`: whoever looks at `/metrics` has them there too.

use metrics::{describe_counter, describe_gauge, describe_histogram};

const PAGE: &str = include_str!("../../../deploy/metrics.md");

/// Name, kind and meaning of each series.
fn series() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`');
        let (kind, _labels) = (cells.next()?, cells.next()?);
        Some((name, kind, cells.next()?))
    })
}

/// What a series is.
pub fn of(name: &str) -> Option<&'static str> {
    series().find(|(known, _, _)| *known == name).map(|(_, _, what)| what)
}

/// Tells the recorder of all of them.
pub fn describe() {
    for (name, kind, what) in series() {
        match kind {
            "counter" => describe_counter!(name, what),
            "gauge" => describe_gauge!(name, what),
            _ => describe_histogram!(name, what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_of_the_page_has_a_kind_and_a_meaning() {
        assert!(series().count() > 40);
        for (name, kind, what) in series() {
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{name}: {kind}");
            assert!(!what.is_empty(), "{name}");
        }
        assert_eq!(of("troupe_topics"), Some("topics with replicas here"));
    }
}

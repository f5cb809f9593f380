//! What a node counts, and what is told of it.

use crate::{assert_none, is_lower_snake, quoted};
use std::collections::{BTreeMap, BTreeSet};
use troupe_tests::workspace;

/// Series and kinds, as the node's code makes them.
fn series() -> BTreeMap<String, &'static str> {
    let mut series = BTreeMap::new();
    for source in workspace::sources("broker").unwrap() {
        let text = source.production.join("\n");
        for kind in ["counter", "gauge", "histogram"] {
            for made in text.split(&format!("{kind}!(")).skip(1) {
                let name =
                    made.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                series.extend(name.map(|name| (name.to_owned(), kind)));
            }
        }
        // Counted by hand, and gone with their topic.
        if source.path == "broker/src/metrics/topics.rs" {
            let names = quoted(&text).into_iter().filter(|name| name.starts_with("troupe_"));
            series.extend(names.filter(|name| is_lower_snake(name)).map(|name| (name, "counter")));
        }
    }
    assert!(series.len() > 40, "{series:?}");
    series
}

#[test]
fn every_metric_is_told_to_who_watches_nodes() {
    let told = workspace::read("deploy/metrics.md").unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    };
    let told: BTreeMap<String, String> = told.lines().filter_map(row).collect();
    let made = series();
    let untold = made.iter().filter(|(name, kind)| told.get(*name).is_none_or(|of| of != *kind));
    let untold: Vec<_> = untold.map(|(name, kind)| format!("{name}, a {kind}")).collect();
    assert_none(&untold, "give it a row in deploy/metrics.md");
    let gone: Vec<_> = told.into_keys().filter(|name| !made.contains_key(name)).collect();
    assert_none(
        &gone,
        "deploy/metrics.md tells of a metric that nothing counts; dashboards may use it",
    );
}

/// As Prometheus has it.
#[test]
fn names_of_metrics_say_what_kind_they_are() {
    let says = |name: &str, kind: &str| {
        let is_ours = name.starts_with("troupe_") || name.starts_with("process_");
        let is_total = name.ends_with("_total") == (kind == "counter");
        is_ours && is_total && (kind != "histogram" || name.ends_with("_seconds"))
    };
    let strange = series().into_iter().filter(|(name, kind)| !says(name, kind));
    let strange: Vec<_> = strange.map(|(name, kind)| format!("{name}, a {kind}")).collect();
    assert_none(&strange, "`troupe_…`; a counter ends with `_total`, a histogram with `_seconds`");
}

/// A panel or an alert on what nothing counts stays silent for ever.
#[test]
fn dashboards_and_alerts_are_built_on_series_that_there_are() {
    let made = series();
    for file in ["deploy/grafana/troupe.json", "deploy/prometheus/troupe.rules.yml"] {
        let text = workspace::read(file).unwrap();
        let used: BTreeSet<&str> = workspace::series_in(&text).collect();
        assert!(used.len() > 10, "{file}: {used:?}");
        let gone: Vec<_> = used
            .into_iter()
            .filter(|name| {
                let of_histogram = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|part| made.get(name.strip_suffix(part)?))
                    .is_some_and(|kind| *kind == "histogram");
                !of_histogram && made.get(*name).is_none_or(|kind| *kind == "histogram")
            })
            .map(str::to_owned)
            .collect();
        assert_none(&gone, "no node counts that");
    }
}

//! The crates of the house and what their manifests import.

use std::collections::BTreeSet;
use troupe_tests::workspace;

/// Each crate and the crates of the workspace that it may import.
pub const IMPORTS: [(&str, &[&str]); 11] = [
    ("proto", &[]),
    ("log", &["proto"]),
    ("machines", &["proto"]),
    ("actor", &[]),
    ("controller", &["proto", "machines", "actor"]),
    ("broker", &["proto", "machines", "actor", "log", "controller"]),
    ("client", &["proto"]),
    ("chaos", &["proto", "client"]),
    ("cli", &["client", "chaos", "broker", "controller", "log", "proto"]),
    ("tests", &["proto", "log", "machines", "controller", "broker", "client", "testkit"]),
    ("tests/testkit", &["broker", "client", "chaos"]),
];

pub fn crates() -> impl Iterator<Item = &'static str> {
    IMPORTS.iter().map(|(name, _)| *name)
}

pub fn manifest(name: &str) -> toml::Table {
    workspace::read(&format!("{name}/Cargo.toml")).unwrap().parse().unwrap()
}

/// Names in the given section of a manifest, those for single platforms included.
pub fn dependencies(manifest: &toml::Table, section: &str) -> BTreeSet<String> {
    let of = |table: &toml::Table| -> Vec<String> {
        let section = table.get(section).and_then(toml::Value::as_table);
        section.map(|section| section.keys().cloned().collect()).unwrap_or_default()
    };
    let platforms = manifest.get("target").and_then(toml::Value::as_table);
    let of_platforms = platforms.into_iter().flat_map(|table| table.values());
    of(manifest)
        .into_iter()
        .chain(of_platforms.filter_map(toml::Value::as_table).flat_map(of))
        .collect()
}

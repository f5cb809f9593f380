//! `troupe config`: what a node would make of a configuration, without starting it.

use crate::configuration::Sources;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Output, Table, text};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write as _;
use troupe_broker::{Configuration, NodeConfig, NodeKey, Origin, UpdateMode};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Tell all that is wrong with a configuration, and what of it has no effect
    #[command(
        after_help = "Exit codes: 0 a node would start with it, 2 it would not, 3 there is no such file.\n\
        Examples:\n  \
        troupe config check server.properties\n  \
        troupe config check deploy/troupe.toml --set node.id=2"
    )]
    Check(Sources),
    /// Print the values in force
    #[command(after_help = "Examples:\n  \
        troupe config print server.properties --origin\n  \
        troupe config print --all -o json")]
    Print(Print),
    /// Print every key as a JSON Schema, for editors that check TOML
    Schema,
}

#[derive(Debug, Args)]
pub struct Print {
    #[command(flatten)]
    sources: Sources,
    /// Where each value comes from: FILE:LINE, the variable, --set or the default
    #[arg(long)]
    origin: bool,
    /// Also what has its default
    #[arg(long)]
    all: bool,
}

pub fn run(global: &Global, command: ConfigCommand) -> Result<(), Failure> {
    let output = global.output();
    match command {
        ConfigCommand::Check(sources) => check(&output, &sources),
        ConfigCommand::Print(print) => run_print(&output, &print),
        ConfigCommand::Schema => {
            let schema = schema();
            output.print(&format!("{schema:#}\n"))
        }
    }
}

fn check(output: &Output, sources: &Sources) -> Result<(), Failure> {
    let file = sources.read_file()?;
    let configuration = sources.read()?;
    let what = match &file {
        Some(file) => format!("{} ({})", file.name, file.told()),
        None => "the configuration without a file".to_owned(),
    };
    let doubts = configuration.config.doubts();
    let view = json!({
        "file": file.as_ref().map(|file| file.name.as_str()),
        "format": file.as_ref().map(|file| file.format.to_string()),
        "withoutEffect": without_effect(&configuration),
        "doubts": doubts,
    });
    output.one(&view, || {
        let mut text = format!("{what}: a node would start with it\n");
        for note in &configuration.notes {
            let _ = writeln!(text, "  without effect: {note}");
        }
        for doubt in &doubts {
            let _ = writeln!(text, "  most likely not meant: {doubt}");
        }
        text
    })
}

fn without_effect(configuration: &Configuration) -> Vec<Value> {
    let view = |note: &troupe_broker::Note| {
        json!({
            "name": note.key, "value": note.value, "origin": note.origin.to_string(),
            "reason": note.reason,
        })
    };
    configuration.notes.iter().map(view).collect()
}

fn run_print(output: &Output, print: &Print) -> Result<(), Failure> {
    let configuration = print.sources.read()?;
    let shown = |key: &NodeKey| print.all || configuration.origin(key.name) != Origin::Default;
    let keys: Vec<NodeKey> = NodeConfig::keys().into_iter().filter(shown).collect();
    let value = |key: &NodeKey| configuration.config.get(key.name).unwrap_or_default();
    let mut views: Vec<Value> = keys
        .iter()
        .map(|key| {
            json!({
                "name": key.name, "value": value(key),
                "origin": configuration.origin(key.name).to_string(),
                "needsRestart": key.update_mode == UpdateMode::Restart,
                "withoutEffect": Value::Null,
            })
        })
        .collect();
    views.extend(configuration.notes.iter().map(|note| {
        json!({
            "name": note.key, "value": note.value, "origin": note.origin.to_string(),
            "needsRestart": Value::Null, "withoutEffect": note.reason,
        })
    }));
    output.many("keys", &views, || {
        let mut columns = vec![text("KEY"), text("VALUE")];
        columns.extend(print.origin.then(|| text("ORIGIN")));
        columns.extend((!configuration.notes.is_empty()).then(|| text("WITHOUT EFFECT")));
        let mut table = Table::new(&columns);
        let mut row = |name: &str, value: String, origin: Origin, reason: &str| {
            let mut cells = vec![name.to_owned(), value];
            cells.extend(print.origin.then(|| origin.to_string()));
            cells.extend((!configuration.notes.is_empty()).then(|| reason.to_owned()));
            table.row(cells);
        };
        for key in &keys {
            row(key.name, value(key), configuration.origin(key.name), "");
        }
        for note in &configuration.notes {
            row(&note.key, note.value.clone(), note.origin.clone(), &note.reason);
        }
        table
    })
}

/// As TOML editors take it. A value is a text, or what it looks like.
fn schema() -> Value {
    let property = |key: NodeKey| {
        let property = json!({
            "description": key.documentation,
            "default": key.default,
            "type": ["string", "integer", "boolean", "array"],
            "x-needs-restart": key.update_mode == UpdateMode::Restart,
        });
        (key.name.to_owned(), property)
    };
    let properties: serde_json::Map<String, Value> =
        NodeConfig::keys().into_iter().map(property).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A node of Troupe",
        "type": "object",
        "properties": properties,
    })
}

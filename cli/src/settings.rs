//! `troupe cluster config` and `troupe node config`: what is set while nodes run, for all of them or for one.
//!
//! Every change shows what became of it, and takes `--dry-run`.

use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, text};
use crate::streams::notice;
use clap::{Args, Subcommand};
use serde::Serialize;
use troupe_client::Client;
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::admin::v1::{
    AlterConfigOperation, AlterableConfig, ConfigEntrySource, ConfigSynonym, ConfigUpdateMode,
    DescribedConfig, DescribedConfigs,
};

#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// Show settings, each with where its value comes from and what would hold instead
    Get(Get),
    /// Change settings: all that are named, or none
    Set(Set),
    /// Have settings be again what holds without them
    Unset(Unset),
    /// List what is set
    List(List),
}

#[derive(Debug, Args)]
pub struct Get {
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Set {
    /// Settings and their new values
    #[arg(value_name = "KEY=VALUE", value_parser = parse_pair)]
    #[arg(required_unless_present_any = ["append", "subtract"])]
    set: Vec<(String, String)>,
    /// Of a setting that is a list: these items too; may be repeated
    #[arg(long, value_name = "KEY=ITEMS", value_parser = parse_pair)]
    append: Vec<(String, String)>,
    /// Of a setting that is a list: these items no more; may be repeated
    #[arg(long, value_name = "KEY=ITEMS", value_parser = parse_pair)]
    subtract: Vec<(String, String)>,
    /// Check everything, do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Unset {
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
    /// Check everything, do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct List {
    /// All that there are, with their defaults
    #[arg(long)]
    all: bool,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("it is not of the form key=value".to_owned()),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SettingView {
    name: String,
    /// None: only a node knows it that does not answer.
    value: Option<String>,
    /// `node` and `cluster` as set here, `started` as that node was started, `default`, `unknown`.
    source: &'static str,
    default_value: String,
    /// `restart`, `node` (or the cluster), `cluster`.
    update_mode: &'static str,
    synonyms: Vec<SynonymView>,
    documentation: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SynonymView {
    name: String,
    value: String,
    source: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeView {
    name: String,
    old_value: Option<String>,
    /// In force afterwards. None: it is not known; or nothing was done.
    new_value: Option<String>,
    dry_run: bool,
}

fn source(source: ConfigEntrySource) -> &'static str {
    match source {
        ConfigEntrySource::DynamicTopic => "topic",
        ConfigEntrySource::DynamicBroker => "node",
        ConfigEntrySource::DynamicDefaultBroker => "cluster",
        ConfigEntrySource::StaticBroker => "started",
        ConfigEntrySource::Default => "default",
        ConfigEntrySource::Unspecified => "unknown",
    }
}

impl From<DescribedConfig> for SettingView {
    fn from(config: DescribedConfig) -> Self {
        let synonym = |synonym: &ConfigSynonym| SynonymView {
            name: synonym.name.clone(),
            value: synonym.value.clone(),
            source: source(synonym.source()),
        };
        SettingView {
            source: source(config.source()),
            update_mode: match config.update_mode() {
                ConfigUpdateMode::PerBroker => "node",
                ConfigUpdateMode::ClusterWide => "cluster",
                ConfigUpdateMode::PerTopic => "topic",
                ConfigUpdateMode::ReadOnly | ConfigUpdateMode::Unspecified => "restart",
            },
            synonyms: config.synonyms.iter().map(synonym).collect(),
            name: config.name,
            value: config.value,
            default_value: config.default_value,
            documentation: config.documentation,
        }
    }
}

/// Whose settings, as people are told.
fn whose(resource: &Resource) -> String {
    match resource {
        Resource::Topic(name) => format!("topic {name}"),
        Resource::BrokerId(id) => format!("node {id}"),
        Resource::Cluster(_) => "the cluster".to_owned(),
    }
}

pub async fn run(
    global: &Global,
    resource: Resource,
    command: SettingsCommand,
) -> Result<(), Failure> {
    match command {
        SettingsCommand::Get(get) => show(global, resource, get.keys, true).await,
        SettingsCommand::List(list) => show(global, resource, Vec::new(), list.all).await,
        SettingsCommand::Set(set) => {
            let change = |operation: AlterConfigOperation| {
                move |(name, value): (String, String)| AlterableConfig {
                    name,
                    operation: operation.into(),
                    value,
                }
            };
            let changes = set.set.into_iter().map(change(AlterConfigOperation::Set));
            let changes =
                changes.chain(set.append.into_iter().map(change(AlterConfigOperation::Append)));
            let changes =
                changes.chain(set.subtract.into_iter().map(change(AlterConfigOperation::Subtract)));
            alter(global, resource, changes.collect(), set.dry_run).await
        }
        SettingsCommand::Unset(unset) => {
            let operation = AlterConfigOperation::Delete.into();
            let change = |name| AlterableConfig { name, operation, value: String::new() };
            let changes = unset.keys.into_iter().map(change).collect();
            alter(global, resource, changes, unset.dry_run).await
        }
    }
}

async fn described(
    client: &Client,
    resource: &Resource,
    keys: Vec<String>,
) -> Result<DescribedConfigs, Failure> {
    let described = client.admin().describe_configs(resource.clone(), keys).await;
    described.with_context(|| format!("cannot show settings of {}", whose(resource)))
}

/// `all`: those too that nobody has set.
async fn show(
    global: &Global,
    resource: Resource,
    keys: Vec<String>,
    all: bool,
) -> Result<(), Failure> {
    let client = global.connect().await?;
    let described = described(&client, &resource, keys).await?;
    let views = described.configs.into_iter().map(SettingView::from);
    let is_shown = |view: &SettingView| all || !matches!(view.source, "default" | "unknown");
    let views: Vec<_> = views.filter(is_shown).collect();
    global.output().many("configs", &views, || table(&views))?;
    if !described.notice.is_empty() {
        notice!("note: {}", described.notice);
    }
    Ok(())
}

fn table(views: &[SettingView]) -> Table {
    let mut table = Table::new(&[
        text("SETTING"),
        text("VALUE"),
        text("SET BY"),
        text("INSTEAD"),
        text("DEFAULT").wide(),
        text("CHANGED BY").wide(),
        text("MEANING").wide(),
    ]);
    for view in views {
        let instead = view.synonyms.iter().skip(1).map(|synonym| {
            let name = if synonym.name == view.name { "" } else { &synonym.name };
            let equals = if name.is_empty() { "" } else { "=" };
            format!("{}: {name}{equals}{}", synonym.source, synonym.value)
        });
        table.row(vec![
            view.name.clone(),
            view.value.clone().unwrap_or_else(|| "?".to_owned()),
            view.source.to_owned(),
            instead.collect::<Vec<_>>().join(", "),
            view.default_value.clone(),
            view.update_mode.to_owned(),
            view.documentation.clone(),
        ]);
    }
    table
}

async fn alter(
    global: &Global,
    resource: Resource,
    changes: Vec<AlterableConfig>,
    dry_run: bool,
) -> Result<(), Failure> {
    let client = global.connect().await?;
    let what = || format!("cannot change settings of {}", whose(&resource));
    let keys: Vec<String> = changes.iter().map(|change| change.name.clone()).collect();
    // What cannot be described is refused by the change itself, which says why.
    let admin = client.admin();
    let before = admin.describe_configs(resource.clone(), keys.clone()).await.ok();
    admin
        .incremental_alter_configs(resource.clone(), changes.clone(), dry_run)
        .await
        .with_context(what)?;
    let after = if dry_run { None } else { Some(described(&client, &resource, keys).await?) };
    let value = |described: &Option<DescribedConfigs>, key: &str| {
        let mut configs = described.iter().flat_map(|described| &described.configs);
        configs.find(|config| config.name == key).and_then(|config| config.value.clone())
    };
    let views: Vec<_> = changes
        .iter()
        .map(|change| ChangeView {
            name: change.name.clone(),
            old_value: value(&before, &change.name),
            new_value: value(&after, &change.name),
            dry_run,
        })
        .collect();
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
    let view = serde_json::json!({ "changes": views });
    global.output().one(&view, || {
        let lines = views.iter().zip(&changes).map(|(view, change)| {
            let (name, old) = (&view.name, shown(&view.old_value));
            match (dry_run, change.operation()) {
                (false, _) => format!("{name}: {old} -> {}\n", shown(&view.new_value)),
                (true, AlterConfigOperation::Delete) => {
                    format!("{name}: {old} -> what holds without it (dry run)\n")
                }
                (true, _) => format!("{name}: {old} -> {} (dry run)\n", change.value),
            }
        });
        lines.collect()
    })
}

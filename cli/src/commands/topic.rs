//! `troupe topic`: every change shows what became of it, and takes `--dry-run`.

mod cleaning;
mod copy;
mod describe;
mod offsets;
pub mod partition_pattern;
mod purge;
mod view;

use crate::as_of;
use crate::confirm::confirm;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::quantity::{Given, parse_given};
use clap::{Args, Subcommand};
use troupe_proto::admin::v1::{
    CreatePartitionsRequest, CreateTopicRequest, DeleteTopicRequest, ReplicaAssignment, Topic,
    UpdateTopicRequest,
};
use troupe_proto::error::ErrorCode;
use view::TopicView;

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    #[command(after_help = "Examples:\n  \
        troupe topic create orders -p 6\n  \
        troupe topic create orders -p 6 --config retention.ms=1d --config flush.policy=os\n  \
        troupe topic create orders --if-not-exists")]
    Create(Create),
    /// List the topics
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a topic's partitions, offsets and settings; of one that is compacted, how that stands
    #[command(after_help = "Examples:\n  \
        troupe topic describe orders\n  \
        troupe topic describe __consumer_offsets -o json | jq '.partitions[].cleaning[]?'\n  \
        troupe topic describe orders -o wide     # every setting and what it means\n  \
        troupe topic describe orders -o json | jq '.partitions[].highWatermark'")]
    Describe(Describe),
    /// Show offsets by position or by time, as kafka-get-offsets does: topic:partition:offset
    #[command(after_help = "Examples:\n  \
        troupe topic offsets orders                      # the ends of all partitions\n  \
        troupe topic offsets orders:0,payments:2-4 --at earliest\n  \
        troupe topic offsets 'orders.*' --at @2026-01-31 --exclude-internal\n  \
        troupe topic offsets orders --at max-timestamp -o json | jq '.offsets[].timestamp'\n\
        Partitions without such a record have no line. One whose leader does not answer is told on standard error, and\n\
        the exit code is 1.")]
    Offsets(offsets::Offsets),
    /// Copy a topic to another cluster or to another name, and go on where an earlier copy stopped
    #[command(after_help = "Examples:\n  \
        troupe topic copy orders --to-server standby:7070          # what there is now\n  \
        troupe topic copy orders orders-backup                     # in the same cluster\n  \
        troupe topic copy orders --to-server standby:7070 --follow # until it is stopped\n\
        Keys, values, headers, timestamps, tombstones, partitions and the order in each are kept; offsets are the target's\n\
        own, and the end of a copy prints how they relate. How far a copy is stands in the target cluster, as committed\n\
        offsets of a group, and is checked against the records themselves when it goes on: a copy that was stopped in\n\
        whatever way is continued by the same command, without loss, and without duplicates as long as nobody else\n\
        writes to the target.")]
    Copy(copy::Copy),
    /// Change settings, or have more partitions
    #[command(after_help = "Examples:\n  \
        troupe topic alter orders --set retention.ms=7d --unset segment.bytes\n  \
        troupe topic alter orders --partitions 6         # the same as add-partitions --to 6")]
    Alter(Alter),
    /// Add partitions; keys may go to other partitions afterwards
    AddPartitions(AddPartitions),
    /// Delete records from the front of partitions; what is behind them keeps its offsets
    #[command(after_help = "Examples:\n  \
        troupe topic purge orders --before @-7d        # what is older than a week\n  \
        troupe topic purge orders:0,2 --before 42      # of two partitions, the offsets below 42\n  \
        troupe topic purge orders --before end         # all that is there now\n  \
        troupe topic purge orders --before end --dry-run -o json\n\n\
        Nothing is deleted if it can't be of one of the partitions. What is deleted is gone for all readers, at once;\n\
        segments that hold nothing else give their space back, the one that is written to when it is full.")]
    Purge(purge::Purge),
    /// Delete a topic and all its records
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

#[derive(Debug, Args)]
pub struct Create {
    name: String,
    /// Number of partitions [default, as -1: the cluster's num.partitions]
    #[arg(short, long, value_name = "N", value_parser = parse_given::<i32>)]
    partitions: Option<Given<i32>>,
    /// Replicas of each partition [default, as -1: the cluster's default.replication.factor]
    #[arg(short, long = "replicas", visible_alias = "replication-factor", value_name = "N")]
    #[arg(value_parser = parse_given::<i32>)]
    replicas: Option<Given<i32>>,
    /// Which nodes hold which partition: `1:2,2:3` are two partitions with two replicas each
    #[arg(long, value_name = "NODES", value_delimiter = ',', value_parser = parse_assignment)]
    #[arg(conflicts_with_all = ["partitions", "replicas"])]
    replica_assignment: Vec<ReplicaAssignment>,
    /// A setting; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_pair)]
    configs: Vec<(String, String)>,
    /// Be content with a topic that is there already, whatever its settings
    #[arg(long)]
    if_not_exists: bool,
    /// Of the cluster's own, those whose names begin with `__`
    #[arg(long)]
    internal: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Check everything, do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct List {
    /// Also the topics that Troupe keeps for itself
    #[arg(long)]
    internal: bool,
}

#[derive(Debug, Args)]
pub struct Describe {
    name: String,
}

#[derive(Debug, Args)]
pub struct Alter {
    name: String,
    /// A setting and its new value; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    #[arg(required_unless_present_any = ["unset", "partitions"])]
    set: Vec<(String, String)>,
    /// A setting that shall have its default again; may be repeated
    #[arg(long = "unset", value_name = "KEY")]
    unset: Vec<String>,
    /// The new total of partitions; keys may go to other partitions afterwards
    #[arg(short, long, value_name = "N", conflicts_with_all = ["set", "unset"])]
    partitions: Option<i32>,
    /// Of the cluster's own, those whose names begin with `__`
    #[arg(long)]
    internal: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Check everything, do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct AddPartitions {
    name: String,
    /// The new total
    #[arg(long, value_name = "N")]
    to: i32,
    /// Also of a topic whose name begins with `__`
    #[arg(long)]
    internal: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Check everything, do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Delete {
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Be content if there is no such topic
    #[arg(long)]
    if_exists: bool,
    /// Also a topic whose name begins with `__`
    #[arg(long)]
    internal: bool,
    /// Check everything, do nothing
    #[arg(long)]
    dry_run: bool,
}

/// So many partitions are worth a question: they cost memory and files on every node for as long as they are.
const MANY_PARTITIONS: i32 = 5_000;

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("it is not of the form key=value".to_owned()),
    }
}

fn parse_assignment(text: &str) -> Result<ReplicaAssignment, String> {
    let replicas: Result<Vec<i32>, _> = text.split(':').map(str::parse).collect();
    match replicas {
        Ok(replicas) => Ok(ReplicaAssignment { replicas }),
        Err(_) => Err("it is not of the form NODE:NODE,NODE:NODE".to_owned()),
    }
}

pub async fn run(global: &Global, command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Create(create) => run_create(global, create).await,
        TopicCommand::List(list) => run_list(global, list).await,
        TopicCommand::Describe(describe) => describe::run(global, &describe.name).await,
        TopicCommand::Offsets(offsets) => offsets::run(global, offsets).await,
        TopicCommand::Copy(copy) => copy::run(global, copy).await,
        TopicCommand::Alter(alter) => run_alter(global, alter).await,
        TopicCommand::AddPartitions(add) => run_add_partitions(global, add).await,
        TopicCommand::Purge(purge) => purge::run(global, purge).await,
        TopicCommand::Delete(delete) => run_delete(global, delete).await,
    }
}

async fn run_create(global: &Global, create: Create) -> Result<(), Failure> {
    let client = global.connect().await?;
    let Create { name, dry_run, .. } = create;
    let what = || format!("cannot create topic {name}");
    let request = CreateTopicRequest {
        name: name.clone(),
        partitions: create.partitions.and_then(|given| given.0),
        replication_factor: create.replicas.and_then(|given| given.0),
        assignments: create.replica_assignment,
        configs: create.configs.into_iter().collect(),
        internal: create.internal,
        validate_only: dry_run,
    };
    let many = request.partitions.is_some_and(|asked| asked > MANY_PARTITIONS);
    if !create.yes && !dry_run && (create.internal || many) {
        // What is refused anyway need not be asked about.
        let checked = CreateTopicRequest { validate_only: true, ..request.clone() };
        if let Ok(topic) = client.admin().create_topic(checked).await {
            let question = format!("Create topic {name} with {}?", counts(&topic));
            confirm(&what(), &question, &format!("`troupe topic create {name} ... --yes`"))?;
        }
    }
    let (topic, verb) = match client.admin().create_topic(request).await {
        Err(error) if create.if_not_exists && error.reason() == ErrorCode::TopicExists => {
            let topic = client
                .admin()
                .get_topic(&name)
                .await
                .with_context(|| format!("cannot describe topic {name}"))?;
            (topic, "there is already")
        }
        answer => {
            let topic = answer.with_context(what)?;
            (topic, if dry_run { "would create" } else { "created" })
        }
    };
    let counts = counts(&topic);
    changed(global, &topic, dry_run, || format!("{verb} topic {name}: {counts}\n"))
}

async fn run_list(global: &Global, list: List) -> Result<(), Failure> {
    let client = global.connect().await?;
    let topics = client.admin().list_topics(list.internal).await;
    let topics = topics.with_context(|| "cannot list the topics".to_owned())?;
    let views: Vec<TopicView> = topics.iter().map(TopicView::new).collect();
    let as_of = as_of::ask(&client).await?;
    as_of::many(&global.output(), "topics", &views, as_of.as_ref(), || {
        let columns = [text("NAME"), number("PARTITIONS"), number("REPLICAS"), text("ID").wide()];
        let mut table = Table::new(&columns);
        for view in &views {
            table.row(vec![
                view.name.clone(),
                view.partitions.len().to_string(),
                view.replication_factor.to_string(),
                view.topic_id.clone(),
            ]);
        }
        table
    })
}

async fn run_alter(global: &Global, alter: Alter) -> Result<(), Failure> {
    let Alter { name, set, unset, partitions, internal, yes, dry_run } = alter;
    if let Some(to) = partitions {
        return run_add_partitions(global, AddPartitions { name, to, internal, yes, dry_run })
            .await;
    }
    let client = global.connect().await?;
    let what = || format!("cannot alter topic {name}");
    let before = client.admin().get_topic(&name).await.with_context(what)?;
    let keys: Vec<String> =
        set.iter().map(|(key, _)| key.clone()).chain(unset.iter().cloned()).collect();
    if internal && !yes && !dry_run {
        confirm(
            &what(),
            &format!("Change {} of {name}, which the cluster keeps for itself?", keys.join(", ")),
            &format!("`troupe topic alter {name} ... --internal --yes`"),
        )?;
    }
    let request = UpdateTopicRequest {
        name: name.clone(),
        set_configs: set.into_iter().collect(),
        unset_configs: unset,
        internal,
        validate_only: dry_run,
    };
    let after = client.admin().update_topic(request).await.with_context(what)?;
    let value = |topic: &Topic, key: &str| {
        let found = topic.configs.iter().find(|config| config.name == key);
        found.map_or_else(|| "?".to_owned(), |config| config.value.clone())
    };
    changed(global, &after, dry_run, || {
        let mut text = String::new();
        for key in &keys {
            let (old, new) = (value(&before, key), value(&after, key));
            text += &format!("{key}: {old} -> {new}{}\n", if dry_run { " (dry run)" } else { "" });
        }
        text
    })
}

async fn run_add_partitions(global: &Global, add: AddPartitions) -> Result<(), Failure> {
    let client = global.connect().await?;
    let AddPartitions { name, to, internal, yes, dry_run } = add;
    let what = || format!("cannot add partitions to topic {name}");
    let request = CreatePartitionsRequest {
        name: name.clone(),
        total: to,
        assignments: Vec::new(),
        internal,
        validate_only: dry_run,
    };
    if !yes && !dry_run && (internal || to > MANY_PARTITIONS) {
        // What is refused anyway need not be asked about.
        let checked = CreatePartitionsRequest { validate_only: true, ..request.clone() };
        if let Ok(topic) = client.admin().create_partitions(checked).await {
            let question = format!("Let topic {name} have {}?", counts(&topic));
            let instead = format!("`troupe topic add-partitions {name} --to {to} ... --yes`");
            confirm(&what(), &question, &instead)?;
        }
    }
    let topic = client.admin().create_partitions(request).await.with_context(what)?;
    let verb = if dry_run { "would have" } else { "has now" };
    changed(global, &topic, dry_run, || format!("topic {name} {verb} {}\n", counts(&topic)))
}

async fn run_delete(global: &Global, delete: Delete) -> Result<(), Failure> {
    let client = global.connect().await?;
    let Delete { name, yes, if_exists, internal, dry_run } = delete;
    let what = || format!("cannot delete topic {name}");
    let topic = match client.admin().get_topic(&name).await {
        Err(error) if if_exists && error.reason() == ErrorCode::UnknownTopic => {
            let view = serde_json::json!({ "name": name, "deleted": false });
            return global.output().one(&view, || format!("there is no topic {name}\n"));
        }
        answer => answer.with_context(what)?,
    };
    if !yes && !dry_run {
        confirm(
            &what(),
            &format!("Delete topic {name} ({}) and all its records?", counts(&topic)),
            &format!("`troupe topic delete {name} --yes`"),
        )?;
    }
    let request = DeleteTopicRequest { name: name.clone(), internal, validate_only: dry_run };
    let topic_id = client.admin().delete_topic(request).await.with_context(what)?;
    let view = serde_json::json!({
        "name": name, "topicId": topic_id.to_string(), "deleted": !dry_run, "dryRun": dry_run,
    });
    let verb = if dry_run { "would delete" } else { "deleted" };
    global.output().one(&view, || format!("{verb} topic {name}: {}\n", counts(&topic)))
}

fn counts(topic: &Topic) -> String {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    let replicas = usize::try_from(topic.replication_factor).unwrap_or(0);
    format!("{}, {}", count(topic.partitions.len(), "partition"), count(replicas, "replica"))
}

/// Prints the topic as it is after a change.
fn changed(
    global: &Global,
    topic: &Topic,
    dry_run: bool,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let mut view = TopicView::new(topic);
    view.configs = Some(view::configs(topic));
    view.dry_run = dry_run;
    global.output().one(&view, text)
}

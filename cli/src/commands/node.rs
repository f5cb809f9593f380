//! `troupe node`: the nodes of the cluster, and taking one out of service and back.

mod add;
mod describe;
mod drain;
mod logdirs;
mod lookup;
mod retire;

use crate::as_of::{self, AsOf};
use crate::confirm::confirm;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_view::table;
use crate::quantity::plural;
use crate::settings::{self, SettingsCommand};
use clap::{Args, Subcommand};
use lookup::{find, views};
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::ids::NodeId;

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes: who is alive, who leads what
    #[command(visible_alias = "ls")]
    List,
    /// Show a node and its replicas, as it tells itself
    #[command(after_help = "Examples:\n  \
        troupe node describe 2\n  \
        troupe node describe 2 -o json | jq '.replicas[] | select(.inSync | not)'")]
    Describe(One),
    /// Show and change what is set for one node, while it runs
    #[command(after_help = "Examples:\n  \
        troupe node config 2 list                  # what is set, and what it was started with; --all: and the rest\n  \
        troupe node config 2 set log.cleaner.threads=4\n  \
        troupe node config 2 get log.retention.ms\n  \
        troupe node config 2 unset log.cleaner.threads\n\
        Without a setting of its own a node has the cluster's (`troupe cluster config`), else what it was started with.")]
    Config(Config),
    /// Move a node's leaderships away, and wait until it leads nothing, so that it can be stopped
    #[command(after_help = "Example:\n  \
        troupe node drain 2 && systemctl restart troupe && troupe node list\n\
        A node that was started anew takes part again; one that was not, after `troupe node resume`.")]
    Drain(drain::Drain),
    /// Show the log directories of the nodes: how each is, how full, and what of each partition is in it
    #[command(after_help = "Examples:\n  \
        troupe node logdirs\n  \
        troupe node logdirs --node 2 orders payments:0,3\n  \
        troupe node logdirs -o json | jq '.logDirs[] | select(.offline)'\n\
        Replicas go from one to another by `troupe partition move-dir`.")]
    Logdirs(logdirs::Logdirs),
    /// Give a node that has come its share of replicas and leaderships, from those that have more
    #[command(after_help = "Examples:\n  \
        troupe node add 4 --dry-run      # what would move\n  \
        troupe node add 4 --wait\n\
        The node has to run. What a new node holds is nothing; new topics are placed on it by themselves. Step by step:\n  \
        troupe reassign plan --all-topics --to-nodes 1,2,3,4 -o json > plan.json\n  \
        troupe reassign execute plan.json --wait && troupe reassign verify plan.json")]
    Add(add::Add),
    /// Move everything off a node, and forget it once it has stopped
    #[command(after_help = "Examples:\n  \
        troupe node retire 4 --dry-run   # what would move\n  \
        troupe node retire 4 --wait      # until it is empty, then until it has stopped; then it is removed\n  \
        troupe node retire 4 --cancel    # it stays\n\
        Others lead at once, and nothing new is placed on it, also if it is started anew. The same command again goes\n\
        on where it is. Step by step:\n  \
        troupe reassign plan --all-topics --exclude-node 4 -o json > plan.json\n  \
        troupe reassign execute plan.json --wait && troupe reassign verify plan.json\n  \
        troupe node describe 4           # it holds nothing: stop it\n  \
        troupe node remove 4")]
    Retire(retire::Retire),
    /// End a drain: the node may lead and follow again
    #[command(after_help = "Its leaderships come back with the next rebalance, or at once:\n  \
        troupe node resume 2 && troupe partition elect --preferred")]
    Resume(One),
    /// Forget a node that has stopped for good and holds no replicas
    #[command(
        after_help = "Refused while replicas are assigned to it: they would be missing for ever.\n  \
        troupe node describe 3        # what it holds"
    )]
    #[command(visible_alias = "rm")]
    Remove(Remove),
}

#[derive(Debug, Args)]
pub struct One {
    /// Number of the node
    #[arg(value_name = "ID")]
    node: i32,
}

#[derive(Debug, Args)]
pub struct Config {
    /// Number of the node
    #[arg(value_name = "ID")]
    node: i32,
    #[command(subcommand)]
    command: SettingsCommand,
}

#[derive(Debug, Args)]
pub struct Remove {
    /// Number of the node
    #[arg(value_name = "ID")]
    node: i32,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(global: &Global, command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::List => run_list(global).await,
        NodeCommand::Describe(one) => describe::run(global, one.node).await,
        NodeCommand::Config(config) => {
            settings::run(global, Resource::BrokerId(config.node), config.command).await
        }
        NodeCommand::Drain(drain) => drain::run(global, drain).await,
        NodeCommand::Logdirs(logdirs) => logdirs::run(global, logdirs).await,
        NodeCommand::Add(add) => add::run(global, add).await,
        NodeCommand::Retire(retire) => retire::run(global, retire).await,
        NodeCommand::Resume(one) => run_resume(global, one.node).await,
        NodeCommand::Remove(remove) => run_remove(global, remove).await,
    }
}

async fn run_list(global: &Global) -> Result<(), Failure> {
    let client = global.connect().await?;
    let cluster = client.admin().get_cluster().await;
    let cluster = cluster.with_context(|| "cannot list the nodes".to_owned())?;
    let nodes = views(&cluster);
    let as_of = cluster.as_of.map(AsOf::from);
    as_of::many(&global.output(), "nodes", &nodes, as_of.as_ref(), || table(&nodes))
}

async fn run_resume(global: &Global, node: i32) -> Result<(), Failure> {
    let client = global.connect().await?;
    let resumed = client.admin().resume_node(NodeId(node)).await;
    resumed.with_context(|| format!("cannot resume node {node}"))?;
    let view = find(&client, node).await?;
    global.output().one(&view, || format!("node {node} is {}\n", view.state()))
}

async fn run_remove(global: &Global, remove: Remove) -> Result<(), Failure> {
    let client = global.connect().await?;
    let node = remove.node;
    let what = format!("cannot remove node {node}");
    if !remove.yes {
        let view = find(&client, node).await?;
        let replicas = view.replica_count;
        confirm(
            &what,
            &format!("Forget node {node} ({}, {})?", view.state(), plural(replicas, "replica")),
            &format!("`troupe node remove {node} --yes`"),
        )?;
    }
    client.admin().remove_node(NodeId(node)).await.with_context(|| what)?;
    let view = serde_json::json!({ "nodeId": node, "removed": true });
    global.output().one(&view, || format!("removed node {node}\n"))
}

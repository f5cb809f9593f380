//! `troupe cluster`.

mod health;
mod rebalance;

use crate::as_of::AsOf;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_view::{NodeView, table};
use crate::output::Output;
use crate::quantity::plural;
use crate::settings::{self, SettingsCommand};
use clap::Subcommand;
use serde::Serialize;
use troupe_proto::admin::v1::GetClusterResponse;
use troupe_proto::admin::v1::config_resource::Resource;

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Nodes, controller and how many partitions are well, and as of when that is true
    #[command(visible_alias = "describe")]
    Info,
    /// Show and change what is set for all nodes, while they run
    #[command(after_help = "Examples:\n  \
        troupe cluster config list                 # what is set; --all: with all that could be\n  \
        troupe cluster config set log.retention.ms=7d num.partitions=3\n  \
        troupe cluster config get log.retention.ms\n  \
        troupe cluster config unset num.partitions\n\
        A node that has a setting of its own keeps it (`troupe node config`); what it was started with counts after both.")]
    Config {
        #[command(subcommand)]
        command: SettingsCommand,
    },
    /// A verdict, what is wrong, and an exit code for scripts
    #[command(after_help = "Exit codes:\n  \
        0  healthy\n  \
        5  degraded: all is served, with less in reserve than there should be (a replica out of sync, a node fenced)\n  \
        6  unhealthy: something is refused or waits (no active controller, a partition without leader or with too\n     \
           few in-sync replicas, a full disk)\n  \
        1  nobody could be asked\n\
        Every node is asked, and has two seconds. Examples:\n  \
        troupe cluster health || page-somebody\n  \
        troupe cluster health -o json | jq -r '.reasons[].message'")]
    Health,
    /// Make replicas, leaderships and bytes even over the nodes, by the fewest moves
    #[command(after_help = "Examples:\n  \
        troupe cluster rebalance                    # what would move, and each node before and after\n  \
        troupe cluster rebalance --execute --wait\n\
        Racks come first: a partition's replicas go to as many as there are. Leaderships are evened by the order of\n\
        replicas, which copies nothing, before data moves; bytes by exchanging replicas, beyond a tenth of a node's share.")]
    Rebalance(rebalance::Rebalance),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterView {
    cluster_id: String,
    version: String,
    controller_id: Option<i32>,
    metadata_offset: i64,
    topic_count: i32,
    partition_count: i32,
    offline_partition_count: i32,
    under_replicated_partition_count: i32,
    nodes: Vec<NodeView>,
    /// None: the node is of a version that does not say.
    as_of: Option<AsOf>,
}

impl From<GetClusterResponse> for ClusterView {
    fn from(cluster: GetClusterResponse) -> Self {
        let controller = cluster.controller_id;
        let mut nodes: Vec<NodeView> =
            cluster.nodes.iter().map(|node| NodeView::new(node, controller)).collect();
        nodes.sort_by_key(|node| node.node_id);
        ClusterView {
            cluster_id: cluster.cluster_id,
            version: cluster.version,
            controller_id: (cluster.controller_id >= 0).then_some(cluster.controller_id),
            metadata_offset: cluster.metadata_offset,
            topic_count: cluster.topic_count,
            partition_count: cluster.partition_count,
            offline_partition_count: cluster.offline_partition_count,
            under_replicated_partition_count: cluster.under_replicated_partition_count,
            nodes,
            as_of: cluster.as_of.map(AsOf::from),
        }
    }
}

pub async fn run(global: &Global, command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Info => info(global).await,
        ClusterCommand::Config { command } => {
            settings::run(global, Resource::Cluster(true), command).await
        }
        ClusterCommand::Health => health::run(global).await,
        ClusterCommand::Rebalance(rebalance) => rebalance::run(global, rebalance).await,
    }
}

async fn info(global: &Global) -> Result<(), Failure> {
    let client = global.connect().await?;
    let cluster = client.admin().get_cluster().await;
    let view =
        ClusterView::from(cluster.with_context(|| "cannot describe the cluster".to_owned())?);
    let output = global.output();
    output.one(&view, || render(&output, &view))?;
    view.as_of.iter().for_each(AsOf::warn);
    Ok(())
}

fn render(output: &Output, view: &ClusterView) -> String {
    let mut out = String::new();
    if output.terminal {
        out += &format!(
            "cluster {}, version {}\n{}controller: {}\n{}, {}: {} offline, {} under-replicated\n\n",
            view.cluster_id,
            view.version,
            view.as_of.as_ref().map_or_else(String::new, AsOf::line),
            view.controller_id
                .map_or_else(|| "none is active".to_owned(), |id| format!("node {id}")),
            plural(view.topic_count, "topic"),
            plural(view.partition_count, "partition"),
            view.offline_partition_count,
            view.under_replicated_partition_count,
        );
    }
    out + &output.table(&table(&view.nodes))
}

//! kafka-cluster (A21): the cluster's id, its nodes, and forgetting one.

use super::arguments::{Command, Program, required, switch};
use super::columns::{row, width};
use super::ended::Ended;
use super::errors::named_client;
use super::link::{self, connect_to, print};

const SERVER: super::arguments::Arg = required(&["--bootstrap-server", "-b"], "Nodes to ask.");
const CONFIG: super::arguments::Arg =
    super::arguments::optional(&["--config", "-c", "--command-config"], "Settings of the client.");

static PROGRAM: Program = Program {
    name: "kafka-cluster",
    about: "The cluster's id and its nodes.",
    args: &[],
    one_of: &[],
    commands: &[
        Command { name: "cluster-id", help: "The cluster's id.", args: &[SERVER, CONFIG] },
        Command {
            name: "unregister",
            help: "Forget a node that has stopped for good.",
            args: &[SERVER, CONFIG, required(&["--id", "-i"], "The node.")],
        },
        Command {
            name: "list-endpoints",
            help: "The nodes, and where they listen.",
            args: &[
                SERVER,
                CONFIG,
                switch(&["--include-fenced-brokers"], "Also those that are away."),
            ],
        },
    ],
};

pub fn run(words: &[String]) -> Result<(), Ended> {
    let words = PROGRAM.read(words)?;
    let server = words.value("--bootstrap-server").unwrap_or_default().to_owned();
    link::run(async {
        let client = connect_to(&server).await?;
        match words.command {
            "cluster-id" => {
                let cluster = client.admin().get_cluster().await?;
                print(&format!("Cluster ID: {}\n", cluster.cluster_id))
            }
            "unregister" => {
                let id: i32 = words.number("--id", "Integer")?;
                let removed = client.admin().remove_node(troupe_proto::ids::NodeId(id)).await;
                removed.map_err(|error| {
                    Ended::err(named_client(&error)).and_err(
                        "the node has to be stopped, and hold nothing: `troupe node retire ID` moves what it has",
                    )
                })?;
                print(&format!("Broker {id} is no longer registered.\n"))
            }
            _ => list(&client, words.has("--include-fenced-brokers")).await,
        }
    })
}

async fn list(client: &troupe_client::Client, fenced_too: bool) -> Result<(), Ended> {
    let mut nodes = client.admin().get_cluster().await?.nodes;
    nodes.retain(|node| fenced_too || !node.fenced);
    nodes.sort_by_key(|node| node.node_id);
    let parts = |endpoint: &str| match endpoint.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.to_owned()),
        None => (endpoint.to_owned(), String::new()),
    };
    let rows: Vec<[String; 6]> = nodes
        .iter()
        .map(|node| {
            let (host, port) = parts(&node.endpoint);
            let rack = if node.rack.is_empty() { "null".to_owned() } else { node.rack.clone() };
            let state = if node.fenced { "fenced" } else { "unfenced" };
            [node.node_id.to_string(), host, port, rack, state.to_owned(), "broker".to_owned()]
        })
        .collect();
    let hosts = width(4, rows.iter().map(|row| row[1].as_str()));
    let racks = width(10, rows.iter().map(|row| row[3].as_str()));
    let widths = [10, hosts, 10, racks, 10, 15];
    let mut text = row(&widths, &["ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE"]);
    for cells in &rows {
        text += &row(&widths, &cells.each_ref().map(String::as_str));
    }
    print(&text)
}

//! kafka-broker-api-versions: a node speaks gRPC, whose packages have versions; which it serves it is asked.

use super::ended::Ended;
use super::link::{self, connect, print};
use super::options::{Given, Options, value};
use crate::fan_out::fan_out;

static OPTIONS: Options = Options {
    about: "This tool helps to retrieve broker version information.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to ask."),
        value("bootstrap-controller", "host:port", "Controllers have no door for clients."),
        value("command-config", "file", "Settings of the client."),
    ],
    lead: "",
};

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    super::link::check_controller(&given)?;
    given.require(&["bootstrap-server"])?;
    link::run(list(&given))
}

async fn list(given: &Given) -> Result<(), Ended> {
    let client = connect(given).await?;
    let nodes = client.admin().get_cluster().await?.nodes;
    let alive = nodes.iter().filter(|node| !node.fenced).map(|node| node.node_id).collect();
    let answers =
        fan_out(alive, async |node| client.admin_of(node).await?.get_cluster().await).await;
    let mut text = String::new();
    for (id, answer) in answers {
        let Some(node) = nodes.iter().find(|node| node.node_id == id) else { continue };
        let rack = if node.rack.is_empty() { "null" } else { &node.rack };
        let version = match answer {
            Ok(cluster) => cluster.version,
            Err(why) => {
                text += &format!("{} (id: {id} rack: {rack}) -> ERROR: {why}\n", node.endpoint);
                continue;
            }
        };
        text +=
            &format!("{} (id: {id} rack: {rack}) -> (\n\ttroupe: {version}\n)\n", node.endpoint);
    }
    print(&text)
}

//! kafka-features: nodes of one release have the same features, and none is chosen. What can be told is the nodes' versions.

use super::arguments::{Command, Program, optional, several};
use super::ended::Ended;
use super::link::{self, connect_to, print};
use crate::fan_out::fan_out;

const FEATURE: super::arguments::Arg = several(&["--feature"], "The feature and its version.");

static PROGRAM: Program = Program {
    name: "kafka-features",
    about: "Versions of the nodes.",
    args: &[
        optional(&["--bootstrap-server"], "Nodes to ask."),
        optional(&["--bootstrap-controller"], "Controllers have no door for clients."),
        optional(&["--command-config"], "Settings of the client."),
    ],
    one_of: &["--bootstrap-server", "--bootstrap-controller"],
    commands: &[
        Command { name: "describe", help: "The nodes' versions.", args: &[] },
        Command {
            name: "upgrade",
            help: "Not to be had.",
            args: &[FEATURE, optional(&["--metadata"], ""), optional(&["--release-version"], "")],
        },
        Command {
            name: "downgrade",
            help: "Not to be had.",
            args: &[FEATURE, optional(&["--metadata"], "")],
        },
        Command { name: "disable", help: "Not to be had.", args: &[FEATURE] },
        Command {
            name: "version-mapping",
            help: "Not to be had.",
            args: &[optional(&["--release-version"], "")],
        },
        Command { name: "feature-dependencies", help: "Not to be had.", args: &[FEATURE] },
    ],
};

pub fn run(words: &[String]) -> Result<(), Ended> {
    let words = PROGRAM.read(words)?;
    let Some(server) = words.value("--bootstrap-server") else {
        return Err(Ended::cannot(
            "--bootstrap-controller",
            "controllers have no door for clients; use --bootstrap-server",
        ));
    };
    if words.command != "describe" {
        return Err(Ended::cannot(
            "A version of a feature",
            "nodes use what all of them have; install the same release on all, one after the other",
        ));
    }
    link::run(describe(server))
}

/// One feature, of which each node tells its version.
async fn describe(server: &str) -> Result<(), Ended> {
    let client = connect_to(server).await?;
    let cluster = client.admin().get_cluster().await?;
    let nodes = cluster.nodes.iter().filter(|node| !node.fenced).map(|node| node.node_id);
    let answers =
        fan_out(nodes.collect(), async |node| client.admin_of(node).await?.get_cluster().await)
            .await;
    let mut versions = Vec::new();
    for (node, answer) in answers {
        let answer = answer.map_err(|why| Ended::err(format_args!("broker {node}: {why}")))?;
        versions.push(answer.version);
    }
    let key = |version: &String| -> Vec<u64> {
        version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0)).collect()
    };
    versions.sort_by_key(key);
    let (Some(lowest), Some(highest)) = (versions.first(), versions.last()) else {
        return Err(Ended::err("no broker is alive"));
    };
    print(&format!(
        "Feature: troupe.version\tSupportedMinVersion: {lowest}\tSupportedMaxVersion: {highest}\t\
         FinalizedVersionLevel: {lowest}\tEpoch: {}\n",
        cluster.metadata_offset
    ))
}

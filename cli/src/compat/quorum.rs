//! kafka-metadata-quorum (A21): who leads the controllers, and how much of the metadata log each node has. What nodes do
//! not tell is `-`, and is named on standard error.

use super::arguments::{Command, Program, optional, switch};
use super::columns::tabbed;
use super::ended::Ended;
use super::link::{self, connect_to, print};
use crate::fan_out::fan_out;
use crate::streams::notice;
use crate::timestamp;
use std::collections::BTreeSet;
use troupe_client::Client;
use troupe_proto::admin::v1::GetClusterResponse;

static PROGRAM: Program = Program {
    name: "kafka-metadata-quorum",
    about: "How the controllers stand.",
    args: &[
        optional(&["--bootstrap-server"], "Nodes to ask."),
        optional(&["--bootstrap-controller"], "Controllers have no door for clients."),
        optional(&["--command-config"], "Settings of the client."),
    ],
    one_of: &["--bootstrap-server", "--bootstrap-controller"],
    commands: &[
        Command {
            name: "describe",
            help: "Who leads, and who has how much.",
            args: &[
                switch(&["--status"], "A summary."),
                switch(&["--replication"], "A row for each node."),
                switch(&["--human-readable", "-hr"], "Times as times ago."),
            ],
        },
        Command { name: "add-controller", help: "Not to be had.", args: &[] },
        Command {
            name: "remove-controller",
            help: "Not to be had.",
            args: &[
                optional(&["--controller-id", "-i"], ""),
                optional(&["--controller-directory-id", "-d"], ""),
                switch(&["--dry-run"], ""),
            ],
        },
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
            &format!("`{}`", words.command),
            "who votes stands in every node's configuration, as controller.quorum.voters, and is changed there",
        ));
    }
    let (status, replication) = (words.has("--status"), words.has("--replication"));
    if status == replication {
        let told = match status {
            true => {
                "Only one of --status or --replication should be specified with describe sub-command"
            }
            false => "One of --status or --replication must be specified with describe sub-command",
        };
        return Err(Ended::err(told));
    }
    link::run(async {
        let quorum = Quorum::ask(&connect_to(server).await?).await?;
        match status {
            true => quorum.status(),
            false => quorum.replication(words.has("--human-readable")),
        }
    })
}

/// What can be known of it by asking the nodes.
struct Quorum {
    cluster: GetClusterResponse,
    /// Each with what it has of the metadata log, and when that was the newest.
    nodes: Vec<(i32, Option<(i64, i64)>)>,
}

impl Quorum {
    async fn ask(client: &Client) -> Result<Quorum, Ended> {
        let cluster = client.admin().get_cluster().await?;
        let all: BTreeSet<i32> = cluster.nodes.iter().map(|node| node.node_id).collect();
        let answers =
            fan_out(all, async |node| client.admin_of(node).await?.get_cluster().await).await;
        let nodes = answers.into_iter().map(|(node, answer)| {
            let has = answer.ok().and_then(|cluster| cluster.as_of);
            (node, has.map(|as_of| (as_of.metadata_offset, as_of.time_ms)))
        });
        Ok(Quorum { nodes: nodes.collect(), cluster })
    }

    fn end(&self) -> i64 {
        let told = self.nodes.iter().filter_map(|(_, has)| has.map(|(end, _)| end));
        told.max().unwrap_or(self.cluster.metadata_offset)
    }

    fn status(&self) -> Result<(), Ended> {
        let end = self.end();
        let lag = self.nodes.iter().filter_map(|(_, has)| has.map(|(own, _)| end - own)).max();
        let time = self.nodes.iter().filter_map(|(_, has)| has.map(|(_, time)| time)).min();
        let late = time.map(|time| (timestamp::now_ms() - time).max(0));
        let shown =
            |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
        let mut text = String::new();
        for (name, value) in [
            ("ClusterId:", self.cluster.cluster_id.clone()),
            ("LeaderId:", self.cluster.controller_id.to_string()),
            ("LeaderEpoch:", "-".to_owned()),
            ("HighWatermark:", end.to_string()),
            ("MaxFollowerLag:", shown(lag)),
            ("MaxFollowerLagTimeMs:", shown(late)),
            ("CurrentVoters:", "-".to_owned()),
            ("CurrentObservers:", "-".to_owned()),
        ] {
            text += &format!("{name:23} {value}\n");
        }
        notice!(
            "note: nodes tell neither the term in which the controllers' leader leads (LeaderEpoch) nor who votes: that \
             stands in their configuration, as controller.quorum.voters"
        );
        print(&text)
    }

    fn replication(&self, human: bool) -> Result<(), Ended> {
        let end = self.end();
        let mut rows = Vec::new();
        for (node, has) in &self.nodes {
            let dash = || "-".to_owned();
            let leads = *node == self.cluster.controller_id;
            let status = if leads { "Leader".to_owned() } else { dash() };
            let time = has.map_or_else(dash, |(_, time)| match human {
                true => format!("{} ms ago", (timestamp::now_ms() - time).max(0)),
                false => time.to_string(),
            });
            rows.push(vec![
                node.to_string(),
                dash(),
                has.map_or_else(dash, |(own, _)| own.to_string()),
                has.map_or_else(dash, |(own, _)| (end - own).to_string()),
                time.clone(),
                time,
                status,
            ]);
        }
        rows.sort_by_key(|row| row[6] != "Leader");
        notice!(
            "note: nodes tell neither who votes (Status) nor their directories' ids (DirectoryId)"
        );
        print(&tabbed(
            &[
                "NodeId",
                "DirectoryId",
                "LogEndOffset",
                "Lag",
                "LastFetchTimestamp",
                "LastCaughtUpTimestamp",
                "Status",
            ],
            &rows,
        ))
    }
}

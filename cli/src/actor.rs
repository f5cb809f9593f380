//! `troupe actor`: the supervision tree of every node, and killing one of its actors on purpose.

use crate::failure::{During, Failure};
use crate::global::Global;
use crate::output::{Output, Table, number, text};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use troupe_proto::chaos::v1alpha1::{Actor, ActorState, KillMode};
use troupe_proto::ids::NodeId;

#[derive(Debug, Subcommand)]
pub enum ActorCommand {
    /// The actors as a tree, with waiting messages and restarts
    Tree(Tree),
    /// Drop all that an actor holds in memory; its supervisor builds a new one from disk
    #[command(after_help = "Example:\n  \
        troupe actor kill node/1/shard/0/partition/orders/3 --mode panic\n\
        The node must have been started with chaos.enable=true, as `troupe dev` does.")]
    Kill(Kill),
}

#[derive(Debug, Args)]
pub struct Tree {
    /// Only addresses that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
}

#[derive(Debug, Args)]
pub struct Kill {
    /// As `troupe actor tree` shows it
    address: String,
    /// How it dies
    #[arg(long, value_enum, default_value_t = Mode::Stop)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// It stops at its next message
    Stop,
    /// It panics in its next message
    Panic,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorView {
    address: String,
    kind: String,
    state: &'static str,
    mailbox_depth: i64,
    restarts: i32,
    detail: String,
}

impl From<Actor> for ActorView {
    fn from(actor: Actor) -> Self {
        ActorView {
            state: match actor.state() {
                ActorState::Running => "running",
                ActorState::Restarting => "restarting",
                ActorState::Offline => "offline",
                ActorState::Unspecified => "unknown",
            },
            address: actor.address,
            kind: actor.kind,
            mailbox_depth: actor.mailbox_depth,
            restarts: actor.restarts,
            detail: actor.detail,
        }
    }
}

pub async fn run(global: &Global, command: ActorCommand) -> Result<(), Failure> {
    match command {
        ActorCommand::Tree(tree) => run_tree(global, tree).await,
        ActorCommand::Kill(kill) => run_kill(global, kill).await,
    }
}

async fn run_tree(global: &Global, tree: Tree) -> Result<(), Failure> {
    let client = global.connect().await?;
    let what = || "cannot list the actors".to_owned();
    let cluster = client.describe_cluster().await.during(what)?;
    let mut actors = Vec::new();
    for node in cluster.nodes.iter().filter(|node| !node.fenced) {
        let admin = client.admin_of(NodeId(node.node_id)).await.during(what)?;
        let listed = admin.list_actors(&tree.prefix).await.during(what)?;
        actors.extend(listed.into_iter().map(ActorView::from));
    }
    let natural = |actor: &ActorView| {
        let parts = actor.address.split('/');
        parts.map(|part| (part.parse::<u64>().ok(), part.to_owned())).collect::<Vec<_>>()
    };
    actors.sort_by_cached_key(natural);
    let output = global.output();
    output.many("actors", &actors, || table(&output, &actors))
}

/// On a terminal the addresses become a tree; in a pipe they stay whole, to be cut out and killed.
fn table(output: &Output, actors: &[ActorView]) -> Table {
    let mut table = Table::new(&[
        text("ACTOR"),
        text("KIND"),
        text("STATE"),
        number("MAILBOX"),
        number("RESTARTS"),
        text("DETAIL"),
    ]);
    let names: Vec<String> = if output.terminal {
        tree_names(&actors.iter().map(|actor| actor.address.as_str()).collect::<Vec<_>>())
    } else {
        actors.iter().map(|actor| actor.address.clone()).collect()
    };
    for (actor, name) in actors.iter().zip(names) {
        table.row(vec![
            name,
            actor.kind.clone(),
            actor.state.to_owned(),
            actor.mailbox_depth.to_string(),
            actor.restarts.to_string(),
            actor.detail.clone(),
        ]);
    }
    table
}

/// Indents each address under the nearest address before it that is a prefix of it.
fn tree_names(addresses: &[&str]) -> Vec<String> {
    let mut ancestors: Vec<&str> = Vec::new();
    let mut names = Vec::new();
    for address in addresses {
        let is_below =
            |parent: &&str| address.strip_prefix(*parent).is_some_and(|rest| rest.starts_with('/'));
        while ancestors.last().is_some_and(|last| !is_below(last)) {
            ancestors.pop();
        }
        let own = ancestors.last().map_or(*address, |parent| &address[parent.len() + 1..]);
        let lead = if ancestors.is_empty() { "" } else { "└ " };
        names.push(format!("{}{lead}{own}", "  ".repeat(ancestors.len().saturating_sub(1))));
        ancestors.push(address);
    }
    names
}

async fn run_kill(global: &Global, kill: Kill) -> Result<(), Failure> {
    let client = global.connect().await?;
    let Kill { address, mode } = kill;
    let what = || format!("cannot kill {address}");
    let mode = match mode {
        Mode::Stop => KillMode::Stop,
        Mode::Panic => KillMode::Panic,
    };
    let admin = match node_of(&address) {
        Some(node) => client.admin_of(node).await.during(what)?,
        None => client.admin(),
    };
    let answer = admin.kill_actor(&address, mode).await.during(what)?;
    let view = serde_json::json!({
        "address": address, "recoveryMicros": answer.recovery_micros, "restarts": answer.restarts,
    });
    global.output().one(&view, || {
        let ms = answer.recovery_micros as f64 / 1e3;
        format!(
            "killed {address}; a new one serves after {ms:.1} ms (restart {})\n",
            answer.restarts
        )
    })
}

/// An address begins with its node: `node/1/…`.
fn node_of(address: &str) -> Option<NodeId> {
    let mut parts = address.split('/');
    (parts.next() == Some("node")).then(|| parts.next()?.parse().ok().map(NodeId))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_a_tree_by_their_prefixes() {
        let names = tree_names(&[
            "node/1",
            "node/1/controller",
            "node/1/shard/0",
            "node/1/shard/0/partition/orders/3",
            "node/10",
        ]);
        assert_eq!(
            names,
            ["node/1", "└ controller", "└ shard/0", "  └ partition/orders/3", "node/10"]
        );
    }

    #[test]
    fn an_address_names_its_node() {
        assert_eq!(node_of("node/12/shard/0"), Some(NodeId(12)));
        assert_eq!(node_of("shard/0"), None);
        assert_eq!(node_of("node/x"), None);
    }
}

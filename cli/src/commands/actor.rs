//! `troupe actor`: the supervision tree of every node, and killing one of its actors on purpose.

mod kill;

use crate::actors::of_all_nodes;
use crate::address_pattern::AddressPattern;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::nearest::nearest;
use crate::output::{Output, Table, Tone, number, text};
use crate::quantity::{plural, show_duration};
use crate::replica_condition;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::time::Duration;
use troupe_proto::chaos::v1alpha1::{Actor, ActorState, Fault};

#[derive(Debug, Subcommand)]
pub enum ActorCommand {
    /// The actors as a tree, with waiting messages and restarts
    #[command(after_help = "Examples:\n  \
        troupe actor tree\n  \
        troupe actor tree --busy                           # who has something to do, or is not well\n  \
        troupe actor tree '*/partition/orders/*'\n  \
        troupe actor tree node/2 --kind controller,partition")]
    #[command(visible_aliases = ["ls", "list"])]
    Tree(Tree),
    /// Drop all that an actor holds in memory; its supervisor builds a new one from disk
    #[command(after_help = "Examples:\n  \
        troupe actor kill --leader orders:3                # whoever leads it now\n  \
        troupe actor kill --coordinator billing            # whoever coordinates the group\n  \
        troupe actor kill node/1/shard/0/partition/orders/3 --mode panic\n  \
        troupe actor kill node/2/controller\n\
        The node must have been started with chaos.enable=true, as `troupe dev` does.")]
    Kill(kill::Kill),
}

#[derive(Debug, Args)]
pub struct Tree {
    /// Only addresses that begin with this; or are like it, if * stands in it for anything or ? for one character
    #[arg(default_value = "", hide_default_value = true, value_name = "PREFIX|PATTERN")]
    pattern: String,
    /// Only these kinds, with commas between: partition, group-coordinator, controller, ...
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// Only those that have messages waiting, or are not well
    #[arg(long)]
    busy: bool,
    /// On a terminal: also each actor of the topics that Troupe keeps for itself, not only those that are busy
    #[arg(long, visible_alias = "all")]
    internal: bool,
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
    /// How long it has handled nothing though it should have.
    stands_still_ms: i64,
    /// How long the oldest that waits for its answer has waited.
    oldest_wait_ms: i64,
    queued_bytes: i64,
    /// The injected fault that it suffers now.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    /// For how long still.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault_left_ms: Option<i64>,
}

impl From<Actor> for ActorView {
    fn from(actor: Actor) -> Self {
        ActorView {
            state: match actor.state() {
                ActorState::Running => "running",
                ActorState::Restarting => "restarting",
                ActorState::Offline => "offline",
                ActorState::Paused => "paused",
                ActorState::Stalled => "stalled",
                ActorState::Damaged => "damaged",
                ActorState::Waiting => "waiting",
                ActorState::Unspecified => "unknown",
            },
            fault: match actor.fault() {
                Fault::Unspecified => None,
                Fault::Pause => Some("pause"),
                Fault::Stall => Some("stall"),
                Fault::DropReplies => Some("dropReplies"),
            },
            fault_left_ms: Some(actor.fault_left_ms).filter(|left| *left > 0),
            stands_still_ms: actor.stands_still_ms,
            oldest_wait_ms: actor.oldest_wait_ms,
            queued_bytes: actor.queued_bytes,
            address: actor.address,
            kind: actor.kind,
            mailbox_depth: actor.mailbox_depth,
            restarts: actor.restarts,
            detail: actor.detail,
        }
    }
}

impl ActorView {
    /// Messages wait, or it is not well.
    fn is_busy(&self) -> bool {
        self.state != "running" || self.mailbox_depth > 0 || self.fault.is_some()
    }

    /// Of a topic that Troupe keeps for itself.
    fn is_internal(&self) -> bool {
        self.address.contains("/__")
    }

    /// With the time that an injected fault lasts still: `paused (5 s left)`.
    fn shown_state(&self) -> String {
        match self.fault_left_ms {
            Some(left) if self.state == "paused" => {
                format!("{} ({} s left)", self.state, (left + 999) / 1_000)
            }
            _ => self.state.to_owned(),
        }
    }

    /// What is wrong with it first.
    fn summary(&self) -> String {
        let mut told = Vec::new();
        if self.stands_still_ms > 0 {
            let still = Duration::from_millis(self.stands_still_ms.unsigned_abs());
            told.push(format!("has handled nothing for {}", show_duration(still)));
        }
        if self.kind == "partition" {
            told.extend(replica_condition::waits(self.oldest_wait_ms, self.queued_bytes));
        } else if self.state == "waiting" {
            let waits = Duration::from_millis(self.oldest_wait_ms.unsigned_abs());
            told.push(format!("the oldest request waits for {}", show_duration(waits)));
        }
        told.extend(self.fault.map(|fault| format!("suffers the fault {fault}")));
        told.extend(Some(self.detail.clone()).filter(|detail| !detail.is_empty()));
        told.join("; ")
    }
}

pub async fn run(global: &Global, command: ActorCommand) -> Result<(), Failure> {
    match command {
        ActorCommand::Tree(tree) => run_tree(global, tree).await,
        ActorCommand::Kill(kill) => kill::run(global, kill).await,
    }
}

async fn run_tree(global: &Global, tree: Tree) -> Result<(), Failure> {
    let client = global.connect_past_silence().await?;
    let is_pattern = tree.pattern.contains(['*', '?']);
    let prefix = if is_pattern { "" } else { tree.pattern.as_str() };
    let actors = of_all_nodes(&client, prefix).await;
    let actors = actors.with_context(|| "cannot list the actors".to_owned())?;
    let all: Vec<ActorView> = actors.into_iter().map(ActorView::from).collect();
    let pattern = is_pattern.then(|| AddressPattern::new(&tree.pattern));
    let is_wanted = |actor: &ActorView| {
        pattern.as_ref().is_none_or(|pattern| pattern.matches(&actor.address))
            && (tree.kind.is_empty() || tree.kind.contains(&actor.kind))
            && (!tree.busy || actor.is_busy())
    };
    if let Some(wrong) = tree.kind.iter().find(|kind| !all.iter().any(|actor| actor.kind == **kind))
    {
        let mut kinds: Vec<&str> = all.iter().map(|actor| actor.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let known = nearest(wrong, kinds.iter().copied());
        let hint = known.map_or_else(
            || format!("there are {}", kinds.join(", ")),
            |near| format!("did you mean '{near}'?"),
        );
        return Err(Failure::new(Exit::NotFound, "", format!("no actor is of the kind '{wrong}'"))
            .with_hint(hint));
    }
    let actors: Vec<ActorView> = all.into_iter().filter(is_wanted).collect();
    let output = global.output();
    let folds =
        output.terminal && !output.format.is_json() && !tree.internal && tree.pattern.is_empty();
    let (folded, actors): (Vec<_>, Vec<_>) =
        actors.into_iter().partition(|actor| folds && actor.is_internal() && !actor.is_busy());
    output.many("actors", &actors, || table(&output, &actors))?;
    match folded.len() {
        0 => Ok(()),
        count => output.print(&format!(
            "and {} of internal topics that are well: --internal shows them\n",
            plural(count, "actor")
        )),
    }
}

/// On a terminal the addresses become a tree; in a pipe they stay whole, to be cut out and killed.
fn table(output: &Output, actors: &[ActorView]) -> Table {
    let mut table = Table::new(&[
        text("ACTOR"),
        text("KIND").roomy(),
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
        let tone = match actor.state {
            "running" => Tone::Plain,
            "offline" | "damaged" => Tone::Bad,
            _ => Tone::Warning,
        };
        table.toned_row(
            tone,
            2,
            vec![
                name,
                actor.kind.clone(),
                actor.shown_state(),
                actor.mailbox_depth.to_string(),
                actor.restarts.to_string(),
                actor.summary(),
            ],
        );
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
}

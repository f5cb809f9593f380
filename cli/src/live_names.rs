//! Names of what there is in a cluster, for who types them: completed as they are typed, and offered where one is
//! misspelt.
//!
//! Promises: whoever does not answer within a second costs a second, and nothing is said of it.

use crate::failure::{Failure, Kind};
use crate::global::{Global, servers};
use crate::nearest::nearest;
use crate::runtime::block_on;
use clap::{Arg, Command as Tree};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use std::ffi::OsStr;
use std::time::Duration;
use troupe_client::{Client, ClientConfig};

const PATIENCE: Duration = Duration::from_secs(1);

/// The same failure, with the name in it that may have been meant, if there is one.
pub fn with_suggestion(failure: Failure, global: &Global) -> Failure {
    let Some((kind, wrong)) = failure.missing() else { return failure };
    let Ok(servers) = servers(&global.server) else { return failure };
    let known = names(kind, servers);
    match nearest(wrong, known.iter().map(String::as_str)) {
        // It has come meanwhile, or goes.
        Some(near) if near == wrong => failure,
        Some(near) => {
            let hint = format!("did you mean '{near}'?");
            failure.with_hint(hint)
        }
        None => failure,
    }
}

/// The tree of commands, where each name of something in the cluster is completed by those that there are.
pub fn completed(tree: Tree) -> Tree {
    within(tree, "")
}

fn within(tree: Tree, above: &str) -> Tree {
    let command = tree.get_name().to_owned();
    let path = format!("{above} {command}");
    tree.mut_args(|arg| match kind_of(&path, &arg) {
        Some(kind) => arg.add(ArgValueCompleter::new(move |typed: &OsStr| candidates(kind, typed))),
        None => arg,
    })
    .mut_subcommands(|below| within(below, &path))
}

/// What an argument names, by what it is called.
fn kind_of(path: &str, arg: &Arg) -> Option<Kind> {
    // What is to be made has a name that there is not yet.
    if path.ends_with("topic create") || path.contains(" bench") {
        return None;
    }
    let value = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
    match (arg.get_id().as_str(), value.unwrap_or_default()) {
        ("name", _) if path.contains(" topic ") => Some(Kind::Topic),
        ("topic" | "topics" | "leader" | "leaders", _) => Some(Kind::Topic),
        (_, value) if value.starts_with("TOPIC") => Some(Kind::Topic),
        ("group" | "groups" | "coordinator" | "coordinators", _) => Some(Kind::Group),
        ("node" | "to_nodes" | "exclude_node", _) => Some(Kind::Node),
        _ => None,
    }
}

/// Of several with commas between, the last is completed; behind a colon stands no name any more.
fn candidates(kind: Kind, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let (before, begun) = match typed.rfind(',') {
        Some(at) => typed.split_at(at + 1),
        None => ("", typed),
    };
    if begun.contains(':') {
        return Vec::new();
    }
    let Ok(servers) = servers(&typed_servers()) else { return Vec::new() };
    let mut names = names(kind, servers);
    // Who looks for one of the cluster's own begins it so.
    names.retain(|name| {
        name.starts_with(begun) && (begun.starts_with('_') || !name.starts_with("__"))
    });
    names.iter().map(|name| CompletionCandidate::new(format!("{before}{name}"))).collect()
}

/// What stands behind `--server` in the line that is completed, or in the environment.
fn typed_servers() -> Vec<String> {
    let mut words = std::env::args();
    let mut found = std::env::var("TROUPE_SERVER").unwrap_or_default();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("--server" | "--bootstrap-server", server)) => found = server.to_owned(),
            _ if word == "--server" || word == "--bootstrap-server" => {
                found = words.next().unwrap_or_default();
            }
            _ => {}
        }
    }
    found.split(',').map(str::to_owned).collect()
}

fn names(kind: Kind, servers: Vec<String>) -> Vec<String> {
    let ask = async {
        let client = Client::connect(ClientConfig::new(servers)).await.ok()?;
        let admin = client.admin();
        Some(match kind {
            Kind::Topic => {
                let topics = admin.list_topics(true).await.ok()?;
                topics.into_iter().map(|topic| topic.name).collect()
            }
            Kind::Group => {
                let groups = admin.list_groups(&[]).await.ok()?;
                groups.into_iter().map(|group| group.group_id).collect()
            }
            Kind::Node => {
                let cluster = admin.get_cluster().await.ok()?;
                cluster.nodes.iter().map(|node| node.node_id.to_string()).collect()
            }
        })
    };
    let asked = async { Ok(tokio::time::timeout(PATIENCE, ask).await.ok().flatten()) };
    block_on(asked).ok().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_cluster_are_known_by_what_their_arguments_are_called() {
        let arg = |id: &'static str| Arg::new(id);
        assert_eq!(kind_of(" troupe topic describe", &arg("name")), Some(Kind::Topic));
        assert_eq!(kind_of(" troupe consume", &arg("topics")), Some(Kind::Topic));
        assert_eq!(kind_of(" troupe consume", &arg("group")), Some(Kind::Group));
        assert_eq!(kind_of(" troupe node drain", &arg("node")), Some(Kind::Node));
        let selection = arg("which").value_name("TOPIC[:PARTITION,..],..");
        assert_eq!(kind_of(" troupe partition elect", &selection), Some(Kind::Topic));
        assert_eq!(kind_of(" troupe topic create", &arg("name")), None);
        assert_eq!(kind_of(" troupe produce", &arg("key")), None);
    }
}

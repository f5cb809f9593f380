//! Faults of whole nodes: what is typed for one, on the command line and at `troupe dev`, and giving it to the nodes.
//!
//! A fault that several nodes have a part in, as a connection that is cut at both ends, has one id on all of them.
//! Promises: it begins on all of them or on none; who is not there is told of.

mod arguments;
mod wire;

pub use arguments::{NodeFaultCommand, NodeFaultKind, parse_node};
pub use wire::{describe, name};

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::fan_out::fan_out;
use crate::quantity::show_duration;
use crate::streams::notice;
use rand::RngExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use troupe_client::Client;
use troupe_proto::chaos::v1alpha1::{ActiveFault, NodeFault, StartFaultRequest};
use troupe_proto::ids::NodeId;

/// How long one lasts, if nothing else is said.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(10);
pub const NOTHING: &str = "no node suffers anything\n";
/// What an id ends with, so that two faults have two.
const ENDING: &[u8] = b"bcdfghjkmnpqrstvwxyz23456789";
const ENDING_LENGTH: usize = 4;

/// A fault that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    pub id: String,
    /// Who suffers what.
    pub nodes: BTreeMap<i32, NodeFault>,
    pub duration: Duration,
}

impl Begun {
    /// The same as JSON.
    pub fn view(&self, kind: &NodeFaultKind) -> Value {
        json!({
            "faultId": self.id,
            "fault": kind.name(),
            "nodeIds": self.nodes.keys().collect::<Vec<_>>(),
            "durationMs": u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// One line.
    pub fn tell(&self) -> String {
        let whats: BTreeSet<String> =
            self.nodes.iter().map(|(node, fault)| describe(*node, fault)).collect();
        let whats: Vec<String> = whats.into_iter().collect();
        format!("{} lasts {}: {}\n", self.id, show_duration(self.duration), whats.join("; "))
    }
}

fn new_id(name: &str) -> String {
    let mut random = rand::rng();
    let ending =
        (0..ENDING_LENGTH).map(|_| char::from(ENDING[random.random_range(0..ENDING.len())]));
    format!("{name}-{}", ending.collect::<String>())
}

/// Returns when it has begun on every node that has a part in it.
pub async fn start(
    client: &Client,
    kind: &NodeFaultKind,
    duration: Option<Duration>,
) -> Result<Begun, Failure> {
    let what = || format!("cannot begin {}", kind.name());
    let cluster = client.describe_cluster().await.with_context(what)?;
    let known: BTreeSet<i32> = cluster.nodes.iter().map(|node| node.node_id).collect();
    if let Some(unknown) = kind.named().into_iter().find(|node| !known.contains(node)) {
        let cause = format!("there is no node {unknown}");
        return Err(Failure::new(Exit::NotFound, what(), cause)
            .with_hint("`troupe node list` shows the nodes"));
    }
    let nodes = kind.on_nodes(&known);
    let is_between = matches!(kind, NodeFaultKind::Cut { .. } | NodeFaultKind::Slow { .. });
    if is_between && nodes.len() < 2 {
        let failed = |cause: String| Failure::new(Exit::Refused, what(), cause);
        return Err(match known.len() {
            0 | 1 => failed("there is no other node".to_owned())
                .with_hint("`troupe dev --nodes 3` has three"),
            _ => failed(format!("node {} has no connection to itself", kind.victim()))
                .with_hint("name two nodes"),
        });
    }
    let duration = duration.unwrap_or(DEFAULT_DURATION);
    let id = new_id(kind.name());
    let request = |fault: &NodeFault| StartFaultRequest {
        fault_id: id.clone(),
        fault: Some(fault.clone()),
        duration_ms: u32::try_from(duration.as_millis()).unwrap_or(u32::MAX),
    };
    let mut begun: Vec<NodeId> = Vec::new();
    for (&node, fault) in &nodes {
        let node = NodeId(node);
        let started = async { client.admin_of(node).await?.start_fault(request(fault)).await };
        if let Err(error) = started.await {
            // Half of it is another fault than the one that was asked for.
            for node in begun {
                let stopped = async { client.admin_of(node).await?.stop_faults(&id).await };
                if let Err(error) = stopped.await {
                    notice!("note: {id} goes on at node {node} for its time: {error}");
                }
            }
            return Err(Failure::client(format!("{} at node {node}", what()), &error));
        }
        begun.push(node);
    }
    Ok(Begun { id, nodes, duration })
}

/// What lasts on all nodes that answer; a note for those that do not.
pub async fn list(client: &Client) -> Result<BTreeMap<i32, Vec<ActiveFault>>, Failure> {
    ask_all(client, async |client, node| client.admin_of(node).await?.list_faults().await).await
}

/// Ends one on all nodes that answer, or all; the ids of those that ended, by node.
pub async fn stop(client: &Client, id: &str) -> Result<BTreeMap<i32, Vec<String>>, Failure> {
    ask_all(client, async |client, node| client.admin_of(node).await?.stop_faults(id).await).await
}

/// What ended where, as JSON.
pub fn stopped_view(stopped: &BTreeMap<i32, Vec<String>>) -> Value {
    let each = stopped.iter().flat_map(|(node, ids)| ids.iter().map(move |id| (id, node)));
    let each: Vec<_> = each.map(|(id, node)| json!({ "faultId": id, "nodeId": node })).collect();
    json!({ "stopped": each })
}

/// A line for each.
pub fn tell_stopped(stopped: &BTreeMap<i32, Vec<String>>) -> String {
    let each = stopped.iter().flat_map(|(node, ids)| ids.iter().map(move |id| (id, node)));
    let lines: String = each.map(|(id, node)| format!("stopped {id} at node {node}\n")).collect();
    if lines.is_empty() { NOTHING.to_owned() } else { lines }
}

async fn ask_all<T>(
    client: &Client,
    ask: impl AsyncFn(&Client, NodeId) -> Result<T, troupe_client::ClientError>,
) -> Result<BTreeMap<i32, T>, Failure> {
    let cluster = client.describe_cluster().await;
    let cluster = cluster.with_context(|| "cannot tell the nodes".to_owned())?;
    // Also those that the controller does not hear: above all they may suffer.
    let nodes = cluster.nodes.iter().map(|node| node.node_id).collect();
    let mut answers = BTreeMap::new();
    for (node, answer) in fan_out(nodes, async |node| ask(client, node).await).await {
        match answer {
            Ok(answer) => drop(answers.insert(node, answer)),
            Err(why) => notice!("note: node {node} does not answer: {why}"),
        }
    }
    Ok(answers)
}

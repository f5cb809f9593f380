//! `troupe chaos cut` and the like: what whole nodes suffer, listing it and ending it.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::node_faults::{self, NodeFaultCommand, NodeFaultKind, describe, name};
use crate::output::{Table, number, text};
use crate::quantity::show_duration;
use clap::Subcommand;
use serde::Serialize;
use std::time::Duration;
use troupe_proto::chaos::v1alpha1::{ActiveFault, Fault};

#[derive(Debug, Subcommand)]
pub enum ChaosCommand {
    #[command(flatten)]
    Node(NodeFaultCommand),
    /// What nodes and actors suffer now, on all nodes
    #[command(visible_alias = "ls")]
    List,
    /// End what nodes suffer before its time: one fault, or all
    #[command(visible_alias = "heal")]
    #[command(after_help = "Examples:\n  troupe chaos stop\n  troupe chaos stop cut-x7k2")]
    Stop {
        /// As `troupe chaos list` shows it [default: all]
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
}

pub async fn run(global: &Global, command: ChaosCommand) -> Result<(), Failure> {
    match command {
        ChaosCommand::Node(command) => {
            let (kind, duration) = command.into_kind();
            begin(global, &kind, duration).await
        }
        ChaosCommand::List => list(global).await,
        ChaosCommand::Stop { id } => stop(global, id.as_deref().unwrap_or_default()).await,
    }
}

/// Returns when it has begun.
pub async fn begin(
    global: &Global,
    kind: &NodeFaultKind,
    duration: Option<Duration>,
) -> Result<(), Failure> {
    let client = global.connect_past_silence().await?;
    let begun = node_faults::start(&client, kind, duration).await?;
    global.output().one(&begun.view(kind), || begun.tell())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FaultView {
    fault_id: String,
    node_id: i32,
    address: String,
    fault: &'static str,
    detail: String,
    left_ms: i64,
    hit_count: i64,
}

impl FaultView {
    fn of(node: i32, active: ActiveFault) -> FaultView {
        let (fault, detail) = match &active.fault {
            Some(fault) => (name(fault), describe(node, fault)),
            None => match active.actor_fault() {
                Fault::Pause => ("pause", "it handles no message".to_owned()),
                Fault::Stall => ("stall", "it does not return from a message".to_owned()),
                Fault::DropReplies => ("drop-replies", "it answers nobody".to_owned()),
                Fault::Unspecified => ("unknown", String::new()),
            },
        };
        FaultView {
            fault_id: active.fault_id,
            node_id: node,
            address: active.address,
            fault,
            detail,
            left_ms: active.left_ms,
            hit_count: active.hit_count,
        }
    }
}

async fn list(global: &Global) -> Result<(), Failure> {
    let client = global.connect_past_silence().await?;
    let mut faults = Vec::new();
    for (node, active) in node_faults::list(&client).await? {
        faults.extend(active.into_iter().map(|fault| FaultView::of(node, fault)));
    }
    faults.sort_by(|a, b| (&a.fault_id, a.node_id).cmp(&(&b.fault_id, b.node_id)));
    let output = global.output();
    output.many("faults", &faults, || {
        let mut table = Table::new(&[
            text("ID"),
            text("WHO"),
            text("FAULT"),
            number("LEFT"),
            number("HITS"),
            text("DETAIL"),
        ]);
        for fault in &faults {
            let left = Duration::from_millis(fault.left_ms.unsigned_abs());
            table.row(vec![
                fault.fault_id.clone(),
                fault.address.clone(),
                fault.fault.to_owned(),
                show_duration(left),
                fault.hit_count.to_string(),
                fault.detail.clone(),
            ]);
        }
        table
    })
}

async fn stop(global: &Global, id: &str) -> Result<(), Failure> {
    let client = global.connect_past_silence().await?;
    let stopped = node_faults::stop(&client, id).await?;
    if stopped.values().all(Vec::is_empty) && !id.is_empty() {
        let cause = format!("no fault `{id}` lasts on any node that answers");
        return Err(Failure::new(Exit::NotFound, "", cause)
            .with_hint("`troupe chaos list` shows what lasts; what actors suffer ends by itself"));
    }
    let view = node_faults::stopped_view(&stopped);
    global.output().one(&view, || node_faults::tell_stopped(&stopped))
}

//! `troupe chaos cut` and the like: what whole nodes suffer, listing it and ending it.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::node_faults::{self, NodeFaultKind, describe, name};
use crate::output::{Table, number, text};
use crate::quantity::show_duration;
use serde::Serialize;
use std::time::Duration;
use troupe_proto::chaos::v1alpha1::{ActiveFault, Fault};

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

pub async fn list(global: &Global) -> Result<(), Failure> {
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

pub async fn stop(global: &Global, id: &str) -> Result<(), Failure> {
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

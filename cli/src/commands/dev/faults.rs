//! Faults of nodes that are typed: given as from anywhere else, by the nodes' own listeners.

use super::command::Command;
use super::event::Event;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::first_that_answers;
use crate::node_faults::{self, NOTHING, describe};
use crate::quantity::show_duration;
use serde_json::{Value, json};
use std::time::Duration;
use std::{io, thread};
use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedSender;

/// What comes of it arrives as [`Event::Told`].
pub fn run(command: Command, servers: Vec<String>, inbox: &UnboundedSender<Event>) {
    let inbox = inbox.clone();
    thread::spawn(move || {
        let runtime: io::Result<_> = Builder::new_current_thread().enable_all().build();
        let told = match runtime.with_context(|| "cannot ask the nodes".to_owned()) {
            Ok(runtime) => runtime.block_on(ask(command, servers)),
            Err(failure) => Err(failure),
        };
        // Nobody listens any more: everything is being stopped.
        let _ = inbox.send(Event::Told(told));
    });
}

async fn ask(command: Command, servers: Vec<String>) -> Result<(Value, String), Failure> {
    let client = first_that_answers(&servers).await;
    let client = client.ok_or_else(|| Failure::new(Exit::Failed, "", "no node answers"))?;
    match command {
        Command::Fault(kind, duration) => {
            let begun = node_faults::start(&client, &kind, duration).await?;
            Ok((begun.view(&kind), begun.tell()))
        }
        Command::Heal(id) => {
            let stopped = node_faults::stop(&client, &id).await?;
            Ok((node_faults::stopped_view(&stopped), node_faults::tell_stopped(&stopped)))
        }
        _ => {
            let (mut lines, mut views) = (String::new(), Vec::new());
            for (node, faults) in node_faults::list(&client).await? {
                for active in faults {
                    let left = Duration::from_millis(active.left_ms.unsigned_abs());
                    let what = active.fault.map(|fault| describe(node, &fault));
                    let (id, what) = (active.fault_id, what.unwrap_or_default());
                    views.push(json!({ "faultId": id, "nodeId": node, "leftMs": active.left_ms }));
                    lines += &format!("{id}  {} left  {what}\n", show_duration(left));
                }
            }
            if lines.is_empty() {
                NOTHING.clone_into(&mut lines);
            }
            Ok((json!({ "faults": views }), lines))
        }
    }
}

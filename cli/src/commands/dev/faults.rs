//! Faults of nodes that are typed: given as from anywhere else, by the nodes' own listeners.

use super::command::Command;
use super::event::Event;
use crate::failure::{Context, Failure};
use crate::node_faults::{self, describe};
use crate::quantity::show_duration;
use std::time::Duration;
use std::{io, thread};
use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedSender;
use troupe_client::{Client, ClientConfig};

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

async fn ask(command: Command, servers: Vec<String>) -> Result<String, Failure> {
    let client = Client::connect(ClientConfig::new(servers)).await;
    let client = client.with_context(|| "no node answers".to_owned())?;
    match command {
        Command::Fault(kind, duration) => {
            Ok(node_faults::start(&client, &kind, duration).await?.tell())
        }
        Command::Heal(id) => {
            let stopped = node_faults::stop(&client, &id).await?;
            let lines = stopped.into_iter().flat_map(|(node, ids)| {
                ids.into_iter().map(move |id| format!("stopped {id} at node {node}\n"))
            });
            Ok(Some(lines.collect::<String>())
                .filter(|lines| !lines.is_empty())
                .unwrap_or_else(|| "no node suffers anything of that\n".to_owned()))
        }
        _ => {
            let mut lines = String::new();
            for (node, faults) in node_faults::list(&client).await? {
                for active in faults {
                    let left = Duration::from_millis(active.left_ms.unsigned_abs());
                    let what = active.fault.map(|fault| describe(node, &fault));
                    let (id, what) = (active.fault_id, what.unwrap_or_default());
                    lines += &format!("{id}  {} left  {what}\n", show_duration(left));
                }
            }
            Ok(Some(lines)
                .filter(|lines| !lines.is_empty())
                .unwrap_or_else(|| "no node suffers anything\n".to_owned()))
        }
    }
}

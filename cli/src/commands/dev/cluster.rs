//! Several nodes in one process: each with its own ports, directory and part in the metadata quorum.
//!
//! Starting and stopping a node takes a while and happens on a thread; what came of it arrives in the inbox.

use super::arguments::Dev;
use super::command::{Command, HELP};
use super::event::Event;
use super::faults;
use crate::configuration::load;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::foreground::cannot_start;
use crate::output::{Format, Output};
use crate::ports::{self, Ports};
use crate::readiness;
use crate::streams::{notice, write_notice};
use futures::FutureExt;
use futures::future::select_all;
use serde::Serialize;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::thread;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use troupe_broker::{Node, NodeConfig, StartError};
use troupe_client::ClientError;

/// What its directories are formatted with: they can be used again.
pub const CLUSTER_ID: &str = "troupe-dev";
/// How often other free ports are tried, if somebody else takes those that were found.
const PORT_ATTEMPTS: usize = 5;

pub struct Cluster {
    members: Vec<Member>,
    sender: UnboundedSender<Event>,
    inbox: UnboundedReceiver<Event>,
}

struct Member {
    id: i32,
    ports: Ports,
    config: NodeConfig,
    state: State,
}

enum State {
    Starting,
    Running(Node),
    Stopping {
        /// It has been told to start, and does when it has stopped.
        starts: bool,
    },
    Stopped,
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running(_) => "running",
            State::Stopping { .. } => "stopping",
            State::Stopped => "stopped",
        }
    }
}

/// A node as it is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    pub node_id: i32,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    state: &'static str,
}

impl Cluster {
    /// Returns when all nodes serve.
    pub fn start(dev: &Dev, dir: &Path) -> Result<Cluster, Failure> {
        let mut attempts = PORT_ATTEMPTS;
        loop {
            attempts -= 1;
            let ports = ports::plan(dev.nodes, dev.listen, dev.http)?;
            let error = match Cluster::start_on(&ports, dev, dir)? {
                Ok(cluster) => return Ok(cluster),
                Err(error) => error,
            };
            // Between finding free ports and listening there, others may take them.
            let clash = matches!(error, StartError::Listen { .. }) && dev.listen.port() == 0;
            if !clash || attempts == 0 {
                return Err(cannot_start("the nodes cannot start", error));
            }
        }
    }

    fn start_on(
        ports: &[Ports],
        dev: &Dev,
        dir: &Path,
    ) -> Result<Result<Cluster, StartError>, Failure> {
        let (sender, inbox) = unbounded_channel();
        let mut cluster = Cluster { members: Vec::new(), sender, inbox };
        for (&ports_of_one, id) in ports.iter().zip(1..) {
            let mut set = settings(id, ports_of_one, ports, dir);
            set.extend(dev.set.iter().cloned());
            let config = load(&set)?;
            cluster.members.push(Member { id, ports: ports_of_one, config, state: State::Stopped });
        }
        // At the same time: none serves before most of them are there.
        for member in &mut cluster.members {
            member.start(&cluster.sender);
        }
        for _ in 0..ports.len() {
            let Some(Event::Started(id, outcome)) = cluster.inbox.blocking_recv() else { break };
            match *outcome {
                Ok(node) => cluster.member(id)?.state = State::Running(node),
                // Those that started go with the cluster; one that waits for the others is left to itself.
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(cluster))
    }

    /// Until the controller counts on every node.
    pub async fn all_active(&self) -> Result<(), ClientError> {
        readiness::all_active(self.servers(), self.members.len()).await
    }

    /// Where commands and other events go.
    pub fn inbox(&self) -> UnboundedSender<Event> {
        self.sender.clone()
    }

    pub async fn next(&mut self) -> Event {
        let running = self.members.iter().filter_map(|member| match &member.state {
            State::Running(node) => Some(node.failed().map(move |()| member.id).boxed_local()),
            _ => None,
        });
        let running: Vec<_> = running.collect();
        if running.is_empty() {
            return self.inbox.recv().await.expect("this has a sender");
        }
        tokio::select! {
            event = self.inbox.recv() => event.expect("this has a sender"),
            (id, ..) = select_all(running) => Event::Failed(id),
        }
    }

    /// Says what happened, and does what was typed. Break: everything shall stop.
    pub fn handle(&mut self, event: Event, output: &Output) -> Result<ControlFlow<()>, Failure> {
        match event {
            Event::Line(line) => return self.execute(&line, output),
            Event::Told(Ok((view, text))) => match output.format.is_json() {
                true => output.print(&format!("{view}\n"))?,
                false => output.print(&text)?,
            },
            Event::Told(Err(mistake)) => notice!("{mistake}"),
            Event::Started(id, outcome) => match *outcome {
                Ok(node) => {
                    self.member(id)?.state = State::Running(node);
                    self.print_status(id, output)?;
                }
                Err(error) => {
                    self.member(id)?.state = State::Stopped;
                    notice!("{}", cannot_start(&format!("node {id} cannot start"), error));
                }
            },
            Event::Stopped(id) => {
                let member = self.member(id)?;
                let starts = matches!(member.state, State::Stopping { starts: true });
                member.state = State::Stopped;
                self.print_status(id, output)?;
                if starts {
                    self.start_again(id)?;
                }
            }
            Event::Failed(id) => {
                self.member(id)?.state = State::Stopped;
                notice!("node {id} stopped by itself; what it said before tells why");
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn execute(&mut self, line: &str, output: &Output) -> Result<ControlFlow<()>, Failure> {
        let done = match Command::parse(line) {
            Ok(None) => Ok(()),
            Ok(Some(Command::Kill(id))) => self.end(id, Node::kill),
            Ok(Some(Command::Stop(id))) => self.end(id, Node::stop),
            Ok(Some(Command::Start(id))) => self.start_again(id),
            Ok(Some(command @ (Command::Fault(..) | Command::Faults | Command::Heal(_)))) => {
                faults::run(command, self.servers(), &self.sender);
                Ok(())
            }
            Ok(Some(Command::Nodes)) => {
                let ids: Vec<i32> = self.members.iter().map(|member| member.id).collect();
                ids.into_iter().try_for_each(|id| self.print_status(id, output))
            }
            Ok(Some(Command::Help)) => {
                write_notice(format_args!("{HELP}"));
                Ok(())
            }
            Ok(Some(Command::Quit)) => return Ok(ControlFlow::Break(())),
            Err(mistake) => Err(Failure::usage(mistake)),
        };
        // A mistake at the keyboard ends nothing.
        if let Err(mistake) = done {
            notice!("{mistake}");
        }
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self, id: i32, end: impl FnOnce(Node) + Send + 'static) -> Result<(), Failure> {
        let sender = self.sender.clone();
        let member = self.member(id)?;
        match std::mem::replace(&mut member.state, State::Stopping { starts: false }) {
            State::Running(node) => {
                thread::spawn(move || {
                    end(node);
                    // Nobody listens any more: everything is being stopped.
                    let _ = sender.send(Event::Stopped(id));
                });
                Ok(())
            }
            other => {
                let cause = format!("node {id} is {}", other.name());
                member.state = other;
                Err(Failure::new(Exit::Refused, "", cause))
            }
        }
    }

    fn start_again(&mut self, id: i32) -> Result<(), Failure> {
        let sender = self.sender.clone();
        let member = self.member(id)?;
        match &mut member.state {
            State::Stopped => member.start(&sender),
            State::Stopping { starts } => *starts = true,
            other => {
                let cause = format!("node {id} is {}", other.name());
                return Err(Failure::new(Exit::Refused, "", cause));
            }
        }
        Ok(())
    }

    fn member(&mut self, id: i32) -> Result<&mut Member, Failure> {
        let last = self.members.len();
        let found = self.members.iter_mut().find(|member| member.id == id);
        found.ok_or_else(|| {
            Failure::new(Exit::NotFound, "", format!("there is no node {id}, only 1 to {last}"))
        })
    }

    fn print_status(&mut self, id: i32, output: &Output) -> Result<(), Failure> {
        let described = self.member(id)?.describe();
        let line = Output { format: Format::Jsonl, ..*output };
        if output.format.is_json() {
            return line.one(&described, String::new);
        }
        output.print(&format!("node {id} is {}\n", described.state))
    }

    pub fn describe(&self) -> Vec<NodeStatus> {
        self.members.iter().map(Member::describe).collect()
    }

    /// The gRPC addresses.
    pub fn servers(&self) -> Vec<String> {
        self.members.iter().map(|member| member.ports.grpc.to_string()).collect()
    }

    /// Stops all nodes at the same time; returns when they have closed what they had open.
    pub fn stop(self) {
        let mut stopping = Vec::new();
        for member in self.members {
            if let State::Running(node) = member.state {
                stopping.push(thread::spawn(move || node.stop()));
            }
        }
        for node in stopping {
            // A panic in it has been printed.
            let _ = node.join();
        }
    }
}

impl Member {
    fn start(&mut self, sender: &UnboundedSender<Event>) {
        let (id, config, sender) = (self.id, self.config.clone(), sender.clone());
        self.state = State::Starting;
        thread::spawn(move || {
            // Nobody listens any more: everything is being stopped, and the node with it.
            let _ = sender.send(Event::Started(id, Box::new(Node::start(config))));
        });
    }

    fn describe(&self) -> NodeStatus {
        let Ports { grpc, http, .. } = self.ports;
        NodeStatus { node_id: self.id, grpc, http, state: self.state.name() }
    }
}

/// What is set for a node, before what the user wants.
fn settings(id: i32, ports: Ports, all: &[Ports], dir: &Path) -> Vec<String> {
    let voters: Vec<String> = all
        .iter()
        .zip(1..)
        .map(|(ports, id): (&Ports, i32)| format!("{id}@{}", ports.controller))
        .collect();
    let replicas = all.len().min(3);
    vec![
        format!("node.id={id}"),
        format!("cluster.id={CLUSTER_ID}"),
        format!("controller.quorum.voters={}", voters.join(",")),
        format!("controller.listener={}", ports.controller),
        format!("listener={}", ports.grpc),
        format!("http.listener={}", ports.http),
        format!("log.dir={}", dir.join(format!("node-{id}")).display()),
        format!("default.replication.factor={replicas}"),
        // One of three may be away.
        format!("min.insync.replicas={}", if replicas == 3 { 2 } else { 1 }),
        // At Ctrl-C all go, and nobody is there to take over.
        "controlled.shutdown.timeout.ms=2s".to_owned(),
        // All of them live on the files of one process, and each would say that it gets fewer than it asks for.
        "max.connections.per.node=1000".to_owned(),
        "chaos.enable=true".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_the_same_voters_and_a_directory_of_its_own() {
        let ports = ports::plan(3, ([127, 0, 0, 1], 7070).into(), None).unwrap();
        let configs: Vec<NodeConfig> = (1..)
            .zip(&ports)
            .map(|(id, &own)| load(&settings(id, own, &ports, Path::new("/d"))).unwrap())
            .collect();
        for config in &configs {
            assert_eq!(config.voters().unwrap(), configs[0].voters().unwrap());
            assert_eq!(config.log_dir, Path::new(&format!("/d/node-{}", config.node_id)));
            assert_eq!(config.min_insync_replicas, 2);
        }
    }
}

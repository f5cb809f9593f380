//! Three nodes in processes of their own, which are killed and started again.

use super::server::Server;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::ports::{self, Ports};
use crate::readiness;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task;
use troupe_client::{Admin, Client, ClientConfig, ClientError};
use troupe_proto::ids::NodeId;

const NODES: u16 = 3;
/// How often other free ports are tried, if somebody else takes those that were found.
const PORT_ATTEMPTS: usize = 5;
/// How long they may take to become a cluster.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// For control calls: some nodes are stopped on purpose, and the next one is asked.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);

/// What is set for every node, besides where it is.
pub const SETTINGS: [&str; 7] = [
    "cluster.id=troupe-bench",
    "default.replication.factor=3",
    "min.insync.replicas=2",
    // Leaderships move when the benchmark says so.
    "auto.leader.rebalance.enable=false",
    "chaos.enable=true",
    "delete.topic.enable=true",
    "shards=1",
];

/// What is sent to a process.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Terminate,
    Kill,
    Stop,
    Continue,
}

pub struct Nodes {
    dir: PathBuf,
    ports: Vec<Ports>,
    extra: Vec<String>,
    /// By node id - 1. None: it was ended and is not back yet.
    processes: Vec<Option<Server>>,
    /// Connections for control calls, in the same order.
    admins: Mutex<[Option<Admin>; NODES as usize]>,
}

impl Nodes {
    /// Returns when all of them take part in the cluster.
    pub async fn start(dir: &Path, extra: &[String]) -> Result<Nodes, Failure> {
        let what = || "cannot start three nodes".to_owned();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut attempts = PORT_ATTEMPTS;
        loop {
            attempts -= 1;
            let mut nodes = Nodes {
                dir: dir.to_owned(),
                ports: ports::plan(NODES, any, None)?,
                extra: extra.to_owned(),
                processes: Vec::new(),
                admins: Mutex::default(),
            };
            // At the same time: none serves before most of them are there.
            let starting: Vec<_> = nodes.ids().map(|node| nodes.spawn(node)).collect();
            let mut failed = None;
            for started in starting {
                match started.await {
                    Ok(Ok(server)) => nodes.processes.push(Some(server)),
                    Ok(Err(error)) => failed = Some(error),
                    Err(panic) => return Err(Failure::new(Exit::Failed, what(), panic)),
                }
            }
            match failed {
                None => {
                    nodes.all_active().await?;
                    return Ok(nodes);
                }
                Some(error) if attempts == 0 => return Err(error).with_context(what),
                Some(_) => {}
            }
        }
    }

    async fn all_active(&self) -> Result<(), Failure> {
        let what = || "cannot tell whether all nodes take part".to_owned();
        let active = readiness::all_active(self.servers(), self.processes.len());
        match tokio::time::timeout(START_TIMEOUT, active).await {
            Ok(active) => active.with_context(what),
            Err(elapsed) => Err(Failure::new(Exit::Failed, what(), elapsed)),
        }
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=i32::from(NODES)).map(NodeId)
    }

    fn index(node: NodeId) -> usize {
        usize::try_from(node.0 - 1).expect("nodes are numbered from 1")
    }

    fn spawn(&self, node: NodeId) -> task::JoinHandle<std::io::Result<Server>> {
        let own = self.ports[Nodes::index(node)];
        let voters: Vec<String> = self
            .ids()
            .zip(&self.ports)
            .map(|(id, ports)| format!("{id}@{}", ports.controller))
            .collect();
        let mut settings: Vec<String> = SETTINGS.map(str::to_owned).into();
        settings.extend([
            format!("node.id={node}"),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!("listener={}", own.grpc),
            format!("http.listener={}", own.http),
            format!("controller.listener={}", own.controller),
        ]);
        settings.extend(self.extra.iter().cloned());
        let dir = self.dir.join(format!("node-{node}"));
        // Nodes that miss each other warn of it, and here they are made to.
        task::spawn_blocking(move || Server::start_with(&dir, &settings, "error"))
    }

    /// The gRPC addresses, for clients.
    pub fn servers(&self) -> Vec<String> {
        self.ports.iter().map(|ports| ports.grpc.to_string()).collect()
    }

    /// Control calls to one node. A connection that broke is made anew by the call after.
    pub async fn admin(&self, node: NodeId) -> Result<Admin, ClientError> {
        let place = Nodes::index(node);
        if let Some(admin) = &self.lock()[place] {
            return Ok(admin.clone());
        }
        let address = self.ports[place].grpc.to_string();
        let config =
            ClientConfig { request_timeout: CONTROL_TIMEOUT, ..ClientConfig::new([address]) };
        let admin = Client::connect(config).await?.admin();
        self.lock()[place] = Some(admin.clone());
        Ok(admin)
    }

    /// A panic elsewhere has been printed; connections are connections.
    fn lock(&self) -> MutexGuard<'_, [Option<Admin>; NODES as usize]> {
        self.admins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn signal(&self, node: NodeId, signal: Signal) -> Result<(), Failure> {
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        };
        let what = || format!("cannot send {signal:?} to node {node}");
        let Some(process) = &self.processes[Nodes::index(node)] else {
            return Err(Failure::new(Exit::Failed, what(), "it does not run"));
        };
        let pid = libc::pid_t::try_from(process.pid());
        let pid = pid.map_err(|error| Failure::new(Exit::Failed, what(), error))?;
        // SAFETY: a system call on two numbers; the process is ours and has not been waited for, so the
        // number is still its.
        match unsafe { libc::kill(pid, number) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).with_context(what),
        }
    }

    /// The process of a node; none while it is ended.
    pub fn pid(&self, node: NodeId) -> Option<u32> {
        self.processes[Nodes::index(node)].as_ref().map(Server::pid)
    }

    /// Waits for the end of a node that was told to end.
    pub async fn ended(&mut self, node: NodeId) -> Result<(), Failure> {
        let what = || format!("node {node} does not end");
        if let Some(mut process) = self.processes[Nodes::index(node)].take() {
            let ended = task::spawn_blocking(move || process.ended()).await;
            ended.map_err(|panic| Failure::new(Exit::Failed, what(), panic))?.with_context(what)?;
        }
        Ok(())
    }

    /// Waits for the end of a node that was told to end, and starts it again on what it left.
    pub async fn restart(&mut self, node: NodeId) -> Result<(), Failure> {
        let what = || format!("cannot start node {node} again");
        let place = Nodes::index(node);
        self.ended(node).await?;
        let started = self.spawn(node).await;
        let started = started.map_err(|panic| Failure::new(Exit::Failed, what(), panic))?;
        self.processes[place] = Some(started.with_context(what)?);
        Ok(())
    }
}

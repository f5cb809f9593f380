//! A cluster of real processes on loopback: started together, killed, paused, stopped and started again each
//! for itself, asked how it is.

mod picture;

pub use picture::Picture;

use crate::directory::temporary_directory;
use crate::network::{self, Network};
use crate::patience::eventually_or_why;
use crate::process::{Captured, Exit, Process, Serve, Starting};
use crate::server::Server;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};
use troupe_testkit::free_ports;

/// How long a call of the harness may take: a node that stands still must not hold it up.
const CALL: Duration = Duration::from_secs(5);

/// Nodes with the ids 1 to n. They, and all they wrote, go when it is dropped; if a test fails, what they said
/// last is shown, and with `TROUPE_TEST_KEEP` set their directories stay.
pub struct Cluster {
    members: Vec<Member>,
    directory: Option<TempDir>,
    id: String,
}

struct Member {
    serve: Serve,
    data: PathBuf,
    address: String,
    controller: String,
    process: Option<Process>,
    paused: bool,
    /// Of each of its lives.
    said: Vec<Captured>,
}

impl Cluster {
    /// Three nodes that all are brokers and voters, replication factor 3, min.insync.replicas 2. `settings`
    /// are pairs `key=value`, for every node.
    pub async fn start(settings: &[&str]) -> Cluster {
        Cluster::of(3, settings).await
    }

    /// One that the tests of this process share, while any of them runs. Nothing is done to its nodes.
    pub async fn shared() -> Arc<Cluster> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Cluster::start(&[]).await);
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// The same of any number.
    pub async fn of(size: usize, settings: &[&str]) -> Cluster {
        Cluster::started(|| Cluster::prepare(size, settings)).await
    }

    /// The same of three, each at its place in a network.
    pub async fn on(network: &Network, settings: &[&str]) -> Cluster {
        Cluster::started(|| {
            let mut cluster = Cluster::prepared(3, settings, network::address);
            for id in cluster.ids() {
                cluster.member_mut(id).serve.namespace = Some(network.namespace(id));
            }
            cluster
        })
        .await
    }

    async fn started(prepare: impl Fn() -> Cluster) -> Cluster {
        // Another process may take a port between the moment it was found free and the node's start.
        const ATTEMPTS: usize = 5;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let mut cluster = prepare();
            match cluster.start_all().await {
                Ok(()) => {
                    cluster.healed().await;
                    return cluster;
                }
                Err(exit) => last = Some(exit),
            }
        }
        let exit = last.expect("there were attempts");
        panic!("the cluster does not start: {}\n{}", exit.status, exit.stderr)
    }

    /// The directories and settings of nodes that do not run yet.
    pub fn prepare(size: usize, settings: &[&str]) -> Cluster {
        Cluster::prepared(size, settings, |_| Ipv4Addr::LOCALHOST)
    }

    fn prepared(size: usize, settings: &[&str], host: fn(usize) -> Ipv4Addr) -> Cluster {
        let directory = temporary_directory();
        let id = format!("test-{:08x}", rand::random_range(0..u32::MAX));
        let ports = free_ports(3 * size);
        let address = |index: usize, which: usize| {
            format!("{}:{}", host(index + 1), ports[3 * index + which])
        };
        let voters: Vec<String> =
            (0..size).map(|index| format!("{}@{}", index + 1, address(index, 0))).collect();
        let members = (0..size).map(|index| {
            let own = [
                format!("node.id={}", index + 1),
                format!("cluster.id={id}"),
                format!("controller.quorum.voters={}", voters.join(",")),
                format!("controller.listener={}", address(index, 0)),
                format!("http.listener={}", address(index, 2)),
                format!("default.replication.factor={}", size.min(3)),
                format!("min.insync.replicas={}", size.min(2)),
                // Few, because three nodes share the machine with the tests; not the same number everywhere.
                format!("shards={}", 1 + index % 2),
                "shutdown.timeout.ms=10000".to_owned(),
            ];
            let settings = own.into_iter().chain(settings.iter().map(|&setting| setting.into()));
            let listener = address(index, 1);
            Member {
                serve: Serve {
                    settings: settings.collect(),
                    listener: Some(listener.clone()),
                    ..Serve::default()
                },
                data: directory.path().join(format!("node-{}", index + 1)),
                address: listener,
                controller: address(index, 0),
                process: None,
                paused: false,
                said: Vec::new(),
            }
        });
        Cluster { members: members.collect(), directory: Some(directory), id }
    }

    /// Starts every node.
    ///
    /// # Errors
    /// The first that ended instead.
    pub async fn start_all(&mut self) -> Result<(), Exit> {
        let ids: Vec<i32> = self.ids().collect();
        self.try_restart(&ids).await
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn ids(&self) -> impl Iterator<Item = i32> + use<> {
        1..=self.members.len() as i32
    }

    /// Nodes that run and do not stand still.
    pub fn live(&self) -> Vec<i32> {
        let live = |id: &i32| {
            let member = self.member(*id);
            member.process.is_some() && !member.paused
        };
        self.ids().filter(live).collect()
    }

    fn member(&self, id: i32) -> &Member {
        &self.members[usize::try_from(id).expect("ids begin with 1") - 1]
    }

    fn member_mut(&mut self, id: i32) -> &mut Member {
        &mut self.members[usize::try_from(id).expect("ids begin with 1") - 1]
    }

    /// `host:port` of a node's gRPC listener, running or not.
    pub fn address(&self, id: i32) -> &str {
        &self.member(id).address
    }

    /// `host:port` of a node's controller listener.
    pub fn controller_address(&self, id: i32) -> &str {
        &self.member(id).controller
    }

    /// `host:port` of a node's HTTP listener, while it runs.
    pub fn http(&self, id: i32) -> &str {
        self.process(id).http()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    /// A node's data directory.
    pub fn data(&self, id: i32) -> &Path {
        &self.member(id).data
    }

    /// The settings with which a node is started, to be changed while it does not run.
    pub fn settings(&mut self, id: i32) -> &mut Vec<String> {
        &mut self.member_mut(id).serve.settings
    }

    /// Has a node that does not run listen by these names, of which one is for clients and one for controllers.
    pub fn set_listeners(&mut self, id: i32, listeners: &str) {
        let settings = self.settings(id);
        settings.retain(|setting| !setting.starts_with("controller.listener="));
        settings.push(format!("listeners={listeners}"));
    }

    /// Connects to a node; waits for it to listen.
    pub async fn server(&self, id: i32) -> Server {
        Server::at(self.address(id)).await
    }

    /// A connection that is made when it is used, and whose calls do not take long.
    pub fn channel(&self, id: i32) -> Channel {
        lazy(self.address(id))
    }

    /// The same, to the controller listener.
    pub fn controller_channel(&self, id: i32) -> Channel {
        lazy(self.controller_address(id))
    }

    fn process(&self, id: i32) -> &Process {
        self.member(id).process.as_ref().unwrap_or_else(|| panic!("node {id} does not run"))
    }

    fn take(&mut self, id: i32) -> Process {
        let member = self.member_mut(id);
        member.paused = false;
        member.process.take().unwrap_or_else(|| panic!("node {id} does not run"))
    }

    pub fn pid(&self, id: i32) -> u32 {
        self.process(id).pid()
    }

    /// `kill -9`; how it ended.
    pub fn kill(&mut self, id: i32) -> ExitStatus {
        self.take(id).kill()
    }

    /// `SIGSTOP`; returns when it stands still.
    pub async fn pause(&mut self, id: i32) {
        self.process(id).pause().await;
        self.member_mut(id).paused = true;
    }

    /// `SIGCONT`.
    pub fn resume(&mut self, id: i32) {
        self.process(id).resume();
        self.member_mut(id).paused = false;
    }

    pub fn is_paused(&self, id: i32) -> bool {
        self.member(id).paused
    }

    pub fn is_running(&self, id: i32) -> bool {
        self.member(id).process.is_some()
    }

    /// `SIGTERM`, and waits for the end.
    pub async fn terminate(&mut self, id: i32) -> ExitStatus {
        self.take(id).terminate().await
    }

    /// Waits until a node ends that nobody has asked to.
    pub async fn ended(&mut self, id: i32) -> Exit {
        self.take(id).ended_by_itself().await
    }

    /// Starts nodes that do not run, at the same moment: none may serve before a majority is there.
    ///
    /// # Errors
    /// The first that ended instead.
    pub async fn try_restart(&mut self, ids: &[i32]) -> Result<(), Exit> {
        let mut starting = Vec::new();
        for &id in ids {
            let member = self.member_mut(id);
            assert!(member.process.is_none(), "node {id} runs");
            starting.push((id, member.spawn()));
        }
        for (id, starting) in starting {
            self.member_mut(id).process = Some(starting.done().await?);
        }
        Ok(())
    }

    /// Starts nodes that do not run.
    pub async fn restart(&mut self, ids: &[i32]) {
        if let Err(exit) = self.try_restart(ids).await {
            panic!("a node does not start again: {}\n{}", exit.status, exit.stderr);
        }
    }

    /// Starts a node that cannot be one of this cluster, and waits until it ends by itself: at once, or when the
    /// others have told it why.
    pub async fn start_in_vain(&mut self, id: i32) -> Exit {
        match self.try_restart(&[id]).await {
            Err(exit) => exit,
            Ok(()) => self.take(id).ended_by_itself().await,
        }
    }

    /// Starts a node and kills it `after` a while, wherever it is in its start by then.
    pub async fn start_and_kill(&mut self, id: i32, after: Duration) {
        let starting = self.member_mut(id).spawn();
        // Chance decides how far it comes; nothing is waited for.
        tokio::time::sleep(after).await;
        drop(starting);
    }

    /// Whatever was done to them: all run, and none stands still.
    pub async fn heal(&mut self) {
        let paused: Vec<i32> = self.ids().filter(|&id| self.is_paused(id)).collect();
        paused.into_iter().for_each(|id| self.resume(id));
        let down: Vec<i32> = self.ids().filter(|&id| !self.is_running(id)).collect();
        self.restart(&down).await;
    }

    /// Stops all nodes gracefully, at the same time: alone the last ones would have no majority to ask.
    pub async fn stop(&mut self) -> Vec<ExitStatus> {
        let processes: Vec<Process> =
            self.members.iter_mut().filter_map(|member| member.process.take()).collect();
        processes.iter().for_each(Process::ask_to_stop);
        let mut statuses = Vec::new();
        for process in processes {
            statuses.push(process.ended().await);
        }
        statuses
    }

    /// How the cluster looks to the first live node that answers.
    ///
    /// # Errors
    /// What the last of them said instead.
    pub async fn describe(&self) -> Result<Picture, String> {
        let mut last = "no node runs".to_owned();
        for id in self.live() {
            match self.describe_as(id).await {
                Ok(picture) => return Ok(picture),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// How the cluster looks to one node.
    ///
    /// # Errors
    /// What it said instead.
    pub async fn describe_as(&self, id: i32) -> Result<Picture, String> {
        let picture = Picture::ask(self.channel(id)).await;
        picture.map_err(|status| format!("node {id}: {}: {}", status.code(), status.message()))
    }

    /// Waits until every node sees all nodes unfenced, every ISR full and every partition led, and all see
    /// the same.
    pub async fn healed(&self) -> Picture {
        eventually_or_why("the cluster is whole", async || {
            let mut first: Option<Picture> = None;
            for id in self.ids() {
                let picture = self.describe_as(id).await?;
                picture.wholeness(self.members.len()).map_err(|why| format!("node {id}: {why}"))?;
                match &first {
                    Some(first) if first.partitions != picture.partitions => {
                        return Err(format!("node {id} sees other partitions than the first"));
                    }
                    Some(_) => {}
                    None => first = Some(picture),
                }
            }
            first.ok_or_else(|| "there are no nodes".to_owned())
        })
        .await
    }

    /// How often the nodes, in all their lives, have said something.
    pub fn times_said(&self, what: &str) -> usize {
        let lives = self.members.iter().flat_map(|member| &member.said);
        lives.map(|said| said.so_far().matches(what).count()).sum()
    }

    /// The last lines that each life of each node wrote.
    pub fn said(&self) -> String {
        const LINES: usize = 40;
        let mut text = String::new();
        for id in self.ids() {
            for (life, said) in (1..).zip(&self.member(id).said) {
                let said = said.so_far();
                let lines: Vec<&str> = said.lines().collect();
                text.push_str(&format!("-- node {id}, life {life}, {} lines:\n", lines.len()));
                for line in &lines[lines.len().saturating_sub(LINES)..] {
                    text.push_str(&format!("   {line}\n"));
                }
            }
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("{}", self.said());
        }
        // The processes first: they write to the directories.
        let said: Vec<_> = self
            .members
            .drain(..)
            .map(|member| (member.data, member.said, drop(member.process)))
            .collect();
        if failed && std::env::var_os("TROUPE_TEST_KEEP").is_some() {
            let Some(directory) = self.directory.take() else { return };
            let kept = directory.keep();
            for (data, said, ()) in said {
                let text: String = said.iter().map(Captured::so_far).collect();
                // It helps whoever looks; the test has failed already.
                let _ = fs::write(data.with_extension("log"), text);
            }
            eprintln!("kept in {}", kept.display());
        }
    }
}

impl Member {
    fn spawn(&mut self) -> Starting {
        let starting = Starting::spawn(&self.data, &self.serve);
        self.said.push(starting.said());
        starting
    }
}

fn lazy(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.expect("an address is host:port");
    endpoint.connect_timeout(CALL).timeout(CALL).connect_lazy()
}

#[test]
fn a_port_is_given_once() {
    // Of 20,001 ports so many would come twice by chance, but for one time in a hundred thousand.
    let mut ports: Vec<u16> = (0..100).flat_map(|_| free_ports(7)).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 700);
}

//! The nodes: started together, killed, stopped and started each for itself, and given faults.

use crate::load::Load;
use crate::ports::free_ports;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use troupe_broker::{Node, NodeConfig, StartError};
use troupe_chaos::{LoadConfig, Session, Source};
use troupe_client::proto::admin::v1::{CreateTopicRequest, PartitionFilter};
use troupe_client::proto::chaos::v1alpha1::node_fault::Kind;
use troupe_client::proto::chaos::v1alpha1::{
    Cut, Fault, InjectFaultRequest, KillMode, NodeFault, Pause, SlowDisk, StartFaultRequest,
};
use troupe_client::proto::ids::NodeId;
use troupe_client::{Admin, Client, ClientConfig, ClientError};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Whatever is waited for and has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nodes with the ids 1 to n, all of them brokers and voters.
pub struct Cluster {
    members: Vec<Member>,
    client: Client,
    /// Of the load that runs, if one does: it is told of faults.
    session: Mutex<Weak<Session>>,
    // Behind the nodes, so that it is dropped after them.
    _directory: TempDir,
}

struct Member {
    settings: Vec<String>,
    server: String,
    node: Option<Node>,
}

impl Cluster {
    /// Three nodes, three replicas of each topic, of which two have to be in sync.
    ///
    /// # Panics
    /// As all calls here, if it cannot be done.
    pub async fn start() -> Cluster {
        Cluster::of(3, &[]).await
    }

    /// The same of any number, with settings `key=value` for every node.
    ///
    /// # Panics
    /// If it cannot be done.
    pub async fn of(size: usize, settings: &[&str]) -> Cluster {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let ports = free_ports(3 * size);
        let address =
            |index: usize, which: usize| format!("127.0.0.1:{}", ports[3 * index + which]);
        let voters: Vec<String> =
            (0..size).map(|index| format!("{}@{}", index + 1, address(index, 0))).collect();
        let members = (0..size).map(|index| {
            let own = [
                format!("node.id={}", index + 1),
                "cluster.id=testkit".to_owned(),
                format!("controller.quorum.voters={}", voters.join(",")),
                format!("controller.listener={}", address(index, 0)),
                format!("listener={}", address(index, 1)),
                format!("http.listener={}", address(index, 2)),
                format!(
                    "log.dir={}",
                    directory.path().join(format!("node-{}", index + 1)).display()
                ),
                format!("default.replication.factor={}", size.min(3)),
                format!("min.insync.replicas={}", size.min(2)),
                "controlled.shutdown.timeout.ms=5s".to_owned(),
                "chaos.enable=true".to_owned(),
            ];
            let settings =
                own.into_iter().chain(settings.iter().map(|&setting| setting.to_owned()));
            Member { settings: settings.collect(), server: address(index, 1), node: None }
        });
        let mut members: Vec<Member> = members.collect();
        // At the same time: none serves before most of them are there.
        let starting: Vec<_> =
            members.iter().map(|member| started(member.settings.clone())).collect();
        for (member, starting) in members.iter_mut().zip(starting) {
            member.node =
                Some(starting.await.unwrap_or_else(|why| panic!("a node does not start: {why}")));
        }
        let config = ClientConfig::new(members.iter().map(|member| member.server.clone()));
        let client = Client::connect(config).await;
        let client = client.unwrap_or_else(|why| panic!("no node answers: {why}"));
        let cluster = Cluster { members, client, session: Mutex::default(), _directory: directory };
        cluster.healed().await;
        cluster
    }

    /// `host:port` of each node.
    pub fn servers(&self) -> Vec<String> {
        self.members.iter().map(|member| member.server.clone()).collect()
    }

    /// One that is connected.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// # Panics
    /// If it cannot be made.
    pub async fn create_topic(&self, name: &str, partitions: u32) {
        let request = CreateTopicRequest {
            name: name.to_owned(),
            partitions: Some(i32::try_from(partitions).unwrap_or(i32::MAX)),
            ..CreateTopicRequest::default()
        };
        let created = self.client.admin().create_topic(request).await;
        created.unwrap_or_else(|why| panic!("topic {name} cannot be made: {why}"));
    }

    /// Waits until somebody leads it.
    ///
    /// # Panics
    /// If nobody does.
    pub async fn leader_of(&self, topic: &str, partition: u32) -> i32 {
        self.eventually(&format!("somebody leads {topic}:{partition}"), async || {
            let admin = self.client.admin();
            let partitions = admin.list_partitions(Some(topic), PartitionFilter::Unspecified);
            let found = partitions.await.ok()?;
            let found =
                found.into_iter().find(|one| i64::from(one.partition) == i64::from(partition));
            found?.leader_id
        })
        .await
    }

    /// The node that coordinates a group.
    ///
    /// # Panics
    /// If none does.
    pub async fn coordinator_of(&self, group: &str) -> i32 {
        self.eventually(&format!("somebody coordinates {group}"), async || {
            self.client.admin().find_coordinator(group).await.ok().map(|found| found.node_id)
        })
        .await
    }

    /// Begins to send and read records; [`Load::end`] says what was felt. Returns when records flow. One at a time is told
    /// of the faults that come.
    ///
    /// # Panics
    /// If they do not flow.
    pub async fn load(&self, config: LoadConfig) -> Load {
        let session = Session::start(&self.client, &Source::Load(config)).await;
        let session = Arc::new(session.unwrap_or_else(|why| panic!("{why}")));
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&session);
        Load::new(session)
    }

    /// A node is gone without a goodbye, as with `kill -9`, with the records that it had not written to its disk.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill_node(&mut self, node: i32) {
        let number = self.begins("kill", &format!("node/{node}"));
        let taken = self.taken(node);
        joined(spawn_blocking(move || taken.kill())).await;
        self.ended(number, None);
    }

    /// A node stops as with SIGTERM: others take over first.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn stop_node(&mut self, node: i32) {
        let number = self.begins("stop", &format!("node/{node}"));
        let taken = self.taken(node);
        joined(spawn_blocking(move || taken.stop())).await;
        self.ended(number, None);
    }

    /// A node that was killed or stopped comes back, with what it had on its disk.
    ///
    /// # Panics
    /// If it runs, or cannot.
    pub async fn start_node(&mut self, node: i32) {
        let member = self.member(node);
        assert!(member.node.is_none(), "node {node} runs");
        let started = started(member.settings.clone()).await;
        member.node =
            Some(started.unwrap_or_else(|why| panic!("node {node} does not start: {why}")));
    }

    /// Whoever leads the partition loses its memory; its node builds it again from disk. Returns when it serves.
    ///
    /// # Panics
    /// If it cannot be done.
    pub async fn kill_leader(&self, topic: &str, partition: u32) {
        let (node, address) = self.leading_actor(topic, partition).await;
        let killed = async { self.admin(node).await?.kill_actor(&address, KillMode::Stop).await };
        self.felt("kill", &address, killed).await;
    }

    /// Whoever leads the partition handles nothing for so long. Returns when it serves again.
    ///
    /// # Panics
    /// If it cannot be done.
    pub async fn pause_leader(&self, topic: &str, partition: u32, duration: Duration) {
        let (node, address) = self.leading_actor(topic, partition).await;
        let request = InjectFaultRequest {
            address: address.clone(),
            fault: Fault::Pause.into(),
            duration_ms: millis(duration),
            ..InjectFaultRequest::default()
        };
        let paused = async { self.admin(node).await?.inject_fault(request).await };
        self.felt("pause", &address, paused).await;
    }

    /// A node stands still, as after SIGSTOP. Returns when that is over.
    ///
    /// # Panics
    /// If it cannot be done.
    pub async fn pause_node(&self, node: i32, duration: Duration) {
        self.afflict(node, "pause", Kind::Pause(Pause {}), duration).await;
    }

    /// Nothing passes between a node and all others; clients reach it still. Returns when that is over.
    ///
    /// # Panics
    /// If it cannot be done.
    pub async fn cut_off(&self, node: i32, duration: Duration) {
        let number = self.begins("cut", &format!("node/{node}"));
        for one in 1..=i32::try_from(self.members.len()).unwrap_or(i32::MAX) {
            let node_ids = if one == node { Vec::new() } else { vec![node] };
            self.start_fault(one, Kind::Cut(Cut { node_ids, ..Cut::default() }), duration).await;
        }
        sleep(duration).await;
        self.ended(number, None);
    }

    /// Each flush of a node's disks takes so much longer. Returns when that is over.
    ///
    /// # Panics
    /// If it cannot be done.
    pub async fn slow_disk(&self, node: i32, delay: Duration, duration: Duration) {
        let slow = SlowDisk { delay_ms: millis(delay), ..SlowDisk::default() };
        self.afflict(node, "slow-disk", Kind::SlowDisk(slow), duration).await;
    }

    async fn afflict(&self, node: i32, name: &str, kind: Kind, duration: Duration) {
        let number = self.begins(name, &format!("node/{node}"));
        self.start_fault(node, kind, duration).await;
        sleep(duration).await;
        self.ended(number, None);
    }

    /// Waits until all nodes are there, everything is led and in sync.
    ///
    /// # Panics
    /// If that does not come.
    pub async fn healed(&self) {
        let size = self.members.len();
        self.eventually("all nodes are there and everything in sync", async || {
            let cluster = self.client.admin().get_cluster().await.ok()?;
            let active = cluster.nodes.iter().filter(|node| !node.fenced && !node.shutting_down);
            let whole = active.count() == size
                && cluster.controller_id >= 0
                && cluster.offline_partition_count == 0
                && cluster.under_replicated_partition_count == 0;
            whole.then_some(())
        })
        .await;
    }

    /// Waits for something to be there.
    pub(crate) async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let looking = async {
            loop {
                match look().await {
                    Some(found) => return found,
                    None => sleep(LOOK).await,
                }
            }
        };
        let found = timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("not within {} s: {what}", PATIENCE.as_secs()))
    }

    fn member(&mut self, node: i32) -> &mut Member {
        let index = usize::try_from(node - 1).unwrap_or(usize::MAX);
        self.members.get_mut(index).unwrap_or_else(|| panic!("there is no node {node}"))
    }

    fn taken(&mut self, node: i32) -> Node {
        self.member(node).node.take().unwrap_or_else(|| panic!("node {node} does not run"))
    }

    async fn admin(&self, node: i32) -> Result<Admin, ClientError> {
        self.client.admin_of(NodeId(node)).await
    }

    async fn leading_actor(&self, topic: &str, partition: u32) -> (i32, String) {
        let end = format!("/partition/{topic}/{partition}");
        self.eventually(&format!("there is an actor that ends with {end}"), async || {
            let node = self.leader_of(topic, partition).await;
            let actors =
                self.admin(node).await.ok()?.list_actors(&format!("node/{node}/")).await.ok()?;
            let found = actors.into_iter().find(|actor| actor.address.ends_with(&end))?;
            Some((node, found.address))
        })
        .await
    }

    async fn start_fault(&self, node: i32, kind: Kind, duration: Duration) {
        let request = StartFaultRequest {
            fault: Some(NodeFault { kind: Some(kind) }),
            duration_ms: millis(duration),
            ..StartFaultRequest::default()
        };
        let started = async { self.admin(node).await?.start_fault(request).await };
        started.await.unwrap_or_else(|why| panic!("node {node} takes no fault: {why}"));
    }

    async fn felt<T>(
        &self,
        kind: &str,
        whom: &str,
        fault: impl Future<Output = Result<T, ClientError>>,
    ) {
        let number = self.begins(kind, whom);
        let outcome = fault.await;
        self.ended(number, outcome.as_ref().err().map(ToString::to_string));
        outcome.unwrap_or_else(|why| panic!("{kind} {whom}: {why}"));
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    fn begins(&self, kind: &str, whom: &str) -> Option<u64> {
        self.session().map(|session| session.fault_begins(kind, whom))
    }

    fn ended(&self, number: Option<u64>, error: Option<String>) {
        if let (Some(session), Some(number)) = (self.session(), number) {
            session.fault_ended(number, error);
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Begins at once, whether it is waited for or not.
fn started(settings: Vec<String>) -> impl Future<Output = Result<Node, StartError>> {
    let config = NodeConfig::load(None, [], &settings);
    let config = config.unwrap_or_else(|why| panic!("settings make no sense: {why}"));
    joined(spawn_blocking(move || Node::start(config)))
}

async fn joined<T>(task: tokio::task::JoinHandle<T>) -> T {
    task.await.unwrap_or_else(|why| std::panic::resume_unwind(why.into_panic()))
}

//! S1: several log directories on a node, of which one fails, at its start or while it runs: only what is in it goes
//! to others, nobody else notices, and nothing is lost.

mod at_start;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::{
    AlterReplicaLogDirsRequest, CreateTopicRequest, DescribeLogDirsRequest,
    DescribeLogDirsResponse, GetHealthRequest, HealthReasonKind, PartitionState, ReplicaLogDir,
    ReplicaMoveState, TopicPartitions,
};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::v1::PublishRequest;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_tests::{Cluster, Mount, Sample, eventually, eventually_or_why, http_get, skip, troupe};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 6;
/// The node whose disk fails.
const FAILING: i32 = 1;
const OTHERS: [i32; 2] = [2, 3];

/// Three nodes with two directories each; the second one of the failing node is this one.
struct Disks {
    cluster: Cluster,
    second: PathBuf,
}

impl Disks {
    async fn start(second: Option<&Path>) -> Disks {
        Disks::start_with(second, &[]).await
    }

    async fn start_with(second: Option<&Path>, settings: &[&str]) -> Disks {
        // The samples are of 1970: retention would take them if a test goes on for half a minute.
        let usual = ["log.checkpoint.interval.ms=200", "log.retention.ms=-1"];
        let settings = [&usual, settings].concat();
        let mut cluster = Cluster::prepare(3, &settings);
        let mut failing = PathBuf::new();
        for id in cluster.ids() {
            let data = cluster.data(id).to_owned();
            let second = second.filter(|_| id == FAILING).map(|path| path.join("logs"));
            let second = second.unwrap_or_else(|| data.join("two"));
            let first = data.join("one");
            cluster.settings(id).push(format!("log.dirs={},{}", first.display(), second.display()));
            if id == FAILING {
                failing = second;
            }
        }
        if let Err(exit) = cluster.start_all().await {
            panic!("the cluster does not start: {}\n{}", exit.status, exit.stderr);
        }
        cluster.healed().await;
        let disks = Disks { cluster, second: failing };
        let request = CreateTopicRequest {
            name: TOPIC.to_owned(),
            partitions: Some(PARTITIONS),
            replication_factor: Some(3),
            ..Default::default()
        };
        let controller = disks.cluster.healed().await.controller;
        let server = disks.cluster.server(controller).await;
        server.topics().create_topic(request).await.unwrap();
        disks.cluster.healed().await;
        disks
    }

    async fn partitions(&self) -> BTreeMap<i32, PartitionState> {
        let picture = self.cluster.describe_as(OTHERS[0]).await.unwrap();
        let ours = picture.partitions.into_iter().filter(|one| one.topic == TOPIC);
        ours.map(|one| (one.partition, one)).collect()
    }

    /// Those in the failing directory.
    fn hit(&self) -> BTreeSet<i32> {
        let names = fs::read_dir(&self.second).unwrap().map(|entry| entry.unwrap().file_name());
        let prefix = format!("{TOPIC}-");
        let number = |name: std::ffi::OsString| name.to_str()?.strip_prefix(&prefix)?.parse().ok();
        names.filter_map(number).collect()
    }

    /// Waits until what is in the failing directory is led and in sync elsewhere; all else is as it was before.
    async fn moved(&self, before: &BTreeMap<i32, PartitionState>, hit: &BTreeSet<i32>) {
        eventually_or_why("its partitions are led and in sync elsewhere", async || {
            let now = self.partitions().await;
            let left = |number: &i32| {
                let one = &now[number];
                one.leader_id.is_some_and(|leader| leader != FAILING)
                    && !one.in_sync_replicas.contains(&FAILING)
            };
            match hit.iter().all(left) {
                true => Ok(()),
                false => Err(format!("{now:?}\n{}", self.cluster.said())),
            }
        })
        .await;
        let now = self.partitions().await;
        for (number, one) in before {
            if !hit.contains(number) {
                let seen = |one: &PartitionState| {
                    (one.leader_id, one.leader_epoch, one.in_sync_replicas.len())
                };
                assert_eq!(seen(&now[number]), seen(one), "partition {number} noticed");
            } else if one.leader_id != Some(FAILING) {
                assert_eq!(now[number].leader_id, one.leader_id, "partition {number}");
            }
        }
    }

    /// What the node itself, its metrics and the log say.
    async fn told(&self) {
        let mut stub = ClusterServiceClient::new(self.cluster.channel(FAILING));
        // Partitions fail one by one, and go, before it is found that it is all of the directory.
        let reason = eventually_or_why("the directory is known to be offline", async || {
            let health = stub.get_health(GetHealthRequest {}).await.unwrap().into_inner();
            let kind = HealthReasonKind::OfflineLogDirectories;
            let found = health.reasons.iter().find(|reason| reason.kind() == kind).cloned();
            found.ok_or_else(|| format!("{:?}", health.reasons))
        })
        .await;
        assert!(reason.message.contains(self.second.to_str().unwrap()), "{}", reason.message);
        let (_, metrics) = http_get(self.cluster.http(FAILING), "/metrics").await;
        let line = format!("troupe_offline_log_directories{{node=\"{FAILING}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
        assert_eq!(self.cluster.times_said("a log directory is offline"), 1);
    }

    /// Everything that was acknowledged is there, at one offset each.
    async fn nothing_is_lost(&self, load: Load) {
        let acknowledged = load.stop().await;
        self.cluster.healed().await;
        let server = self.cluster.server(OTHERS[1]).await;
        for partition in 0..PARTITIONS {
            let stored = server.read_all(TOPIC, partition).await;
            let stored: BTreeMap<_, _> = stored.into_iter().collect();
            for (offset, sample) in &acknowledged[&partition] {
                let told =
                    || format!("partition {partition}, offset {offset}: {:?}", stored.keys());
                assert_eq!(stored.get(offset), Some(sample), "{}", told());
            }
            assert!(!acknowledged[&partition].is_empty(), "partition {partition}");
        }
    }
}

/// By partition: records and where they are.
type Acknowledged = BTreeMap<i32, Vec<(i64, Sample)>>;

/// Somebody who publishes to every partition, through a node whose disks are in order.
struct Load {
    acknowledged: Arc<Mutex<Acknowledged>>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    fn start(cluster: &Cluster) -> Load {
        let (acknowledged, over) = (Arc::<Mutex<Acknowledged>>::default(), Arc::default());
        let (noted, ends) = (Arc::clone(&acknowledged), Arc::<AtomicBool>::clone(&over));
        let mut bus = EventBusServiceClient::new(cluster.channel(OTHERS[0]));
        let task = tokio::spawn(async move {
            for n in 0.. {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let partition = n % PARTITIONS;
                let sample = Sample::of(format!("record {n}"), 1);
                let records = vec![sample.to_record(partition)];
                let request =
                    PublishRequest { topic: TOPIC.to_owned(), records, ..Default::default() };
                // Whatever is refused, or not known, was not acknowledged.
                let Ok(answer) = bus.publish(request).await else { continue };
                let offset = answer.into_inner().results[0].offset;
                noted.lock().unwrap().entry(partition).or_default().push((offset, sample));
            }
        });
        Load { acknowledged, over, task }
    }

    /// Every partition has acknowledged more than it had.
    async fn goes_on(&self) {
        let count = || -> Vec<usize> {
            let acknowledged = self.acknowledged.lock().unwrap();
            (0..PARTITIONS).map(|one| acknowledged.get(&one).map_or(0, Vec::len)).collect()
        };
        let before = count();
        eventually_or_why("every partition takes records", async || {
            let now = count();
            let all = now.iter().zip(&before).all(|(now, before)| now > before);
            if all { Ok(()) } else { Err(format!("{before:?}, {now:?}")) }
        })
        .await;
    }

    async fn stop(self) -> Acknowledged {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

/// The directory fails while the node runs, and is in order when it starts again.
async fn fails_while_it_runs(disks: &mut Disks, fail: impl FnOnce(), mend: impl FnOnce()) {
    let load = Load::start(&disks.cluster);
    load.goes_on().await;
    let (before, hit) = (disks.partitions().await, disks.hit());
    assert!(!hit.is_empty() && hit.len() < PARTITIONS as usize, "{hit:?}");
    fail();
    disks.moved(&before, &hit).await;
    load.goes_on().await;
    disks.told().await;
    disks.cluster.kill(FAILING);
    mend();
    load.goes_on().await;
    disks.cluster.restart(&[FAILING]).await;
    disks.cluster.healed().await;
    load.goes_on().await;
    disks.nothing_is_lost(load).await;
}

#[tokio::test]
async fn new_partitions_go_to_the_directory_with_the_fewest() {
    let disks = Disks::start(None).await;
    let load = Load::start(&disks.cluster);
    load.goes_on().await;
    load.stop().await;
    for id in disks.cluster.ids() {
        for name in ["one", "two"] {
            let path = disks.cluster.data(id).join(name);
            let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
            let ours = entries.filter(|name| name.to_string_lossy().starts_with(TOPIC)).count();
            assert_eq!(ours, PARTITIONS as usize / 2, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_directory_that_vanishes_takes_its_own_partitions_and_nothing_acknowledged() {
    let mut disks = Disks::start(None).await;
    let (second, away) = (disks.second.clone(), disks.second.with_extension("away"));
    fails_while_it_runs(
        &mut disks,
        || fs::rename(&second, &away).unwrap(),
        || fs::rename(&away, &second).unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_directory_that_becomes_read_only_takes_its_own_partitions_and_nothing_acknowledged() {
    let mount = match Mount::ext4(256 << 20) {
        Ok(mount) => mount,
        Err(error) => {
            let name = "a_directory_that_becomes_read_only_takes_its_own_partitions_and_nothing_acknowledged";
            return skip(name, &format!("cannot mount: {error}"));
        }
    };
    let mut disks = Disks::start(Some(mount.path())).await;
    fails_while_it_runs(
        &mut disks,
        || mount.turn_read_only().unwrap(),
        || mount.mount_again().unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_directory_whose_disk_fails_takes_its_own_partitions_and_nothing_acknowledged() {
    let mount = match Mount::ext4(256 << 20) {
        Ok(mount) => mount,
        Err(error) => {
            let name =
                "a_directory_whose_disk_fails_takes_its_own_partitions_and_nothing_acknowledged";
            return skip(name, &format!("cannot mount: {error}"));
        }
    };
    let mut disks = Disks::start(Some(mount.path())).await;
    fails_while_it_runs(
        &mut disks,
        || mount.break_down().unwrap(),
        || mount.mount_again().unwrap(),
    )
    .await;
}

/// Without the directory of its metadata a node is none.
#[tokio::test]
async fn a_node_that_loses_the_directory_of_its_metadata_stops_and_says_so() {
    let mut disks = Disks::start(None).await;
    let first = disks.cluster.data(FAILING).join("one");
    fs::rename(&first, first.with_extension("away")).unwrap();
    let exit = disks.cluster.ended(FAILING).await;
    assert!(!exit.status.success());
    let said = exit.stderr;
    assert!(said.contains("the directory of its metadata has failed"), "{said}");
    assert!(said.contains(first.to_str().unwrap()), "{said}");
    fs::rename(first.with_extension("away"), &first).unwrap();
    disks.cluster.restart(&[FAILING]).await;
    disks.cluster.healed().await;
}

/// What is gone for good is taken from `log.dirs`, and filled again into what is left.
#[tokio::test]
async fn partitions_of_a_directory_that_is_named_no_more_are_filled_again_elsewhere() {
    let mut disks = Disks::start(None).await;
    let load = Load::start(&disks.cluster);
    load.goes_on().await;
    let hit = disks.hit();
    disks.cluster.kill(FAILING);
    fs::remove_dir_all(&disks.second).unwrap();
    let first = disks.cluster.data(FAILING).join("one");
    let settings = disks.cluster.settings(FAILING);
    settings.retain(|setting| !setting.starts_with("log.dirs="));
    settings.push(format!("log.dirs={}", first.display()));
    disks.cluster.restart(&[FAILING]).await;
    disks.cluster.healed().await;
    for number in hit {
        assert!(first.join(format!("{TOPIC}-{number}")).is_dir(), "partition {number}");
    }
    disks.nothing_is_lost(load).await;
}

#[tokio::test]
async fn directories_in_another_order_do_not_begin_a_node_anew() {
    let mut disks = Disks::start(None).await;
    disks.cluster.kill(FAILING);
    let data = disks.cluster.data(FAILING).to_owned();
    let order = |first: &str, second: &str| {
        format!("log.dirs={},{}", data.join(first).display(), data.join(second).display())
    };
    disks.cluster.settings(FAILING).push(order("two", "one"));
    let exit = disks.cluster.start_in_vain(FAILING).await;
    assert!(exit.stderr.contains("metadata.log.dir"), "{}", exit.stderr);
    let metadata = format!("metadata.log.dir={}", data.join("one").display());
    disks.cluster.settings(FAILING).push(metadata);
    disks.cluster.restart(&[FAILING]).await;
    disks.cluster.healed().await;
}

impl Disks {
    async fn describe(&self, partitions: Vec<TopicPartitions>) -> DescribeLogDirsResponse {
        let mut stub = ClusterServiceClient::new(self.cluster.channel(FAILING));
        stub.describe_log_dirs(DescribeLogDirsRequest { partitions }).await.unwrap().into_inner()
    }

    /// Asks the failing node for one move; why it is not taken.
    async fn move_to(&self, topic: &str, partition: i32, path: &Path) -> Option<Error> {
        let path = path.display().to_string();
        let replicas = vec![ReplicaLogDir { topic: topic.to_owned(), partition, path }];
        let mut stub = ClusterServiceClient::new(self.cluster.channel(FAILING));
        let request = AlterReplicaLogDirsRequest { replicas };
        let answer = stub.alter_replica_log_dirs(request).await.unwrap().into_inner();
        answer.results[0].error.clone().map(Error::from)
    }

    /// Where the replica is that serves.
    async fn place(&self, partition: i32) -> Option<PathBuf> {
        let described = self.describe(Vec::new()).await;
        let holds = |path: &&troupe_proto::admin::v1::LogDir| {
            let replicas = path.replicas.iter();
            let mut ours = replicas.filter(|it| it.topic == TOPIC && it.partition == partition);
            ours.any(|replica| !replica.is_future && replica.size_bytes > 0)
        };
        described.log_dirs.iter().find(holds).map(|found| PathBuf::from(&found.path))
    }

    async fn moved_to(&self, partition: i32, path: &Path) {
        eventually_or_why("the replica is there", async || {
            let described = self.describe(Vec::new()).await;
            let there = described.moves.is_empty()
                && self.place(partition).await.as_deref() == Some(path)
                && !path.with_file_name("one").join(format!("{TOPIC}-{partition}")).exists();
            if there { Ok(()) } else { Err(format!("{described:?}")) }
        })
        .await;
    }
}

/// A leader's and a follower's, at the same time as records come; and it is still there after a restart.
#[tokio::test]
async fn a_replica_moves_between_directories_while_it_serves() {
    let mut disks = Disks::start(None).await;
    let load = Load::start(&disks.cluster);
    load.goes_on().await;
    let (before, hit) = (disks.partitions().await, disks.hit());
    let all: BTreeSet<i32> = (0..PARTITIONS).collect();
    let moving: Vec<i32> = all.difference(&hit).copied().collect();
    let (by_command, others) = moving.split_first().unwrap();
    for partition in others {
        assert_eq!(disks.move_to(TOPIC, *partition, &disks.second).await, None);
    }
    let (named, node) = (format!("{TOPIC}:{by_command}"), FAILING.to_string());
    let second = disks.second.to_str().unwrap();
    let command = ["partition", "move-dir", &named, "--node", &node, "--to", second, "--wait"];
    let output = troupe(disks.cluster.address(OTHERS[0]), &command).await;
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("moved"), "{output:?}");
    assert_eq!(disks.place(*by_command).await.as_deref(), Some(&*disks.second), "it has waited");
    for partition in &moving {
        disks.moved_to(*partition, &disks.second).await;
    }
    load.goes_on().await;
    let epochs = |partitions: &BTreeMap<i32, PartitionState>| -> Vec<_> {
        partitions.values().map(|one| (one.leader_id, one.leader_epoch)).collect()
    };
    assert_eq!(epochs(&disks.partitions().await), epochs(&before), "nobody noticed");
    assert_eq!(disks.hit(), all);
    disks.cluster.kill(FAILING);
    load.goes_on().await;
    disks.cluster.restart(&[FAILING]).await;
    disks.cluster.healed().await;
    assert_eq!(disks.hit(), all, "and stays there");
    assert_eq!(disks.cluster.times_said("the log is damaged"), 0, "{}", disks.cluster.said());
    let output = troupe(disks.cluster.address(OTHERS[0]), &["node", "logdirs", "-o", "json"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(disks.second.to_str().unwrap()), "{text}");
    disks.nothing_is_lost(load).await;
}

/// However far it was, the replica is where it was, and what was copied is gone; then it moves all the same.
#[tokio::test]
async fn a_move_that_is_killed_leaves_the_replica_where_it_was() {
    let slow = "replica.alter.log.dirs.io.max.bytes.per.second=100000";
    let mut disks = Disks::start_with(None, &[slow]).await;
    let server = disks.cluster.server(OTHERS[0]).await;
    let load = Load::start(&disks.cluster);
    load.goes_on().await;
    load.stop().await;
    let partition = (0..PARTITIONS).find(|one| !disks.hit().contains(one)).unwrap();
    for n in 0..8u8 {
        let records = vec![Sample::of(vec![n; 500_000], 1).to_record(partition)];
        let request = PublishRequest { topic: TOPIC.to_owned(), records, ..Default::default() };
        server.bus().publish(request).await.unwrap();
    }
    disks.cluster.healed().await;
    let stored = server.read_all(TOPIC, partition).await;
    let first = disks.cluster.data(FAILING).join("one");
    assert_eq!(disks.place(partition).await, Some(first.clone()));
    assert_eq!(disks.move_to(TOPIC, partition, &disks.second).await, None);
    eventually("it is being copied, and how far is told", async || {
        let described = disks.describe(Vec::new()).await;
        let copying = described.moves.iter().any(|one| {
            one.state() == ReplicaMoveState::Copying
                && one.copied_bytes > 0
                && one.remaining_bytes > 0
        });
        let mut replicas = described.log_dirs.iter().flat_map(|one| &one.replicas);
        let future = replicas.any(|one| one.is_future && one.size_bytes > 0);
        (copying && future).then_some(())
    })
    .await;
    let busy = disks.move_to(TOPIC, partition, &first).await.unwrap();
    assert_eq!(busy.code, ErrorCode::InvalidRequest, "{busy}");
    disks.cluster.kill(FAILING);
    let settings = disks.cluster.settings(FAILING);
    settings.retain(|setting| setting != slow);
    disks.cluster.restart(&[FAILING]).await;
    disks.cluster.healed().await;
    assert_eq!(disks.place(partition).await, Some(first));
    eventually("what was copied is gone", async || {
        let names = fs::read_dir(&disks.second).unwrap().map(|entry| entry.unwrap().file_name());
        let mut futures = names.filter(|name| name.to_string_lossy().ends_with("-future"));
        futures.next().is_none().then_some(())
    })
    .await;
    assert_eq!(disks.move_to(TOPIC, partition, &disks.second).await, None);
    disks.moved_to(partition, &disks.second).await;
    disks.cluster.healed().await;
    assert_eq!(server.read_all(TOPIC, partition).await, stored);
}

#[tokio::test]
async fn a_move_that_makes_no_sense_is_refused_and_changes_nothing() {
    let disks = Disks::start(None).await;
    let load = Load::start(&disks.cluster);
    load.goes_on().await;
    load.stop().await;
    let (hit, first) = (disks.hit(), disks.cluster.data(FAILING).join("one"));
    let (there, here) =
        (*hit.first().unwrap(), (0..PARTITIONS).find(|one| !hit.contains(one)).unwrap());
    let elsewhere = Path::new("/nowhere/at/all");
    for (topic, partition, path, code, told) in [
        (TOPIC, here, elsewhere, ErrorCode::InvalidRequest, "is not in log.dirs"),
        (TOPIC, there, &disks.second, ErrorCode::InvalidRequest, "already"),
        (TOPIC, 99, &disks.second, ErrorCode::UnknownPartition, "no partition 99"),
        ("nothing", 0, &disks.second, ErrorCode::UnknownTopic, "does not exist"),
    ] {
        let error = disks.move_to(topic, partition, path).await.unwrap();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(told), "{error}");
    }
    let away = disks.second.with_extension("away");
    fs::rename(&disks.second, &away).unwrap();
    eventually("it is offline", async || {
        disks.describe(Vec::new()).await.log_dirs[1].offline.then_some(())
    })
    .await;
    let error = disks.move_to(TOPIC, here, &disks.second).await.unwrap();
    assert_eq!(error.code, ErrorCode::StorageFailure, "{error}");
    let named = TopicPartitions { topic: TOPIC.to_owned(), partitions: vec![here] };
    let described = disks.describe(vec![named]).await;
    let [kept, offline] = &described.log_dirs[..] else { panic!("two directories") };
    assert_eq!(kept.path, first.display().to_string());
    assert_eq!(kept.replicas.iter().map(|one| one.partition).collect::<Vec<_>>(), [here]);
    assert!(kept.total_bytes > 0 && kept.usable_bytes > 0 && !kept.directory_id.is_empty());
    assert!(offline.offline && offline.offline_reason.contains("vanished"), "{offline:?}");
    assert!(described.moves.is_empty());
}

//! What a node meets outside of its API: configurations, directories, ports and disks that are not as they
//! should be. Each has its own clear error; what can live on, lives on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod want;

use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::FetchOffsetsRequest;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::v1::{
    Acks, Delivery, PullRequest, SettleOutcome, SettleRequest, SettleResult, StartPosition,
    SubscribeRequest, SubscriptionOptions, TailRequest, start_position,
};
use troupe_tests::{
    PATIENCE, Process, Sample, Serve, Server, batch_of, binary, eventually, reason_of, skip,
    temporary_directory,
};

/// What a node says that does not start.
fn refusal(directory: &Path, serve: &Serve) -> String {
    match Process::start(directory, serve) {
        Ok(_) => panic!("the node starts"),
        Err(exit) => {
            assert!(!exit.status.success());
            assert!(exit.status.code().is_some(), "it was not a crash: {:?}", exit);
            assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
            exit.stderr
        }
    }
}

fn with(setting: &str) -> Serve {
    Serve { settings: vec![setting.to_owned()], ..Serve::default() }
}

async fn assert_alive(server: &Server, topic: &str) {
    let before = server.read_all(topic, 0).await.len() as i64;
    let batch = batch_of(&[Sample::of("alive", 1)]);
    let result = server.produce(topic, 0, batch, Acks::All).await;
    assert_eq!((result.base_offset, result.error), (before, None));
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    let directory = temporary_directory();
    let said = refusal(directory.path(), &with("num.partition=3"));
    assert!(said.contains("num.partition") && said.contains("`num.partitions`"), "{said}");
    let file = directory.path().join("troupe.toml");
    fs::write(&file, "node.id = 1\nlisten = \"127.0.0.1:0\"\nnum.partitions = \"many\"\n").unwrap();
    let output = std::process::Command::new(binary())
        .args(["serve", "--config"])
        .arg(&file)
        .args(["--set", "listener=127.0.0.1:0", "--set", "http.listener=127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    // All that is wrong, at once.
    assert!(said.contains("listener") && said.contains("many"), "{said}");
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let output = std::process::Command::new(binary())
        .args(["serve", "--config", "/no/such/troupe.toml"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/no/such/troupe.toml"), "{said}");
}

#[tokio::test]
async fn a_second_node_on_the_same_directory_is_refused() {
    let (directory, first) = Process::start_new(&Serve::default());
    let server = Server::at(first.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let said = refusal(directory.path(), &Serve::default());
    assert!(said.contains(&directory.path().display().to_string()), "{said}");
    assert_alive(&server, &topic).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (_directory, first) = Process::start_new(&Serve::default());
    let second = temporary_directory();
    let serve = Serve { listener: Some(first.server().to_owned()), ..Serve::default() };
    let said = refusal(second.path(), &serve);
    assert!(said.contains(first.server()) && said.contains("listener"), "{said}");
    let said = refusal(second.path(), &with(&format!("http.listener={}", first.http())));
    assert!(said.contains(first.http()) && said.contains("http.listener"), "{said}");
}

/// A node's data stays that node's: another node.id or cluster.id on it is told at once, with both names.
#[tokio::test]
async fn another_node_on_old_data_is_told_whose_they_are() {
    let own = |settings: &[&str]| Serve {
        settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
        ..Serve::default()
    };
    let (directory, node) = Process::start_new(&own(&["node.id=1", "cluster.id=here"]));
    let server = Server::at(node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    assert_alive(&server, &topic).await;
    drop(server);
    assert!(node.terminate().await.success());
    let path = directory.path().display().to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = format!("controller.listener={free}");
    for (settings, names) in [
        (&["node.id=2"][..], ["node 1 of cluster here", "node 2 of cluster here"]),
        (&["cluster.id=there"], ["node 1 of cluster here", "node 1 of cluster there"]),
        (
            &["node.id=2", "controller.quorum.voters=2@127.0.0.1:7072"],
            ["node 1 of cluster here", "node 2 of cluster here"],
        ),
        (&[&listener, "controller.quorum.voters=1@127.0.0.1:1,2@127.0.0.1:2"], ["[1]", "[1, 2]"]),
        (
            &["process.roles=broker", "controller.quorum.voters=2@127.0.0.1:7073"],
            ["process.roles are `broker`", "make it a controller again"],
        ),
    ] {
        let said = refusal(directory.path(), &own(settings));
        assert!(said.contains(&path), "{settings:?}: {said}");
        for name in names {
            assert!(said.contains(name), "{settings:?}: {said}");
        }
    }
    // Nothing has happened to them.
    let node = Process::start(directory.path(), &own(&["node.id=1"])).unwrap();
    let server = Server::at(node.server()).await;
    assert_alive(&server, &topic).await;
}

/// A voter of a cluster whose list of voters, or whose part in it, is another one now.
#[test]
fn a_controller_whose_cluster_is_another_one_now_is_told_so() {
    let directory = temporary_directory();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let serve = |settings: &[&str]| Serve {
        settings: ["cluster.id=here".to_owned(), format!("controller.listener={port}")]
            .into_iter()
            .chain(settings.iter().map(|setting| (*setting).to_owned()))
            .collect(),
        ..Serve::default()
    };
    let alone = format!("controller.quorum.voters=1@{port}");
    let node = Process::start(directory.path(), &serve(&[&alone])).unwrap();
    node.kill();
    let three = format!("{alone},2@127.0.0.1:1,3@127.0.0.1:2");
    let said = refusal(directory.path(), &serve(&[&three]));
    assert!(said.contains("[1]") && said.contains("[1, 2, 3]"), "{said}");
    assert!(said.contains("controller.quorum.voters"), "{said}");
}

/// Told before anything starts, with what is wrong about it.
#[test]
fn an_address_that_nobody_could_use_is_refused() {
    let directory = temporary_directory();
    for (setting, reason) in [
        ("advertised.listener=0.0.0.0:7070", "0.0.0.0"),
        ("advertised.listener=node-1", "has no port"),
        ("advertised.listener=http://node-1:7070", "scheme"),
        ("advertised.listener=node-1:0", "port 0"),
        ("http.listener=localhost", "is not an address"),
        ("controller.listener=7072", "is not an address"),
        ("controller.quorum.voters=1@0.0.0.0:7072", "0.0.0.0"),
    ] {
        let said = refusal(directory.path(), &with(setting));
        let key = setting.split('=').next().unwrap();
        assert!(said.contains(key) && said.contains(reason), "{setting}: {said}");
    }
    assert!(directory.path().read_dir().unwrap().next().is_none(), "nothing was begun");
}

#[tokio::test]
async fn an_advertised_address_that_cannot_be_reached_is_told_and_the_node_serves() {
    // A port that nobody else can have and nobody listens at.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = held.local_addr().unwrap();
    drop(held);
    let (_directory, node) = Process::start_new(&with(&format!("advertised.listener={closed}")));
    eventually("the node tells that it cannot be reached", async || {
        let said = node.stderr();
        let told = said.contains("advertised.listener cannot be reached");
        (told && said.contains(&closed.to_string())).then_some(())
    })
    .await;
    let (server, topic) = (Server::at(node.server()).await, "t");
    server.create_topic(topic, 1, &[]).await;
    assert_alive(&server, topic).await;
}

/// Root may write to any directory, so the places here refuse root too.
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = temporary_directory();
    let file = directory.path().join("a-file");
    fs::write(&file, "not a directory").unwrap();
    let below_a_file = file.join("data");
    for place in [&file, &below_a_file, &PathBuf::from("/proc/troupe")] {
        let said = refusal(place, &Serve::default());
        assert!(said.contains(&place.display().to_string()), "{said}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a directory");
}

#[test]
fn a_read_only_directory_is_named() {
    let mount = match Mount::tmpfs("size=1m,ro") {
        Ok(mount) => mount,
        Err(error) => {
            return skip("a_read_only_directory_is_named", &format!("cannot mount: {error}"));
        }
    };
    let said = refusal(mount.path(), &Serve::default());
    assert!(said.contains(&mount.path().display().to_string()), "{said}");
}

/// A file system of its own.
struct Mount {
    directory: tempfile::TempDir,
}

impl Mount {
    fn tmpfs(options: &str) -> io::Result<Mount> {
        let directory = temporary_directory();
        let c_string = |bytes: &[u8]| CString::new(bytes).expect("no zero inside");
        let target = c_string(directory.path().as_os_str().as_bytes());
        let (kind, size) = (c_string(b"tmpfs"), options.trim_end_matches(",ro"));
        let flags = if options.ends_with(",ro") { libc::MS_RDONLY } else { 0 };
        let size = c_string(size.as_bytes());
        // SAFETY: every pointer is to a string that lives across the call.
        let mounted = unsafe {
            let (source, kind) = (kind.as_ptr(), kind.as_ptr());
            libc::mount(source, target.as_ptr(), kind, flags, size.as_ptr().cast())
        };
        match mounted {
            0 => Ok(Mount { directory }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn resize(&self, options: &str) -> io::Result<()> {
        let target = CString::new(self.path().as_os_str().as_bytes())?;
        let options = CString::new(options)?;
        let none = std::ptr::null();
        // SAFETY: every pointer is to a string that lives across the call, or is null where that is allowed.
        let done = unsafe {
            let (target, options) = (target.as_ptr(), options.as_ptr().cast());
            libc::mount(none, target, none, libc::MS_REMOUNT, options)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let target = CString::new(self.path().as_os_str().as_bytes()).expect("no zero inside");
        // SAFETY: the pointer is to a string that lives across the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Appends until it is refused. Gives what was acknowledged, and the reason.
async fn append_until_refused(server: &Server, topic: &str) -> (Vec<(i64, Sample)>, ErrorCode) {
    let mut acknowledged = Vec::new();
    for n in 0..200u8 {
        let record = Sample::of(vec![n; 500_000], 1);
        let batch = batch_of(std::slice::from_ref(&record));
        let result = server.produce(topic, 0, batch, Acks::All).await;
        match result.error {
            None => acknowledged.push((result.base_offset, record)),
            Some(detail) => return (acknowledged, detail.reason()),
        }
    }
    panic!("the disk is not full after 100 MB");
}

/// Refused with a reason of its own; reading goes on; once there is room, so does writing.
#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let mount = match Mount::tmpfs("size=64m") {
        Ok(mount) => mount,
        Err(error) => {
            let why = format!("cannot mount: {error}");
            return skip("a_full_disk_loses_nothing_that_was_acknowledged", &why);
        }
    };
    let data = mount.path().join("data");
    let mut node = Process::start(&data, &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    server.create_topic("full", 1, &[]).await;
    let (mut acknowledged, reason) = append_until_refused(&server, "full").await;
    assert_eq!(reason, ErrorCode::DiskFull);
    assert!(acknowledged.len() > 10);
    assert!(node.is_running(), "{}", node.stderr());
    assert_eq!(server.read_all("full", 0).await, acknowledged, "reading goes on");

    mount.resize("size=96m").unwrap();
    let record = Sample::of("room again", 1);
    let offset = eventually("a retry is taken once there is room", async || {
        let batch = batch_of(std::slice::from_ref(&record));
        let result = server.produce("full", 0, batch, Acks::All).await;
        assert!(result.error.is_none_or(|detail| detail.retriable));
        (result.base_offset >= 0).then_some(result.base_offset)
    })
    .await;
    acknowledged.push((offset, record));
    let (more, reason) = append_until_refused(&server, "full").await;
    assert_eq!(reason, ErrorCode::DiskFull);
    acknowledged.extend(more);
    drop(server);
    node.kill();

    mount.resize("size=128m").unwrap();
    let node = Process::start(&data, &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    assert_eq!(server.read_all("full", 0).await, acknowledged);
    assert_alive(&server, "full").await;
}

/// Needs no mount: the process may write no file beyond a size. A disk that fails one partition.
#[tokio::test]
async fn a_write_that_the_system_refuses_is_an_answer() {
    let serve = Serve { file_size_limit: Some(8 << 20), ..Serve::default() };
    let (directory, mut node) = Process::start_new(&serve);
    let server = Server::at(node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let (acknowledged, reason) = append_until_refused(&server, &topic).await;
    assert!(matches!(reason, ErrorCode::DiskFull | ErrorCode::StorageFailure), "{reason:?}");
    assert!(!acknowledged.is_empty());
    assert!(node.is_running(), "{}", node.stderr());
    // Others go on.
    let other = server.new_topic(1, &[]).await.name;
    assert_alive(&server, &other).await;
    drop(server);
    node.kill();
    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    assert_eq!(server.read_all(&topic, 0).await, acknowledged);
    assert_alive(&server, &topic).await;
}

/// A topic of three batches of one record; in the middle one a bit has flipped on the disk.
async fn damaged_topic() -> (tempfile::TempDir, Process, Server, Vec<Sample>) {
    let (directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    server.create_topic("damaged", 1, &[]).await;
    let records: Vec<_> = (0..3u8).map(|n| Sample::of(vec![n; 1_000], 1)).collect();
    for record in &records {
        server.produce("damaged", 0, batch_of(std::slice::from_ref(record)), Acks::All).await;
    }
    drop(server);
    assert!(node.terminate().await.success());
    let segment = segment_of(directory.path(), "damaged");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::File::create(&segment).unwrap().write_all(&bytes).unwrap();

    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    (directory, node, server, records)
}

fn samples_of(deliveries: &[Delivery]) -> Vec<Sample> {
    let sample = |one: &Delivery| Sample::from_record(one.record.as_ref().unwrap());
    deliveries.iter().map(sample).collect()
}

fn earliest() -> Option<StartPosition> {
    Some(StartPosition { at: Some(start_position::At::Earliest(true)) })
}

/// Bits that flipped on the disk are found when they are read, and said, not delivered.
#[tokio::test]
async fn damage_on_the_disk_is_never_delivered() {
    let (_directory, _node, server, records) = damaged_topic().await;
    let request = TailRequest {
        topic: "damaged".to_owned(),
        start: earliest(),
        until_end: true,
        ..Default::default()
    };
    let mut stream = server.bus().tail(request).await.unwrap().into_inner();
    let mut delivered = Vec::new();
    let ended = loop {
        match stream.message().await {
            Ok(Some(answer)) => delivered.extend(samples_of(&answer.deliveries)),
            Ok(None) => break None,
            Err(status) => break Some(reason_of(&status)),
        }
    };
    assert_eq!(ended, Some(ErrorCode::CorruptLog));
    assert_eq!(delivered, records[..delivered.len()], "what is delivered is what was sent");
    assert!(delivered.len() < records.len());
}

fn group_options(group: &str) -> SubscriptionOptions {
    SubscriptionOptions {
        topics: vec!["damaged".to_owned()],
        group: group.to_owned(),
        start_position: earliest(),
        confirm_settlements: true,
        ..Default::default()
    }
}

/// Acknowledges all that comes. Gives what came, the results, and why the stream ended.
async fn subscribe(server: &Server, options: SubscriptionOptions) -> (Vec<Sample>, usize, Status) {
    let (requests, stream) = mpsc::channel(16);
    let start = SubscribeRequest { start: Some(options), ..Default::default() };
    requests.send(start).await.unwrap();
    let answers = server.bus().subscribe(ReceiverStream::new(stream)).await.unwrap();
    let (mut answers, mut delivered, mut accepted) = (answers.into_inner(), Vec::new(), 0);
    loop {
        match timeout(PATIENCE, answers.message()).await.expect("nothing came") {
            Ok(answer) => {
                let answer = answer.expect("the stream ends with an error");
                let is_accepted =
                    |result: &&SettleResult| result.outcome() == SettleOutcome::Accepted;
                accepted += answer.settle_results.iter().filter(is_accepted).count();
                delivered.extend(samples_of(&answer.deliveries));
                let ack_ids: Vec<_> =
                    answer.deliveries.into_iter().map(|delivery| delivery.ack_id).collect();
                if !ack_ids.is_empty() {
                    let request = SubscribeRequest { ack_ids, ..Default::default() };
                    requests.send(request).await.unwrap();
                }
            }
            Err(status) => return (delivered, accepted, status),
        }
    }
}

/// What the group has committed of the topic's partition.
async fn committed(server: &Server, group: &str) -> Vec<i64> {
    let request = FetchOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
    let mut client = GroupServiceClient::new(server.channel());
    let answer = client.fetch_offsets(request).await.unwrap().into_inner();
    answer.offsets.iter().map(|committed| committed.offset.as_ref().unwrap().offset).collect()
}

/// The stream ends with the damage, when what came before it is settled. Nobody reads over it.
#[tokio::test]
async fn a_subscriber_stops_at_damage_and_commits_what_is_before_it() {
    let (_directory, _node, server, records) = damaged_topic().await;
    for auto_ack in [false, true] {
        let group = format!("group-{auto_ack}");
        let options = SubscriptionOptions { auto_ack, ..group_options(&group) };
        let (delivered, accepted, ended) = subscribe(&server, options.clone()).await;
        assert_eq!(reason_of(&ended), ErrorCode::CorruptLog);
        assert_eq!(delivered, records[..1]);
        assert_eq!(committed(&server, &group).await, [1]);
        assert!(auto_ack || accepted == 1, "the result came before the end");
        // Now with the damage first.
        for _ in 0..2 {
            let (delivered, _, ended) = subscribe(&server, options.clone()).await;
            assert_eq!((reason_of(&ended), delivered), (ErrorCode::CorruptLog, Vec::new()));
            assert_eq!(committed(&server, &group).await, [1]);
        }
    }
}

#[tokio::test]
async fn a_pull_stops_at_damage_and_commits_what_is_before_it() {
    let (_directory, _node, server, records) = damaged_topic().await;
    let max_wait = prost_types::Duration { seconds: 20, nanos: 0 };
    let request = PullRequest {
        options: Some(group_options("pulls")),
        max_wait: Some(max_wait),
        ..Default::default()
    };
    let pulled = server.bus().pull(request.clone()).await.unwrap().into_inner().deliveries;
    assert_eq!(samples_of(&pulled), records[..1]);
    let ack_ids = pulled.into_iter().map(|delivery| delivery.ack_id).collect();
    let settled = server.bus().settle(SettleRequest { ack_ids, ..Default::default() }).await;
    let result = settled.unwrap().into_inner().results.remove(0);
    assert_eq!(result.outcome(), SettleOutcome::Accepted);
    for _ in 0..3 {
        let refused = server.bus().pull(request.clone()).await.unwrap_err();
        assert_eq!(reason_of(&refused), ErrorCode::CorruptLog);
    }
    // The session commits on its way out.
    eventually("what is before the damage is committed", async || {
        (committed(&server, "pulls").await == [1]).then_some(())
    })
    .await;
}

fn segment_of(data: &Path, topic: &str) -> PathBuf {
    fn walk(dir: &Path, topic: &str) -> Option<PathBuf> {
        for entry in fs::read_dir(dir).ok()?.flatten() {
            let path = entry.path();
            let found = if path.is_dir() { walk(&path, topic) } else { None };
            let is_it = path.extension().is_some_and(|extension| extension == "log")
                && path.to_string_lossy().contains(topic);
            if found.is_some() || is_it {
                return found.or(Some(path));
            }
        }
        None
    }
    walk(data, topic).expect("a segment of the topic")
}

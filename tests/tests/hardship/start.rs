//! What keeps a node from starting is said, and whose fault it is.

use crate::{assert_alive, with};
use std::fs;
use std::path::{Path, PathBuf};
use troupe_tests::{Mount, Process, Serve, Server, binary, eventually, skip, temporary_directory};

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

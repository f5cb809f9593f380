//! Exactly once from one topic to another, with nothing but generated stubs, however often the worker is killed.

use crate::{prepared, script};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use troupe_proto::v1::{PublishRequest, Record, StartPosition, TailRequest, start_position::At};
use troupe_tests::{Process, Serve, Server, clients_directory};

const RECORDS: usize = 2_000;

fn worker(server: &str) -> Child {
    let clients = clients_directory();
    Command::new(clients.join("venv/bin/python"))
        .arg("-B")
        .arg(script("ten_lines_atomically.py"))
        .args([server, "said", "shouted"])
        .env("PYTHONPATH", clients.join("stubs"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn publish(server: &Server) {
    let record = |number| {
        let value = Some(format!("line {number}").into());
        Record { value, key: Some(format!("{}", number % 7).into()), ..Default::default() }
    };
    let records = (0..RECORDS).map(record).collect();
    let request = PublishRequest { topic: "said".to_owned(), records, ..Default::default() };
    server.bus().publish(request).await.unwrap();
}

/// How often readers of committed records are given each value.
async fn shouted(server: &Server) -> BTreeMap<String, usize> {
    let request = TailRequest {
        topic: "shouted".to_owned(),
        start: Some(StartPosition { at: Some(At::Earliest(true)) }),
        until_end: true,
        ..Default::default()
    };
    let mut answers = server.bus().tail(request).await.unwrap().into_inner();
    let mut seen = BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        for it in answer.deliveries {
            let value = it.record.unwrap().value.unwrap().to_vec();
            *seen.entry(String::from_utf8(value).unwrap()).or_default() += 1;
        }
    }
    seen
}

#[tokio::test]
async fn ten_lines_of_python_make_one_image_of_each_record_though_they_are_killed() {
    if !prepared("ten_lines_of_python_make_one_image_of_each_record", "python") {
        return;
    }
    let (_directory, process) = Process::start_new(&Serve::default());
    let server = Server::at(process.server()).await;
    server.create_topic("said", 3, &[]).await;
    server.create_topic("shouted", 2, &[]).await;
    publish(&server).await;
    // Killed at its third batch, wherever it is then: it may have taken more, or be about to publish it.
    for _ in 0..3 {
        let mut worker = worker(process.server());
        let lines = BufReader::new(worker.stdout.take().unwrap()).lines();
        assert_eq!(lines.take(2).map_while(Result::ok).count(), 2);
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let last = worker(process.server()).wait_with_output().unwrap();
    assert!(last.status.success(), "{last:?}");
    let seen = shouted(&server).await;
    assert_eq!(seen.len(), RECORDS);
    assert!(seen.keys().all(|value| value.starts_with("LINE ")));
    let repeated: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
}

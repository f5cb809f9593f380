//! What is made for Prometheus, judged by its own tool.

use super::{prepared, said};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use troupe_proto::admin::v1::GetTopicRequest;
use troupe_proto::v1 as pb;
use troupe_tests::workspace::{read, root, series_in};
use troupe_tests::{Process, Serve, Server, clients_directory, http_get};

const RULES: &str = "deploy/prometheus/troupe.rules.yml";
const DASHBOARD: &str = "deploy/grafana/troupe.json";

fn promtool(directory: &Path, arguments: &[&str], input: &str) {
    let mut child = Command::new(clients_directory().join("promtool"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {}", said(&output));
}

/// Each panel's title and queries.
fn queries() -> Vec<(String, String)> {
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let of = |panel: &serde_json::Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let query = |target: serde_json::Value| target["expr"].as_str().unwrap().to_owned();
        targets.into_iter().map(|target| (title.to_owned(), query(target))).collect()
    };
    panels.iter().flat_map(of).collect()
}

#[test]
fn alerts_and_the_queries_of_the_dashboard_hold_before_promtool() {
    if !prepared("alerts_and_the_queries_of_the_dashboard_hold_before_promtool", "promtool") {
        return;
    }
    let directory = root().join("deploy/prometheus");
    promtool(&directory, &["check", "rules", "troupe.rules.yml"], "");
    promtool(&directory, &["check", "config", "prometheus.yml"], "");
    promtool(&directory, &["test", "rules", "troupe.rules.test.yml"], "");

    let mut rules = "groups:\n  - name: panels\n    rules:\n".to_owned();
    for (number, (_, query)) in queries().iter().enumerate() {
        let query = query.replace("$__rate_interval", "1m");
        rules += &format!(
            "      - record: panel_{number}\n        expr: {}\n",
            serde_json::json!(query)
        );
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("panels.yml"), rules).unwrap();
    promtool(directory.path(), &["check", "rules", "panels.yml"], "");
}

/// Names, types and help of what a node tells; and no panel or alert of ours is without data.
#[tokio::test]
async fn what_a_node_tells_holds_before_promtool_and_fills_every_panel() {
    const TEST: &str = "what_a_node_tells_holds_before_promtool_and_fills_every_panel";
    if !prepared(TEST, "promtool") {
        return;
    }
    let (_directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    server.create_topic("orders", 1, &[("max.message.bytes", "1000")]).await;
    let publish = |value: Vec<u8>| pb::PublishRequest {
        topic: "orders".into(),
        records: vec![pb::Record { value: Some(value.into()), ..Default::default() }],
        ..Default::default()
    };
    server.bus().publish(publish(b"one".to_vec())).await.unwrap();
    server.bus().publish(publish(vec![0; 2_000])).await.unwrap_err();
    let atomically = pb::PublishAtomicallyRequest {
        topics: vec![pb::TopicRecords {
            topic: "orders".into(),
            records: publish(b"two".to_vec()).records,
        }],
        ..Default::default()
    };
    server.bus().publish_atomically(atomically).await.unwrap();
    let tail = pb::TailRequest { topic: "orders".into(), ..Default::default() };
    drop(server.bus().tail(tail).await.unwrap());
    let nobody = GetTopicRequest { name: "nobody".into() };
    server.topics().get_topic(nobody).await.unwrap_err();

    let (_, text) = http_get(node.http(), "/metrics").await;
    promtool(&root(), &["check", "metrics"], &text);
    let told: BTreeSet<&str> = series_in(&text).collect();
    let queries = queries();
    assert!(queries.len() > 30);
    let without: Vec<_> = queries
        .iter()
        .filter(|(_, query)| !series_in(query).all(|name| told.contains(name)))
        .collect();
    assert!(without.is_empty(), "no data: {without:?}");
    let rules = read(RULES).unwrap();
    let without: Vec<_> = series_in(&rules).filter(|name| !told.contains(name)).collect();
    assert!(without.is_empty(), "no data: {without:?}");
    for code in ["OK", "NOT_FOUND"] {
        let counted = text.lines().any(|line| {
            line.starts_with("troupe_calls_total")
                && line.contains("method=\"GetTopic\"") | line.contains("method=\"Publish\"")
                && line.contains(&format!("code=\"{code}\""))
        });
        assert!(counted, "{code}: {text}");
    }

    // Where the time of appends went is all of it.
    let sum = |series: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(&format!("{series}{{")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    let (whole, parts) =
        (sum("troupe_produce_seconds_sum"), sum("troupe_produce_stage_seconds_sum"));
    assert!(whole > 0.0 && (parts / whole - 1.0).abs() < 0.05, "{parts} of {whole}");
}

//! What is told of it: by the admin service, by `troupe topic describe`, by metrics.

use super::*;
use troupe_tests::{LocalNode, eventually_or_why, http_get, troupe};

async fn described(node: &LocalNode, topic: &str) -> serde_json::Value {
    let output = troupe(&node.server(), &["topic", "describe", topic, "-o", "json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let topic: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    topic["partitions"][0]["cleaning"].clone()
}

/// Of the node with that id: nodes of one process share what is counted.
async fn metric(node: &LocalNode, id: i32, name: &str) -> f64 {
    let (_, text) = http_get(&node.http(), "/metrics").await;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{node=\"{id}\"")));
    let line = line.unwrap_or_else(|| panic!("{name} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn describe_and_metrics_say_what_was_cleaned() {
    let node = LocalNode::start(&[OFTEN, "node.id=71", "log.cleaner.threads=2"]);
    let server = Server::at(&node.server()).await;
    let plain = server.create_topic("plain", 1, &[]).await.name;
    assert_eq!(described(&node, &plain).await, serde_json::Value::Null);
    let topic = server.create_topic("told", 1, &EAGER).await.name;
    overwrite(&server, &topic, &mut Appended::new(), 40, 10).await;
    let cleaning = until_left(&server, &topic, 80).await;
    let pass = cleaning.last_pass.unwrap();
    assert!(cleaning.saved_bytes > 10_000 && pass.bytes_before >= pass.bytes_after, "{cleaning:?}");
    // A thread that looks whether there is anything left has its turn for a moment.
    let view = eventually_or_why("it is idle", async || {
        let view = described(&node, &topic).await[0].clone();
        if view["state"].as_str() == Some("idle") { Ok(view) } else { Err(view.to_string()) }
    })
    .await;
    assert_eq!(view["nodeId"].as_i64(), Some(71));
    assert_eq!(view["passCount"].as_i64(), Some(cleaning.pass_count));
    assert_eq!(view["savedBytes"].as_i64(), Some(cleaning.saved_bytes));
    assert_eq!(view["lastPass"]["bytesAfter"].as_i64(), Some(pass.bytes_after));
    eventually_or_why("the table says so too", async || {
        let wide = troupe(&node.server(), &["topic", "describe", &topic, "-o", "wide"]).await;
        let wide = String::from_utf8(wide.stdout).unwrap();
        if wide.contains("idle") { Ok(()) } else { Err(wide) }
    })
    .await;
    assert_eq!(metric(&node, 71, "troupe_cleaner_passes_total").await, cleaning.pass_count as f64);
    assert_eq!(
        metric(&node, 71, "troupe_cleaner_saved_bytes_total").await,
        cleaning.saved_bytes as f64
    );
    assert_eq!(metric(&node, 71, "troupe_cleaner_max_dirty_ratio").await, 0.0);
    assert_eq!(metric(&node, 71, "troupe_cleaner_uncleanable_partitions").await, 0.0);
    assert!(metric(&node, 71, "troupe_cleaner_seconds_since_last_run").await >= 0.0);
    for name in ["troupe_cleaner_read_bytes_total", "troupe_cleaner_written_bytes_total"] {
        assert!(metric(&node, 71, name).await > 0.0, "{name}");
    }
}

#[tokio::test]
async fn a_cleaner_that_is_switched_off_says_so() {
    let node = LocalNode::start(&[OFTEN, "log.cleaner.enable=false", "node.id=72"]);
    let server = Server::at(&node.server()).await;
    let topic = server.create_topic("off", 1, &EAGER).await.name;
    let mut appended = Appended::new();
    overwrite(&server, &topic, &mut appended, 5, 50).await;
    let view = &described(&node, &topic).await[0];
    assert_eq!(view["state"].as_str(), Some("waiting"));
    assert!(view["reason"].as_str().unwrap().contains("log.cleaner.enable"), "{view}");
    assert_eq!(check(&server, &topic, &appended).await, appended.len());
    assert_eq!(metric(&node, 72, "troupe_cleaner_seconds_since_last_run").await, -1.0);
}

/// One byte of a closed segment is another one: the log is left as it is, and what to do is said.
#[tokio::test]
async fn a_log_that_cannot_be_cleaned_says_why() {
    let node = LocalNode::start(&[OFTEN, "log.cleaner.dedupe.buffer.size=2MiB", "node.id=73"]);
    let server = Server::at(&node.server()).await;
    let configs = [EAGER.as_slice(), &[("min.compaction.lag.ms", "3s")]].concat();
    let topic = server.create_topic("rotten", 1, &configs).await.name;
    let batch: Vec<_> = (0..10).map(|n| keyed(&format!("k{n}"), Some("x".repeat(300)))).collect();
    for _ in 0..4 {
        let mut dated = batch.clone();
        dated.iter_mut().for_each(|record| record.timestamp_ms = i64::try_from(now_ms()).unwrap());
        append(&server, &topic, &mut Appended::new(), &dated).await;
    }
    let first = std::fs::read_dir(node.directory()).unwrap().flatten();
    let first =
        first.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("rotten-0"));
    let first = first.unwrap().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&first).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let cleaning = eventually_or_why("it cannot be cleaned", async || {
        let cleaning = cleaning(&server, &topic).await;
        match cleaning.state() {
            CleaningState::Uncleanable => Ok(cleaning),
            _ => Err(format!("{cleaning:?}")),
        }
    })
    .await;
    let says_where = cleaning.reason.contains("rotten-0") && cleaning.reason.contains("damaged");
    assert!(says_where, "{}", cleaning.reason);
    assert_eq!(metric(&node, 73, "troupe_cleaner_uncleanable_partitions").await, 1.0);
}

fn now_ms() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis()
}

//! What is told of it: by the admin service, by `troupe topic describe`, by metrics.

use super::*;
use troupe_tests::{LocalNode, http_get, troupe};

async fn described(node: &LocalNode, topic: &str) -> serde_json::Value {
    let output = troupe(&node.server(), &["topic", "describe", topic, "-o", "json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let topic: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    topic["partitions"][0]["cleaning"].clone()
}

async fn metric(node: &LocalNode, name: &str) -> f64 {
    let (_, text) = http_get(&node.http(), "/metrics").await;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
    let line = line.unwrap_or_else(|| panic!("{name} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
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
    assert_eq!(metric(&node, "troupe_cleaner_seconds_since_last_run").await, -1.0);
}

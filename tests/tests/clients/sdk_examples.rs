//! The SDK's examples, run as they are. `group` is run in [`super::groups`], `exactly_once` under chaos.

use std::process::Command;
use troupe_client::{Client, ClientConfig};
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_tests::LocalNode;

/// What an example prints.
async fn output(name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(troupe_tests::example(name));
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{name}: {}", super::said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_s_quickstart_reads_what_it_sends() {
    let node = LocalNode::start(&[]);
    let client = Client::connect(ClientConfig::new([node.server()])).await.unwrap();
    let hello = CreateTopicRequest { name: "hello".to_owned(), ..Default::default() };
    client.admin().create_topic(hello).await.unwrap();
    let printed = output("quickstart", &[&node.server()]).await;
    assert_eq!(printed.lines().count(), 20, "{printed}");
    assert!(printed.contains("9 Some(b\"value 9\")"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_s_orders_are_typed_signed_and_read_by_a_group() {
    let node = LocalNode::start(&[]);
    let printed = output("orders", &[&node.server(), "orders"]).await;
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    let signed = "[(\"sent-by\", Some(b\"orders\"))]";
    let expected = ["7: 2 lamp", "7: 3 chair", "8: 1 table"];
    assert_eq!(lines, expected.map(|line| format!("customer {line} {signed}")));
}

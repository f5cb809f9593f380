//! What cannot be set.

use super::*;
use troupe_proto::admin::v1::{CreateTopicRequest, GetTopicRequest, UpdateTopicRequest};
use troupe_proto::error::ErrorCode;
use troupe_tests::reason_of;

/// A3: each its own error, and nothing has changed.
#[tokio::test]
async fn lags_and_ratios_that_cannot_be_are_refused() {
    let server = Server::get().await;
    let before = server.new_topic(1, &EAGER).await;
    let update = |set: &[(&str, &str)]| UpdateTopicRequest {
        name: before.name.clone(),
        set_configs: set.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
        ..Default::default()
    };
    for (set, told) in [
        (&[("min.cleanable.dirty.ratio", "1.1")][..], "between 0 and 1"),
        (&[("max.compaction.lag.ms", "0")], "between 1 and"),
        (&[("delete.retention.ms", "-1")], "delete.retention.ms"),
        (
            &[("min.compaction.lag.ms", "2h"), ("max.compaction.lag.ms", "1h")],
            "min.compaction.lag.ms",
        ),
    ] {
        let status = server.topics().update_topic(update(set)).await.unwrap_err();
        assert_eq!(reason_of(&status), ErrorCode::InvalidConfig, "{set:?}");
        assert!(status.message().contains(told), "{set:?}: {}", status.message());
    }
    let request = GetTopicRequest { name: before.name.clone() };
    let after = server.topics().get_topic(request).await.unwrap().into_inner().topic.unwrap();
    assert_eq!(after.configs, before.configs);
    // The one after the other, too.
    let set = update(&[("min.compaction.lag.ms", "2h")]);
    server.topics().update_topic(set).await.unwrap();
    let set = update(&[("max.compaction.lag.ms", "1h")]);
    let status = server.topics().update_topic(set).await.unwrap_err();
    assert_eq!(reason_of(&status), ErrorCode::InvalidConfig);
    let request = CreateTopicRequest {
        name: server.new_name("refused"),
        configs: [("min.compaction.lag.ms", "1h"), ("max.compaction.lag.ms", "1m")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Default::default()
    };
    let status = server.topics().create_topic(request).await.unwrap_err();
    assert_eq!(reason_of(&status), ErrorCode::InvalidConfig);
}

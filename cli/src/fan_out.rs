//! The same question to several nodes at once.
//!
//! Promises: a node that is slow or away delays nobody for longer than a fixed time, and fails nobody else.

use crate::quantity::show_duration;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use troupe_client::ClientError;
use troupe_proto::ids::NodeId;

/// How long one node is waited for: the others are worth showing, above all then.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What each of these nodes answers; those that do not in time, too.
pub async fn fan_out<T>(
    nodes: BTreeSet<i32>,
    ask: impl AsyncFn(NodeId) -> Result<T, ClientError>,
) -> BTreeMap<i32, Result<T, String>> {
    let asked = nodes.into_iter().map(|node| {
        let answer = tokio::time::timeout(TIMEOUT, ask(NodeId(node)));
        async move {
            let answer = match answer.await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {}", show_duration(TIMEOUT))),
            };
            (node, answer)
        }
    });
    join_all(asked).await.into_iter().collect()
}

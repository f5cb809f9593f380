//! Whether the nodes of a cluster that has just been started take part in it.

use std::time::Duration;
use troupe_client::{Client, ClientConfig, ClientError};

/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Until the controller counts on `count` brokers: a topic made before that is on some of them only, or refused.
pub async fn all_active(servers: Vec<String>, count: usize) -> Result<(), ClientError> {
    let client = Client::connect(ClientConfig::new(servers)).await?;
    loop {
        let nodes = client.admin().get_cluster().await?.nodes;
        if nodes.iter().filter(|node| !node.fenced).count() >= count {
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

//! Another node with this node's id. The quorum would let the second one wait forever: what is meant for it is
//! sent to the first.

use crate::controller_channel::ControllerChannel;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use troupe_proto::admin::v1::GetClusterRequest;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
const CALL_PATIENCE: Duration = Duration::from_secs(1);
/// Longer than it takes to notice the end of this node's own past life, at another address.
const PAST_LIFE: Duration = Duration::from_secs(5);

/// Returns when another node has lived with this id for a while, in the eyes of the active controller. `own`: where
/// this one is.
pub(super) async fn found(controller: &ControllerChannel, own: &str) -> Error {
    let node_id = controller.identity().node_id;
    let mut since = None;
    loop {
        sleep(PAUSE).await;
        match endpoint_of(node_id, controller, own).await {
            None => since = None,
            Some(endpoint) if since.get_or_insert_with(Instant::now).elapsed() > PAST_LIFE => {
                let message =
                    format!("node {node_id} lives at {endpoint}; give this node another node.id");
                return Error::new(ErrorCode::DuplicateBroker, message);
            }
            Some(_) => {}
        }
    }
}

/// Where the broker with this id is, if the active controller hears one and it is not here.
async fn endpoint_of(node_id: NodeId, controller: &ControllerChannel, own: &str) -> Option<String> {
    // Also at this node's own address: it may be the other one's.
    for voter in controller.voters().iter().map(|voter| voter.node_id) {
        let Ok(channel) = controller.channel(voter) else { continue };
        let mut client = ClusterServiceClient::new(channel);
        let asked = timeout(CALL_PATIENCE, client.get_cluster(GetClusterRequest {})).await;
        let Ok(Ok(answer)) = asked else { continue };
        let cluster = answer.into_inner();
        // What others know may be old.
        if cluster.controller_id == voter.0 {
            let mut nodes = cluster.nodes.into_iter().filter(|node| !node.fenced);
            return nodes
                .find(|node| node.node_id == node_id.0)
                .map(|node| node.endpoint)
                .filter(|endpoint| endpoint != own);
        }
    }
    None
}

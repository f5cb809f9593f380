//! The nodes as the controller knows them.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::node_view::NodeView;
use troupe_client::Client;
use troupe_proto::admin::v1::GetClusterResponse;

/// Every node, in the order of their numbers.
async fn nodes(client: &Client) -> Result<Vec<NodeView>, Failure> {
    let cluster = client.admin().get_cluster().await;
    Ok(views(&cluster.with_context(|| "cannot list the nodes".to_owned())?))
}

pub fn views(cluster: &GetClusterResponse) -> Vec<NodeView> {
    let mut nodes: Vec<NodeView> =
        cluster.nodes.iter().map(|node| NodeView::new(node, cluster.controller_id)).collect();
    nodes.sort_by_key(|node| node.node_id);
    nodes
}

pub async fn find(client: &Client, node: i32) -> Result<NodeView, Failure> {
    let nodes = nodes(client).await?;
    let known: Vec<String> = nodes.iter().map(|view| view.node_id.to_string()).collect();
    let found = nodes.into_iter().find(|view| view.node_id == node);
    found.ok_or_else(|| {
        let cause = format!("there is no node {node}, but {}", known.join(", "));
        Failure::new(Exit::NotFound, "", cause).with_hint("`troupe node list` shows the nodes")
    })
}

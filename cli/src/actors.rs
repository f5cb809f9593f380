//! The actors of a cluster, and the nodes that their addresses name.

use crate::fan_out::fan_out;
use crate::streams::notice;
use troupe_client::{Client, ClientError};
use troupe_proto::chaos::v1alpha1::Actor;
use troupe_proto::ids::NodeId;

/// An address begins with its node: `node/1/…`.
pub fn node_of(address: &str) -> Option<NodeId> {
    let mut parts = address.split('/');
    (parts.next() == Some("node")).then(|| parts.next()?.parse().ok().map(NodeId))?
}

/// The actors of all nodes that answer, by address; a note for those that do not.
pub async fn of_all_nodes(client: &Client, prefix: &str) -> Result<Vec<Actor>, ClientError> {
    let cluster = client.describe_cluster().await?;
    let nodes = cluster.nodes.iter().filter(|node| !node.fenced).map(|node| node.node_id);
    let answers = fan_out(nodes.collect(), async |node| {
        client.admin_of(node).await?.list_actors(prefix).await
    });
    let mut actors = Vec::new();
    for (node, answer) in answers.await {
        match answer {
            Ok(listed) => actors.extend(listed),
            Err(why) => notice!("note: node {node} does not tell its actors: {why}"),
        }
    }
    let natural = |actor: &Actor| {
        let parts = actor.address.split('/');
        parts.map(|part| (part.parse::<u64>().ok(), part.to_owned())).collect::<Vec<_>>()
    };
    actors.sort_by_cached_key(natural);
    Ok(actors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_node() {
        assert_eq!(node_of("node/12/shard/0"), Some(NodeId(12)));
        assert_eq!(node_of("shard/0"), None);
        assert_eq!(node_of("node/x"), None);
    }
}

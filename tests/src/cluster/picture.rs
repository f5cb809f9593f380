//! How a cluster looks to one of its nodes.

use std::fmt;
use tonic::Status;
use tonic::transport::Channel;
use troupe_proto::admin::v1::cluster_service_client::ClusterServiceClient;
use troupe_proto::admin::v1::{
    ClusterNode, GetClusterRequest, ListPartitionsRequest, PartitionState,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// -1: none at the moment.
    pub controller: i32,
    pub nodes: Vec<ClusterNode>,
    pub partitions: Vec<PartitionState>,
}

impl Picture {
    /// Asks a node.
    ///
    /// # Errors
    /// Its answer.
    pub async fn ask(node: Channel) -> Result<Picture, Status> {
        let mut stub = ClusterServiceClient::new(node);
        let cluster = stub.get_cluster(GetClusterRequest {}).await?.into_inner();
        let mut partitions = Vec::new();
        let mut request = ListPartitionsRequest::default();
        loop {
            let page = stub.list_partitions(request.clone()).await?.into_inner();
            partitions.extend(page.partitions);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        Ok(Picture { controller: cluster.controller_id, nodes: cluster.nodes, partitions })
    }

    pub fn node(&self, id: i32) -> Option<&ClusterNode> {
        self.nodes.iter().find(|node| node.node_id == id)
    }

    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionState> {
        self.partitions.iter().find(|one| (&one.topic[..], one.partition) == (topic, partition))
    }

    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.partition(topic, partition)?.leader_id
    }

    /// Whether `size` nodes are there, none is fenced or stopping, and each partition is led and in sync.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn wholeness(&self, size: usize) -> Result<(), String> {
        if self.controller < 0 {
            return Err("no controller".to_owned());
        }
        if self.nodes.len() != size {
            return Err(format!("{} nodes of {size}", self.nodes.len()));
        }
        if let Some(node) = self.nodes.iter().find(|node| node.fenced || node.shutting_down) {
            return Err(format!("{node:?}"));
        }
        let whole = |one: &&PartitionState| {
            one.leader_id.is_some() && one.in_sync_replicas.len() == one.replicas.len()
        };
        match self.partitions.iter().find(|one| !whole(one)) {
            Some(partition) => Err(format!("{}", Shown(partition))),
            None => Ok(()),
        }
    }
}

struct Shown<'a>(&'a PartitionState);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PartitionState { topic, partition, leader_id, leader_epoch, partition_epoch, .. } =
            self.0;
        write!(
            f,
            "{topic}-{partition}: leader {leader_id:?} epoch {leader_epoch}/{partition_epoch}"
        )?;
        write!(f, " replicas {:?} in sync {:?}", self.0.replicas, self.0.in_sync_replicas)
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "controller {}", self.controller)?;
        for node in &self.nodes {
            let state = match (node.fenced, node.shutting_down) {
                (true, _) => " fenced",
                (false, true) => " stopping",
                (false, false) => "",
            };
            write!(f, "; node {}{state} epoch {}", node.node_id, node.broker_epoch)?;
        }
        self.partitions.iter().try_for_each(|partition| write!(f, "\n  {}", Shown(partition)))
    }
}

//! The leaders of all partitions, wherever they are.

use super::produce_streams::ProduceStreams;
use crate::admission::Admission;
use crate::metadata_cache::MetadataCache;
use crate::peers::Peers;
use crate::unpacker::Unpacker;
use std::sync::Arc;

/// What it takes to write to a partition and to read from it through this node.
pub struct Leaders {
    pub metadata: Arc<MetadataCache>,
    pub peers: Arc<Peers>,
    /// Batches on their way to peers.
    pub produce_streams: ProduceStreams,
    /// Whose turn it is to write.
    pub admission: Arc<Admission>,
    pub unpacker: Arc<Unpacker>,
}

impl Leaders {
    pub fn new(
        metadata: Arc<MetadataCache>,
        peers: Arc<Peers>,
        admission: Arc<Admission>,
        unpacker: Arc<Unpacker>,
    ) -> Self {
        Self { metadata, peers, produce_streams: ProduceStreams::default(), admission, unpacker }
    }
}

#[cfg(test)]
impl Leaders {
    /// Of a node that serves nothing and knows this of the cluster.
    pub fn of(
        node_id: troupe_proto::ids::NodeId,
        image: troupe_machines::cluster::ClusterImage,
    ) -> Arc<Leaders> {
        use crate::network::Network;
        let metadata = MetadataCache::of(node_id, image);
        let peers = Arc::new(Peers::new(metadata.image.clone(), Network::default()));
        let (admission, unpacker) = (Admission::new(node_id.0), Arc::new(Unpacker::new(1 << 20)));
        Arc::new(Leaders::new(metadata, peers, admission, unpacker))
    }
}

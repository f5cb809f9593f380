//! The addresses of brokers, as those are told who come by one listener of this node: who comes by OUTSIDE is sent to
//! other brokers' OUTSIDE, as in Kafka.
//!
//! Promises: by the listener over which nodes reach each other every broker has an address, whatever each of them calls
//! that listener; by any other, one that has no listener of its name has none. A broker that told one address only, as
//! earlier versions do, has that one everywhere.
//! Never here: which listener a call came by.

use crate::metadata_cache::MetadataCache;
use std::sync::Arc;
use troupe_machines::cluster::Broker;
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

#[derive(Clone)]
pub struct AddressBook {
    metadata: Arc<MetadataCache>,
    /// The name of the listener; none of one for controllers, by which no client comes.
    listener: Option<Arc<str>>,
    /// Nodes reach each other by it.
    is_inter_broker: bool,
}

impl AddressBook {
    /// For whom nodes are.
    pub fn of_nodes(metadata: &Arc<MetadataCache>) -> Self {
        Self { metadata: Arc::clone(metadata), listener: None, is_inter_broker: true }
    }

    /// For those who come by that listener.
    pub fn of_listener(&self, name: &str, is_inter_broker: bool) -> Self {
        let (metadata, listener) = (Arc::clone(&self.metadata), Some(name.into()));
        Self { metadata, listener, is_inter_broker }
    }

    /// How the listener is called, for people.
    pub fn listener(&self) -> &str {
        self.listener.as_deref().unwrap_or("for controllers")
    }

    /// host:port of a broker.
    pub fn endpoint<'a>(&self, broker: &'a Broker) -> Option<&'a str> {
        let named = self.listener.as_ref().and_then(|listener| broker.endpoint_at(listener));
        named.or(self.is_inter_broker.then_some(&*broker.endpoint))
    }

    /// host:port of a broker for who is sent there; empty if it has none here. None: there is no such broker.
    pub fn endpoint_of(&self, node: NodeId) -> Option<String> {
        let image = self.metadata.image.borrow();
        let broker = image.broker(node)?;
        Some(self.endpoint(broker).unwrap_or_default().to_owned())
    }

    /// The same error; if it says where to turn instead, with the address that is told here. Another node may have
    /// put in the one that it reaches that node at.
    pub fn told(&self, mut error: Error) -> Error {
        if let Some(hint) = &mut error.leader
            && let Some(endpoint) = self.endpoint_of(NodeId(hint.node_id))
        {
            hint.endpoint = endpoint;
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use troupe_machines::cluster::ClusterImage;
    use troupe_proto::error::ErrorCode;
    use troupe_proto::internal::v1::metadata_record::Record;
    use troupe_proto::internal::v1::{BrokerRecord, MetadataRecord};

    fn book() -> AddressBook {
        let broker = |node_id, listeners: &[(&str, &str)]| BrokerRecord {
            node_id,
            incarnation_id: vec![1; 16].into(),
            endpoint: format!("n{node_id}:1"),
            listeners: listeners
                .iter()
                .map(|(name, endpoint)| ((*name).to_owned(), (*endpoint).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            ..Default::default()
        };
        let brokers = [
            broker(1, &[("INSIDE", "n1:1"), ("OUTSIDE", "one.example.org:2")]),
            broker(2, &[("NODES", "n2:1")]),
            broker(3, &[]),
        ];
        let record = |broker| MetadataRecord { record: Some(Record::Broker(broker)) };
        let mut image = ClusterImage::default();
        image.replay_all(&brokers.map(record)).unwrap();
        AddressBook::of_nodes(&MetadataCache::of(NodeId(1), image))
    }

    #[test]
    fn who_comes_by_a_listener_is_told_the_addresses_of_its_name() {
        let of = |book: &AddressBook| [1, 2, 3, 4].map(|node| book.endpoint_of(NodeId(node)));
        let told = |endpoints: [&str; 3]| {
            let [one, two, three] = endpoints.map(|it| Some(it.to_owned()));
            [one, two, three, None]
        };
        let nodes = book();
        assert_eq!(of(&nodes), told(["n1:1", "n2:1", "n3:1"]));
        let outside = nodes.of_listener("OUTSIDE", false);
        assert_eq!(of(&outside), told(["one.example.org:2", "", "n3:1"]));
        let inside = nodes.of_listener("INSIDE", true);
        assert_eq!(of(&inside), told(["n1:1", "n2:1", "n3:1"]), "nodes reach each other by it");
    }

    #[test]
    fn another_nodes_word_where_to_turn_is_put_into_the_listeners_addresses() {
        let outside = book().of_listener("OUTSIDE", false);
        let at = |node: i32| {
            let error = Error::new(ErrorCode::NotLeader, "").with_leader_of(node, "a:1", 7);
            let hint = outside.told(error).leader.unwrap();
            (hint.node_id, hint.endpoint, hint.leader_epoch)
        };
        assert_eq!(at(1), (1, "one.example.org:2".to_owned(), Some(7)));
        assert_eq!(at(2), (2, String::new(), Some(7)), "it cannot be reached from there");
        assert_eq!(at(9), (9, "a:1".to_owned(), Some(7)));
    }
}

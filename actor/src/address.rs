//! Where an actor stands in the tree of a node's actors: `node/1/shard/0/partition/orders/3`.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// The root of a tree.
    pub fn root(kind: &str, name: impl fmt::Display) -> Self {
        Self(format!("{kind}/{name}"))
    }

    /// One of its kind, below this one.
    pub fn child(&self, kind: &str, name: impl fmt::Display) -> Self {
        Self(format!("{self}/{kind}/{name}"))
    }

    /// The only one of its kind below this one.
    pub fn only(&self, kind: &str) -> Self {
        Self(format!("{self}/{kind}"))
    }

    /// The name, and whatever stands below it, of a child of this kind; `None` if the address names no such one.
    pub fn name_in<'a>(&self, kind: &str, address: &'a str) -> Option<&'a str> {
        address.strip_prefix(&self.0)?.strip_prefix('/')?.strip_prefix(kind)?.strip_prefix('/')
    }
}

impl PartialEq<str> for Address {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_below_an_address_is_found_by_kind_and_name() {
        let node = Address::root("node", 1);
        let partition = node.child("shard", 0).child("partition", "orders/3");
        assert_eq!(partition.to_string(), "node/1/shard/0/partition/orders/3");
        assert_eq!(node.only("controller").to_string(), "node/1/controller");
        assert_eq!(node.name_in("shard", &partition.to_string()), Some("0/partition/orders/3"));
        assert_eq!(node.name_in("shard", "node/12/shard/0"), None);
        assert_eq!(node.name_in("shard", "node/1/shards/0"), None);
    }
}

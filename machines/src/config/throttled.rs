//! Replicas whose replication is throttled, as a topic names them (A13).

use std::collections::BTreeSet;
use std::fmt;
use troupe_proto::ids::{NodeId, PartitionId};

/// `0:1,0:2,3:1` (partition and broker), `*` for all of the topic, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ThrottledReplicas {
    #[default]
    None,
    All,
    These(BTreeSet<(PartitionId, NodeId)>),
}

impl ThrottledReplicas {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => return Ok(Self::None),
            "*" => return Ok(Self::All),
            _ => {}
        }
        let one = |pair: &str| {
            let numbers = pair.trim().split_once(':').and_then(|(partition, broker)| {
                let (partition, broker) = (partition.parse().ok()?, broker.parse().ok()?);
                (broker >= 0).then_some((PartitionId(partition), NodeId(broker)))
            });
            numbers.ok_or_else(|| {
                format!("'{pair}' is not PARTITION:BROKER; use 0:1,0:2 and so on, or * for all")
            })
        };
        Ok(Self::These(text.split(',').map(one).collect::<Result<_, _>>()?))
    }

    /// Whether the replica of a partition on that broker is one of them.
    pub fn contains(&self, partition: PartitionId, broker: NodeId) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(replicas) => replicas.contains(&(partition, broker)),
        }
    }
}

impl fmt::Display for ThrottledReplicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::All => f.write_str("*"),
            Self::These(replicas) => {
                for (at, (partition, broker)) in replicas.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(f, "{comma}{partition}:{broker}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_pairs_or_all_or_none() {
        let parsed = |text| ThrottledReplicas::parse(text).map(|parsed| parsed.to_string());
        assert_eq!(parsed("1:2, 0:1,0:1").as_deref(), Ok("0:1,1:2"));
        assert_eq!((parsed("*").as_deref(), parsed(" ").as_deref()), (Ok("*"), Ok("")));
        for wrong in ["0", "0:", "a:1", "0:-1", "0:1,,1:1", "*,0:1", "0:1:2"] {
            let refused = parsed(wrong).unwrap_err();
            assert!(refused.contains("PARTITION:BROKER"), "{wrong}: {refused}");
        }
        let some = ThrottledReplicas::parse("0:1,2:3").unwrap();
        assert!(
            some.contains(PartitionId(2), NodeId(3)) && !some.contains(PartitionId(2), NodeId(1))
        );
        let all = ThrottledReplicas::All;
        assert!(all.contains(PartitionId(9), NodeId(9)));
        assert!(!ThrottledReplicas::None.contains(PartitionId(0), NodeId(1)));
    }
}

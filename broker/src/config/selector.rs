//! Which replicas readers are sent to: `replica.selector.class`, by Kafka's class names or a word.

use super::value::Setting;

/// As a leader decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// All read from the leader.
    Leader,
    /// Who says in which rack it is reads from an in-sync replica there (KIP-392).
    RackAware,
}

const LEADER_CLASS: &str = "org.apache.kafka.common.replica.LeaderSelector";
const RACK_AWARE_CLASS: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

impl Setting for ReplicaSelector {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" | "leader" | LEADER_CLASS => Ok(Self::Leader),
            "rack-aware" | RACK_AWARE_CLASS => Ok(Self::RackAware),
            other => Err(format!(
                "`{other}` is neither `leader` nor `rack-aware` ({RACK_AWARE_CLASS}); a selector of one's own cannot \
                 be loaded"
            )),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Leader => "leader".to_owned(),
            Self::RackAware => "rack-aware".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_named_as_in_kafka_or_by_a_word() {
        for text in ["", "leader", LEADER_CLASS] {
            assert_eq!(ReplicaSelector::parse(text), Ok(ReplicaSelector::Leader), "{text}");
        }
        for text in ["rack-aware", RACK_AWARE_CLASS] {
            assert_eq!(ReplicaSelector::parse(text), Ok(ReplicaSelector::RackAware), "{text}");
        }
        let refused = ReplicaSelector::parse("com.example.Nearest").unwrap_err();
        assert!(refused.contains("neither `leader` nor `rack-aware`"), "{refused}");
    }
}

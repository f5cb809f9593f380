//! What a node's configuration says about groups.

use crate::NodeConfig;
use troupe_machines::group::Settings;

/// As coordinators take it.
pub fn settings(config: &NodeConfig) -> Settings {
    let millis = |millis: u64| u32::try_from(millis).unwrap_or(u32::MAX);
    Settings {
        max_members: config.group_max_size as usize,
        retention_ms: config.offsets_retention.as_millis(),
        metadata_max_bytes: config.offset_metadata_max_bytes.0 as usize,
        min_session_timeout_ms: millis(config.group_min_session_timeout.0),
        max_session_timeout_ms: millis(config.group_max_session_timeout.0),
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay.0,
        ..Settings::default()
    }
}

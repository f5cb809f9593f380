//! Whose data it is: a node that finds another's, or less use for it than it had, says so before it does anything.

use super::controllers::METADATA_DIR;
use super::start_error::StartError;
use crate::NodeConfig;
use troupe_log::{DataDirectory, DirectoryError};
use troupe_proto::ids::NodeId;

/// # Errors
/// The directory belongs to another node or cluster; it holds what this node's roles have no use for.
pub(super) fn check(config: &NodeConfig, directory: &DataDirectory) -> Result<(), StartError> {
    let node_id = NodeId(config.node_id);
    let found = match directory.read_meta() {
        // It does not say any more whose the data is; it is written anew.
        Err(DirectoryError::BadMeta { .. }) => None,
        found => found?,
    };
    if let Some(found) = found {
        let other_cluster = !config.cluster_id.is_empty() && config.cluster_id != found.cluster_id;
        if found.node_id != node_id || other_cluster {
            let expected_cluster = match other_cluster {
                true => config.cluster_id.clone(),
                false => found.cluster_id.clone(),
            };
            return Err(StartError::Directory(DirectoryError::OtherNode {
                path: directory.path().to_owned(),
                expected: node_id,
                expected_cluster,
                found: found.node_id,
                found_cluster: found.cluster_id,
            }));
        }
    }
    let roles = || config.process_roles.clone();
    let metadata = directory.path().join(METADATA_DIR);
    if !config.is_controller() && metadata.exists() {
        return Err(StartError::FormerController { metadata, roles: roles() });
    }
    let partitions = if config.is_broker() { 0 } else { directory.partitions()?.len() };
    if partitions > 0 {
        let directory = directory.path().to_owned();
        return Err(StartError::FormerBroker { directory, count: partitions, roles: roles() });
    }
    Ok(())
}

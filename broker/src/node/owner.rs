//! Whose data it is: a node that finds another's, or less use for it than it had, says so before it does anything.

use super::controllers::METADATA_DIR;
use super::start_error::StartError;
use crate::NodeConfig;
use troupe_log::{DataDirectory, DirectoryError, LogDirectories};
use troupe_proto::ids::NodeId;

/// # Errors
/// A directory belongs to another node or cluster; it holds what this node's roles have no use for, or what is the
/// node's own stands in another than it should.
pub(super) fn check(config: &NodeConfig, directories: &LogDirectories) -> Result<(), StartError> {
    for directory in directories.opened() {
        check_owner(config, directory)?;
    }
    if let Some(found) = directories.astray(&[METADATA_DIR]) {
        let expected = directories.metadata().to_owned();
        return Err(StartError::MetadataElsewhere { found, expected });
    }
    let roles = || config.process_roles.clone();
    let metadata = directories.metadata().join(METADATA_DIR);
    if !config.is_controller() && metadata.exists() {
        return Err(StartError::FormerController { metadata, roles: roles() });
    }
    let partitions = if config.is_broker() { Vec::new() } else { directories.partitions() };
    if let Some((directory, _)) = partitions.first() {
        let (directory, count) = (directory.path().to_owned(), partitions.len());
        return Err(StartError::FormerBroker { directory, count, roles: roles() });
    }
    Ok(())
}

fn check_owner(config: &NodeConfig, directory: &DataDirectory) -> Result<(), StartError> {
    let node_id = NodeId(config.node_id);
    let found = match directory.read_meta() {
        // It does not say any more whose the data is; it is written anew.
        Err(DirectoryError::BadMeta { .. }) => None,
        found => found?,
    };
    let Some(found) = found else { return Ok(()) };
    let other_cluster = !config.cluster_id.is_empty() && config.cluster_id != found.cluster_id;
    if found.node_id == node_id && !other_cluster {
        return Ok(());
    }
    let expected_cluster = match other_cluster {
        true => config.cluster_id.clone(),
        false => found.cluster_id.clone(),
    };
    Err(StartError::Directory(DirectoryError::OtherNode {
        path: directory.path().to_owned(),
        expected: node_id,
        expected_cluster,
        found: found.node_id,
        found_cluster: found.cluster_id,
    }))
}

//! What a topic may be called (T2), and which names are the cluster's own.

use super::{ClusterError, INTERNAL_TOPICS, is_internal_name};

/// T2, as far as it is about the name alone.
///
/// # Errors
/// Nothing can have that name.
pub fn check_topic_name(name: &str) -> Result<(), ClusterError> {
    let invalid = |reason| Err(ClusterError::InvalidTopicName { name: name.to_owned(), reason });
    if name.is_empty() {
        return invalid("it is empty");
    }
    if name == "." || name == ".." {
        return invalid("it names a directory");
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if !name.bytes().all(allowed) {
        return invalid("use letters, digits, '.', '_' and '-'");
    }
    if name.len() > 249 {
        return invalid("it is longer than 249 characters");
    }
    Ok(())
}

/// [`check_topic_name`] of several.
///
/// # Errors
/// Of the first that nothing can have.
pub fn check_topic_names<'n>(
    names: impl IntoIterator<Item = &'n String>,
) -> Result<(), ClusterError> {
    names.into_iter().try_for_each(|name| check_topic_name(name))
}

/// What is asked to be done with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Create,
    Configure,
    Resize,
    Delete,
}

/// Whether that may be done to a topic of that name. Of the cluster's own only what it can live with, and only
/// if the caller says that it knows: the topics that there are may be made before they are needed, and set up
/// otherwise; one that was made under such a name by mistake may be deleted.
pub(super) fn check_owner(name: &str, internal: bool, change: Change) -> Result<(), ClusterError> {
    if !is_internal_name(name) {
        return Ok(());
    }
    let known = INTERNAL_TOPICS.contains(&name);
    let possible = match change {
        Change::Create => known,
        Change::Configure => true,
        Change::Resize | Change::Delete => !known,
    };
    if possible && internal {
        return Ok(());
    }
    let reason = match (change, possible) {
        (_, true) => "it is the cluster's own; say that you know (`--internal`)",
        (Change::Create, false) => "names that begin with `__` are the cluster's own",
        (Change::Resize, false) => {
            "what is in it is found by the number of its partitions, which never changes"
        }
        (Change::Configure | Change::Delete, false) => "the cluster cannot do without it",
    };
    Err(ClusterError::ClustersOwn { name: name.to_owned(), reason })
}

/// The cluster relies on how its own topics are cleaned up.
pub(super) fn check_owned_key(name: &str, key: &str) -> Result<(), ClusterError> {
    if !is_internal_name(name) || key != "cleanup.policy" {
        return Ok(());
    }
    let reason = "the cluster relies on its cleanup.policy, which never changes";
    Err(ClusterError::ClustersOwn { name: name.to_owned(), reason })
}

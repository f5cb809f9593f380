//! What it takes to ask for groups through this node.

use crate::forward::Leaders;
use crate::group::{CommitBatches, GroupRoute};
use std::sync::Arc;

pub struct Groups {
    pub(super) route: Arc<GroupRoute>,
    pub(super) leaders: Arc<Leaders>,
    /// What members of this node are about to commit, at whichever coordinator.
    pub(super) batches: Arc<CommitBatches>,
}

impl Groups {
    pub fn new(route: GroupRoute, leaders: Arc<Leaders>) -> Self {
        let route = Arc::new(route);
        Self { batches: Arc::new(CommitBatches::new(Arc::clone(&route))), route, leaders }
    }
}

//! Groups, by their coordinators: where one is, and a place in a group as its member.

use crate::forward::Leaders;
use crate::group::{Answers, CommitBatches, GroupRoute, Requests, run_member};
use crate::metadata_cache::LeaderAt;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::error::Error;
use troupe_proto::ids::PartitionId;

pub struct Groups {
    pub(in crate::operations) route: Arc<GroupRoute>,
    pub(super) leaders: Arc<Leaders>,
    /// What members of this node are about to commit, at whichever coordinator.
    pub(super) batches: Arc<CommitBatches>,
}

impl Groups {
    pub fn new(route: GroupRoute, leaders: Arc<Leaders>) -> Self {
        let route = Arc::new(route);
        Self { batches: Arc::new(CommitBatches::new(Arc::clone(&route))), route, leaders }
    }

    /// The partition of `__consumer_offsets` that a group is kept in, and who leads that; waited for while nobody does.
    ///
    /// # Errors
    /// `INVALID_GROUP_ID`; `COORDINATOR_NOT_AVAILABLE` if there was none in time.
    pub async fn find_coordinator(
        &self,
        group: &str,
        deadline: Instant,
    ) -> Result<(PartitionId, LeaderAt), Error> {
        let (target, leader) = self.route.find(group, deadline).await?;
        Ok((target.key.partition, leader))
    }

    /// A membership of a group; answered when the member is in the group. `host`: the address that the member came from.
    /// The member is away when either stream is dropped. `forwarded`: another node sent it here.
    ///
    /// # Errors
    /// Those of the group's coordinator, before anything of the membership came to be.
    pub async fn run_member(
        &self,
        host: String,
        requests: Requests,
        forwarded: bool,
    ) -> Result<Answers, Error> {
        run_member(&self.route, host, requests, forwarded).await
    }
}

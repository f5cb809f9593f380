//! What members of another node commit at a coordinator of this one.

use super::handles::Groups;
use crate::coordinator::{Machine, Order, check_meant, outcome_unknown};
use crate::forward::Call;
use crate::group::commit_here;
use troupe_machines::group;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;

impl Groups {
    /// Commits at the coordinator that `call` means, each for itself: the answers, in their order.
    ///
    /// # Errors
    /// Why nothing of it was done.
    pub async fn commit_together(
        &self,
        partition: PartitionId,
        commits: Vec<(pb::CommitOffsetsRequest, Order)>,
        call: Call,
    ) -> Result<Vec<Result<pb::CommitOffsetsResponse, Error>>, Error> {
        let handle = self.route.coordinators.find(partition)?;
        check_meant(call, &handle)?;
        let (mut asked, mut refused) = (Vec::with_capacity(commits.len()), Vec::new());
        for (request, order) in commits {
            match self.check_place(&request.group_id, partition) {
                Ok(()) => {
                    asked.push((request, order));
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        let mut answers = commit_here(&self.route.metadata, &handle, asked).await.into_iter();
        let answer = |refused: Option<Error>| {
            let answer = refused.map(Err).or_else(|| answers.next());
            answer.unwrap_or_else(|| Err(outcome_unknown()))
        };
        Ok(refused.into_iter().map(answer).collect())
    }

    /// Whether a group is kept in that partition.
    fn check_place(&self, group: &str, partition: PartitionId) -> Result<(), Error> {
        group::Groups::check_key(group)?;
        match self.route.partition_of(group) {
            Some(target) if target.key.partition == partition => Ok(()),
            _ => {
                let message =
                    format!("group `{group}` is kept in another partition than {partition}");
                Err(Error::new(ErrorCode::NotCoordinator, message))
            }
        }
    }
}

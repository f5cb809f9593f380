//! What the leader of a partition is asked that does no harm if it is done twice.

use super::backoff::Backoff;
use super::leaders::Leaders;
use super::route::{Led, Route, Target, no_leader};
use crate::metadata_cache::LeaderAt;
use crate::partition::PartitionHandle;
use std::future::Future;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::LeaderEpoch;

/// Asks the leader: by `here` of the replica on this node, in that epoch, by `there` on another; asks on while somebody
/// else leads, until `deadline`.
///
/// # Errors
/// Those of the last leader that was asked; `REQUEST_TIMED_OUT`.
pub async fn ask_leader<R, Here, There>(
    leaders: &Leaders,
    target: &Target,
    deadline: Instant,
    here: impl Fn(Arc<PartitionHandle>, Option<LeaderEpoch>) -> Here,
    there: impl Fn(LeaderAt) -> There,
) -> Result<R, Error>
where
    Here: Future<Output = Result<R, Error>>,
    There: Future<Output = Result<R, Error>>,
{
    let mut backoff = Backoff::new();
    loop {
        let led: Led = target.led(&leaders.metadata.image.borrow());
        let asked = async {
            match target.route(&leaders.metadata)? {
                // A leader that has not heard yet that it leads anew would tell what was so before.
                Route::Here(handle) => here(handle, led.map(|(_, epoch)| epoch)).await,
                Route::There(leader) => there(leader).await,
            }
        };
        let asked = async {
            tokio::select! {
                answer = asked => answer,
                // One that hangs is not waited for.
                () = target.moves(&leaders.metadata, led) => Err(no_leader("the leader was replaced")),
            }
        };
        let error = match timeout_at(deadline, asked).await {
            Ok(Err(error)) if target.is_readable_elsewhere(&leaders.metadata, &error) => error,
            Ok(outcome) => return outcome,
            Err(_) => {
                let message = "the partition's leader did not answer in time";
                return Err(Error::new(ErrorCode::RequestTimedOut, message));
            }
        };
        let next = Instant::now() + backoff.next();
        if next >= deadline {
            return Err(leaders.metadata.redirect(error, &target.key));
        }
        target.news(&leaders.metadata, led, next).await;
    }
}

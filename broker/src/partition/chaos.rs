//! The faults that a partition's actor can be given and survives: a pause, a stall, replies that get lost.

use super::actor::PartitionActor;
use super::handle::PartitionHandle;
use actix::{Context, Handler};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use troupe_actor::{Fault, InjectFault, NotInjected, Survived};
use troupe_proto::error::{Error, ErrorCode};

/// How soon an actor that does not answer is asked again.
const RETRY: Duration = Duration::from_millis(5);

/// Replies get lost, with this likelihood for each.
pub fn drop_replies(probability: f64, seed: u64) -> Fault {
    let mut random = StdRng::seed_from_u64(seed);
    Fault::DropReplies(Box::new(move || random.random_bool(probability)))
}

impl Handler<InjectFault> for PartitionActor {
    type Result = ();

    fn handle(&mut self, inject: InjectFault, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        inject.take_place(ctx);
    }
}

impl PartitionHandle {
    /// Gives the actor a fault; returns when it has ended and the actor has handled a message after it, at the
    /// latest `patience` later.
    ///
    /// # Errors
    /// `INVALID_REQUEST` while another fault lasts; `LEADER_NOT_AVAILABLE` without an actor.
    pub async fn inject_fault(
        &self,
        fault: Fault,
        duration: Duration,
        patience: Duration,
    ) -> Result<Survived, Error> {
        // An actor that died meanwhile is waited for.
        let answered = async {
            while self.describe().await.is_err() && !self.board.is_gone() {
                tokio::time::sleep(RETRY).await;
            }
        };
        let tell = |inject| self.tell(inject);
        let survived = self.board.faults.inject(fault, duration, tell, answered, patience).await;
        survived.map_err(|reason| {
            let (code, message) = match reason {
                NotInjected::Busy => {
                    (ErrorCode::InvalidRequest, "another fault of this actor has not ended yet")
                }
                NotInjected::Died => (
                    ErrorCode::LeaderNotAvailable,
                    "the actor died before the fault began; try again",
                ),
                NotInjected::NoAnswer => (
                    ErrorCode::RequestTimedOut,
                    "the fault has ended, but the actor has handled no message since",
                ),
            };
            Error::new(code, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(seed: u64, probability: f64) -> Vec<bool> {
        let Fault::DropReplies(mut lottery) = drop_replies(probability, seed) else {
            unreachable!("nothing else was asked for");
        };
        (0..100).map(|_| lottery()).collect()
    }

    #[test]
    fn the_same_seed_loses_the_same_replies() {
        assert_eq!(lost(7, 0.5), lost(7, 0.5));
        assert_ne!(lost(7, 0.5), lost(8, 0.5));
        assert!(lost(7, 1.0).into_iter().all(|lost| lost));
    }
}

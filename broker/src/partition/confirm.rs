//! Whether the replica leads now: the machine asks its followers, and whoever asked waits here.

use super::actor::PartitionActor;
use super::message::Confirm;
use crate::clock::now;
use actix::{Context, Handler};
use std::collections::HashMap;
use tokio::sync::oneshot;
use troupe_machines::replica::{ConfirmError, Effects, Role, Token};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::LeaderEpoch;

/// How long followers have to answer. One that has died is out of the ISR by then.
const PATIENCE_MS: u64 = 2_500;

type Reply = oneshot::Sender<Result<(), Error>>;

/// Who waits for it.
#[derive(Default)]
pub(super) struct Questions {
    replies: HashMap<Token, Reply>,
    next_token: u64,
}

impl Questions {
    pub fn answer(&mut self, token: Token, result: Result<(), ConfirmError>) {
        if let Some(reply) = self.replies.remove(&token) {
            // Whoever asked may be gone.
            let _ = reply.send(result.map_err(Error::from));
        }
    }
}

impl Handler<Confirm> for PartitionActor {
    type Result = ();

    fn handle(
        &mut self,
        Confirm { expected_leader_epoch, reply }: Confirm,
        ctx: &mut Context<Self>,
    ) {
        self.take_turn(ctx);
        if let Err(error) = self.check_leads_in(expected_leader_epoch) {
            // Whoever asked may be gone.
            let _ = reply.send(Err(error));
            return;
        }
        self.questions.next_token += 1;
        let token = Token(self.questions.next_token);
        self.questions.replies.insert(token, reply);
        let mut effects = Effects::new();
        self.replica.confirm(token, now().plus(PATIENCE_MS), &mut effects);
        self.perform(effects, ctx);
    }
}

impl PartitionActor {
    /// Whether this node may serve clients of the partition, who expect it to lead in this epoch.
    pub(super) fn check_leads_in(&self, expected: Option<LeaderEpoch>) -> Result<(), Error> {
        match self.replica.role() {
            Role::Leader => match (expected, self.replica.leader_epoch()) {
                (Some(expected), Some(current)) if expected < current => {
                    let message =
                        format!("leader epoch {expected} is over; this node leads in {current}");
                    Err(Error::new(ErrorCode::FencedLeaderEpoch, message))
                }
                (Some(expected), Some(current)) if expected > current => {
                    let message = format!(
                        "leader epoch {expected} is not known here yet; this node is at {current}"
                    );
                    Err(Error::new(ErrorCode::UnknownLeaderEpoch, message))
                }
                _ => Ok(()),
            },
            Role::Follower | Role::Idle => {
                let message = "this node does not lead the partition; refresh metadata";
                Err(Error::new(ErrorCode::NotLeader, message))
            }
            Role::Offline => {
                let message = "the replica is offline after a disk failure";
                Err(Error::new(ErrorCode::StorageFailure, message))
            }
        }
    }
}

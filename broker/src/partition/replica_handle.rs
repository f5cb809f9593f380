//! A partition as those see it whom its replica has asked for something: whom they answer, whichever actor lives now.

use super::messages::{FromLeader, IsrAnswer, LossKnown, Verified};
use std::fmt;
use troupe_proto::ids::PartitionKey;

/// Named as its board is. Without an actor, what it is told is lost.
pub trait ReplicaHandle: fmt::Display + Send + Sync {
    fn key(&self) -> PartitionKey;

    fn hear_leader(&self, message: FromLeader);

    fn hear_isr(&self, answer: IsrAnswer);

    /// What a coordinator has said of a transaction that is to open here.
    fn hear_verified(&self, word: Verified);

    /// Also on its board.
    fn hear_loss_known(&self, known: LossKnown);

    /// On its board alone: nobody else is there.
    fn hear_offline_known(&self);
}

//! Damage that is found while the replica runs: by whoever reads, by a follower's stream, by a scrub.
//!
//! What was read and is not what was written is looked at again, in the file. If it is damaged there, that is kept in
//! mind on the disk, and the actor ends as one that died: another leads, if any is in sync, and the next actor, which
//! finds the damage noted, is out of the ISR until it was filled again (`damage`). Where there is no other, it leads
//! and hands out what is below.
//!
//! Four things come of looking, and each has its own end:
//!
//! - new damage: as above, whatever made somebody look;
//! - damage that is known: whoever reads is told. What the replica itself cannot do without what is damaged, the next
//!   actor may be able to, which opens the log anew; if not, three times in a minute, the replica goes offline;
//! - nothing: what led astray is put right, and whoever reads is to read again. What could not be done is tried by the
//!   next actor in the same way;
//! - an error: whether there is damage is not known, and none is noted. What only lacks something for the moment is put
//!   off. A replica that cannot read its own log leaves it to the others that are in sync; alone, it serves what it can.

use super::actor::PartitionActor;
use super::failure::Failure;
use super::messages::{BeginScrub, GiveUpDamage, MendFiles, Suspect, Suspicion};
use actix::{ActorContext, Context, Handler};
use std::ops::Range;
use troupe_log::{Damage, FileCheck, LogError};
use troupe_machines::replica::{Role, has_others};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;

impl Handler<Suspect> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Suspect { suspicion, reply }: Suspect, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let told = self.examine(suspicion, ctx);
        let told = told.map_err(|error| self.cannot_look(error, ctx));
        // Whoever asked may be gone.
        let _ = reply.send(told);
    }
}

impl Handler<BeginScrub> for PartitionActor {
    type Result = ();

    fn handle(&mut self, BeginScrub { reply }: BeginScrub, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        // Whoever asked may be gone.
        let _ = reply.send(self.log().begin_scrub());
    }
}

impl Handler<MendFiles> for PartitionActor {
    type Result = ();

    fn handle(&mut self, mend: MendFiles, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let mended = self.mend_files(&mend.wrong_indexes);
        let mended = mended.map_err(|error| match self.examine(error.clone().into(), ctx) {
            Ok(told) => told.unwrap_or_else(|| error.into()),
            Err(error) => self.cannot_look(error, ctx),
        });
        // Whoever asked may be gone.
        let _ = mend.reply.send(mended);
    }
}

impl Handler<GiveUpDamage> for PartitionActor {
    type Result = ();

    /// By the next actor, which is built without what is damaged.
    fn handle(&mut self, GiveUpDamage { reply }: GiveUpDamage, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let refusal = if self.replica.role() != Role::Leader {
            let message = "the replica does not lead; what it lacks its leader sends it";
            Some(Error::new(ErrorCode::NotLeader, message))
        } else if self.replica.isr().is_some_and(|isr| isr.len() > 1) {
            let message = "other replicas are in sync, and fill again what is damaged: there is nothing to give up";
            Some(Error::new(ErrorCode::InvalidRequest, message))
        } else if !self.board.is_damaged() {
            let message = "the partition is not damaged: there is nothing to give up";
            Some(Error::new(ErrorCode::InvalidRequest, message))
        } else {
            None
        };
        match refusal {
            // Whoever asked may be gone.
            Some(refusal) => drop(reply.send(Err(refusal))),
            None => {
                tracing::warn!(partition = %self.board, "what is damaged is given up, on request");
                self.board.give_up_damage(reply);
                ctx.stop();
            }
        }
    }
}

/// What looking has found: what a reader is to be told of it.
enum Found {
    /// New damage: the actor ends.
    New(Error),
    /// Damage that the replica is out of the ISR for, or of which nobody has more.
    Known(Error),
    Nothing,
}

impl PartitionActor {
    /// What a reader is to be told of the damage that there is; nothing if all is sound.
    ///
    /// # Errors
    /// It could not be looked at, and nobody knows.
    pub(super) fn examine(
        &mut self,
        suspicion: Suspicion,
        ctx: &mut Context<Self>,
    ) -> Result<Option<Error>, LogError> {
        match suspicion {
            Suspicion::Log(error @ LogError::Io { .. }) => Err(error),
            Suspicion::Log(error) if !matches!(error, LogError::CorruptLog { .. }) => {
                Ok(Some(error.into()))
            }
            suspicion => Ok(match self.look(&suspicion, ctx)? {
                Found::New(told) | Found::Known(told) => Some(told),
                Found::Nothing => None,
            }),
        }
    }

    fn look(&mut self, suspicion: &Suspicion, ctx: &mut Context<Self>) -> Result<Found, LogError> {
        let found = match suspicion {
            Suspicion::At(at) => self.log().examine(*at),
            Suspicion::Log(error) => self.log().examine_error(error),
        };
        if let Some(damage) = found? {
            return Ok(self.found_damaged(damage, ctx));
        }
        // by a wrong index, or in a file that was another's by then
        if let Err(error) = self.mend_files(&[]) {
            tracing::warn!(partition = %self.board, %error, "its files were not put right");
        }
        Ok(Found::Nothing)
    }

    /// What a read that failed is answered with: who is told nothing of a damage is to read again.
    pub(super) fn explain(&mut self, suspicion: Suspicion, ctx: &mut Context<Self>) -> Error {
        match self.examine(suspicion, ctx) {
            Ok(told) => told.unwrap_or_else(read_again),
            Err(error) => self.cannot_look(error, ctx),
        }
    }

    /// The log cannot be read there: who can had better lead.
    fn cannot_look(&mut self, error: LogError, ctx: &mut Context<Self>) -> Error {
        if !error.is_temporary() {
            self.home.suspect();
            if has_others(&self.state, self.shared.node_id) {
                self.go_offline(error.clone(), ctx);
            }
        }
        error.into()
    }

    /// For what the replica is to go offline that could not go on. `None`: it ends by itself, so that the next actor is
    /// built with what is known by now.
    pub(super) fn own_failure(
        &mut self,
        error: LogError,
        ctx: &mut Context<Self>,
    ) -> Option<LogError> {
        if !matches!(error, LogError::CorruptLog { .. }) {
            return Some(error);
        }
        match self.look(&error.clone().into(), ctx) {
            Ok(Found::New(_)) => None,
            Ok(Found::Known(_) | Found::Nothing) => {
                tracing::error!(partition = %self.board, %error, "the log is opened anew");
                self.guard.note(Failure::in_doubt(error));
                ctx.stop();
                None
            }
            Err(error) => Some(error),
        }
    }

    fn found_damaged(&mut self, damage: Damage, ctx: &mut Context<Self>) -> Found {
        let Damage { cause, complete_below: from, resumes_at, .. } = damage.clone();
        let to = resumes_at.unwrap_or(self.log().log_end());
        if self.log().damaged_from().is_some_and(|known| known <= from) {
            return Found::Known(self.damaged_error(from, to));
        }
        tracing::error!(partition = %self.board, %from, %to, cause, "damage was found in the log");
        if let Err(error) = self.log().note_damage(damage) {
            // What cannot be kept in mind would be served by the next actor.
            self.go_offline(error.clone(), ctx);
            return Found::New(error.into());
        }
        ctx.stop();
        if has_others(&self.state, self.shared.node_id) {
            let message = "the log is damaged there, and another replica takes over; try again";
            return Found::New(Error::new(ErrorCode::LeaderNotAvailable, message));
        }
        Found::New(self.damaged_error(from, to))
    }

    fn damaged_error(&mut self, from: Offset, to: Offset) -> Error {
        LogError::Damaged { dir: self.log().dir().to_owned(), from, to }.into()
    }

    /// What is damaged within the log, or was there for good behind its end and is lost.
    pub(super) fn damaged_offsets(&mut self) -> Option<Range<Offset>> {
        let log = self.log();
        let within = log.damaged_from().map(|from| {
            let resumes_at = log.damage().and_then(|damage| damage.resumes_at);
            from..resumes_at.unwrap_or(log.log_end())
        });
        within.or_else(|| self.board.lost_end())
    }

    fn mend_files(&mut self, wrong_indexes: &[Offset]) -> Result<FileCheck, LogError> {
        let mut rebuilt = self.log().mend_indexes()?;
        for base in wrong_indexes {
            rebuilt += u64::from(self.log().rebuild_indexes(*base)?);
        }
        let high_watermark = self.replica.high_watermark();
        let mut check = self.log().check_files(high_watermark)?;
        if check.lacks_snapshot {
            self.snapshot_producers(self.replica.log_end());
        }
        if rebuilt > 0 {
            check.mended.push(format!("the indexes of {rebuilt} segments"));
        }
        if !check.mended.is_empty() {
            let mended = check.mended.join(", ");
            tracing::warn!(partition = %self.board, mended, "files that were damaged are made again");
            self.shared.metrics.log_notices.increment(check.mended.len() as u64);
            self.board.set_dirty();
        }
        Ok(check)
    }
}

/// What was read is not what stands in the file any more.
pub(super) fn read_again() -> Error {
    let message = "what was read was not what was written, and now is; try again";
    Error::new(ErrorCode::LeaderNotAvailable, message)
}

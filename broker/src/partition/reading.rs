//! What readers are handed, by a leader or, if they take one, by a follower: the machine says whether, the log what.

use super::actor::PartitionActor;
use super::messages::{AbortedTransaction, Isolation, Read, ReadAnswer};
use actix::{Context, Handler};
use bytes::Bytes;
use troupe_log::LogError;
use troupe_machines::replica::{ReadDecision, ReadFacts, Reader, Role};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, Offset};

impl Handler<Read> for PartitionActor {
    type Result = ();

    fn handle(&mut self, read: Read, ctx: &mut Context<Self>) {
        self.take_turn(ctx);
        let Read { from, max_bytes, expected_leader_epoch, reader, isolation, reply } = read;
        self.board.set_used();
        if reader != Reader::OfLeader {
            // By which it waits for more, so that it does not find there what is refused here.
            self.tell_board();
        }
        let decided = self.replica.decide_read(&ReadFacts {
            from,
            expected_leader_epoch,
            reader: &reader,
            partition: &self.state,
            is_damaged: self.board.is_damaged(),
        });
        let answer = match decided {
            Err(error) => Err(error.into()),
            Ok(ReadDecision::TurnTo(node)) => Ok(self.nothing(from, Some(node))),
            Ok(ReadDecision::Serve) if self.replica.is_on_its_way(from) => {
                Ok(self.nothing(from, None))
            }
            Ok(ReadDecision::Serve) => self
                .read(from, max_bytes, isolation)
                .map_err(|error| self.explain(error.into(), ctx))
                .map_err(|error| self.as_told_by_role(error)),
        };
        // Whoever asked may be gone.
        let _ = reply.send(answer);
    }
}

impl PartitionActor {
    fn read(
        &mut self,
        from: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<ReadAnswer, LogError> {
        let end = self.readable_end(isolation);
        let slice = self.log().read(from, end, max_bytes)?;
        if slice.bytes.is_empty() {
            // At the end there is nothing yet, and the position stays.
            return Ok(self.nothing(from, None));
        }
        let aborted = match isolation {
            Isolation::Uncommitted => Vec::new(),
            Isolation::Committed => {
                let mut aborted = self.log().aborted(from, slice.end)?;
                aborted.sort_by_key(|aborted| aborted.first_offset);
                aborted.into_iter().map(AbortedTransaction::from).collect()
            }
        };
        let (bytes, next) = (slice.bytes, slice.end);
        Ok(ReadAnswer { bytes, next, aborted, ..self.nothing(from, None) })
    }

    /// First offset that a reader may not see yet.
    pub(super) fn readable_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::Uncommitted => self.replica.high_watermark(),
            Isolation::Committed => self.replica.last_stable_offset(),
        }
    }

    fn nothing(&mut self, from: Offset, preferred_replica: Option<NodeId>) -> ReadAnswer {
        ReadAnswer {
            bytes: Bytes::new(),
            next: from,
            high_watermark: self.replica.high_watermark(),
            last_stable: self.replica.last_stable_offset(),
            aborted: Vec::new(),
            log_start: self.log().log_start(),
            by_follower: self.replica.role() == Role::Follower,
            preferred_replica,
        }
    }

    /// A follower knows no more than what its own log holds.
    fn as_told_by_role(&self, error: Error) -> Error {
        if error.code != ErrorCode::OffsetOutOfRange || self.replica.role() == Role::Leader {
            return error;
        }
        let message = format!(
            "{}; this replica follows, and only the leader knows whether that is so",
            error.message
        );
        Error { message, ..error }
    }
}

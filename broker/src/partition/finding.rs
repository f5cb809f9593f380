//! Offsets by position, by time and by leader epoch, as the replica knows them.
//!
//! Never here: a batch is not unpacked on this thread, which others wait for.

use super::actor::PartitionActor;
use super::messages::{FindOffset, Finding, FoundOffset, Isolation, OffsetQuery};
use actix::Handler;
use troupe_log::LogError;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};

impl Handler<FindOffset> for PartitionActor {
    type Result = ();

    fn handle(
        &mut self,
        FindOffset { at, from, isolation, expected_leader_epoch, reply }: FindOffset,
        ctx: &mut Self::Context,
    ) {
        self.take_turn(ctx);
        let leader_epoch = self.replica.leader_epoch().unwrap_or_default();
        let tells = self.check_tells(at, expected_leader_epoch);
        let found = tells.and_then(|()| match self.find(at, from, isolation) {
            Ok(found) => Ok((leader_epoch, found)),
            Err(error) => Err(self.explain(error.into(), ctx)),
        });
        // Whoever asked may be gone.
        let _ = reply.send(found);
    }
}

impl PartitionActor {
    fn check_tells(
        &self,
        at: OffsetQuery,
        expected_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<(), Error> {
        self.check_leads_in(expected_leader_epoch)?;
        let is_of_the_past = matches!(at, OffsetQuery::Earliest | OffsetQuery::EndOfEpoch(_));
        if is_of_the_past || self.replica.knows_what_is_committed() {
            return Ok(());
        }
        let message = "the leader is new and does not know yet how far the partition is committed: not enough \
                       in-sync replicas have told it what they hold; try again";
        Err(Error::new(ErrorCode::LeaderNotAvailable, message))
    }

    fn find(
        &mut self,
        at: OffsetQuery,
        from: Offset,
        isolation: Isolation,
    ) -> Result<Finding, LogError> {
        let end = self.readable_end(isolation);
        let leader_epoch = self.replica.leader_epoch().unwrap_or_default();
        let log = self.log();
        let nothing = FoundOffset { offset: None, timestamp_ms: None, leader_epoch };
        let plain = |offset| FoundOffset { offset: Some(offset), ..nothing };
        let found = match at {
            OffsetQuery::Earliest => plain(log.log_start()),
            OffsetQuery::Latest => plain(end),
            OffsetQuery::EndOfEpoch(epoch) => match log.end_offset_for_epoch(epoch) {
                Some((leader_epoch, end)) => FoundOffset { leader_epoch, ..plain(end) },
                None => nothing,
            },
            OffsetQuery::Timestamp(time) => match log.candidate(time, from, end)? {
                Some(candidate) => return Ok(Finding::Candidate(Box::new(candidate), time)),
                None => nothing,
            },
            OffsetQuery::MaxTimestamp => {
                let (known, ask) = log.largest_known(end)?;
                return Ok(Finding::Largest(known, ask));
            }
        };
        Ok(Finding::Found(found))
    }
}

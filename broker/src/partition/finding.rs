//! Offsets by position, by time and by leader epoch, as the replica knows them.

use super::actor::PartitionActor;
use super::message::{FindOffset, FoundOffset, OffsetQuery};
use actix::Handler;
use troupe_log::TimestampHit;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::LeaderEpoch;

impl Handler<FindOffset> for PartitionActor {
    type Result = ();

    fn handle(
        &mut self,
        FindOffset { at, expected_leader_epoch, reply }: FindOffset,
        ctx: &mut Self::Context,
    ) {
        self.take_turn(ctx);
        if let Err(error) = self.check_leads_in(expected_leader_epoch) {
            let _ = reply.send(Err(error));
            return;
        }
        let is_of_the_past = matches!(at, OffsetQuery::Earliest | OffsetQuery::EndOfEpoch(_));
        if !is_of_the_past && !self.replica.knows_what_is_committed() {
            let message = "the leader is new and does not know yet how far the partition is committed: not enough \
                           in-sync replicas have told it what they hold; try again";
            let _ = reply.send(Err(Error::new(ErrorCode::LeaderNotAvailable, message)));
            return;
        }
        let end = self.replica.high_watermark();
        let leader_epoch = self.replica.leader_epoch().unwrap_or_default();
        let log = self.log();
        let plain = |offset| FoundOffset { offset: Some(offset), timestamp_ms: None, leader_epoch };
        let found = match at {
            OffsetQuery::Earliest => Ok(plain(log.log_start())),
            OffsetQuery::Latest => Ok(plain(end)),
            OffsetQuery::Timestamp(time) => {
                log.find_by_timestamp(time, end).map(|hit| found(hit, leader_epoch))
            }
            OffsetQuery::EndOfEpoch(epoch) => Ok(match log.end_offset_for_epoch(epoch) {
                Some((leader_epoch, end)) => FoundOffset { leader_epoch, ..plain(end) },
                None => FoundOffset { offset: None, timestamp_ms: None, leader_epoch },
            }),
            OffsetQuery::MaxTimestamp => {
                log.find_max_timestamp(end).map(|hit| found(hit, leader_epoch))
            }
        };
        let _ = reply.send(found.map(|found| (leader_epoch, found)).map_err(Error::from));
    }
}

fn found(hit: Option<TimestampHit>, leader_epoch: LeaderEpoch) -> FoundOffset {
    FoundOffset {
        offset: hit.as_ref().map(|hit| hit.offset),
        timestamp_ms: hit.as_ref().map(|hit| hit.timestamp_ms),
        leader_epoch: hit.map_or(leader_epoch, |hit| hit.leader_epoch),
    }
}

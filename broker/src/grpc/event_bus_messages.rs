//! The messages of `troupe.v1.EventBusService` that are about deliveries, as what [`crate::operations`] speaks of.

use crate::operations::{
    Assignment, Notice, NoticeKind, PullRequest, SettleRequest, SettleResult, Settlement,
    SettlementAction, StartPosition, SubscribeRequest, SubscriptionOptions, TailRequest,
    WindowBounds,
};
use crate::partition::Isolation;
use std::time::Duration;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::Offset;
use troupe_proto::v1 as pb;

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

/// # Errors
/// `INVALID_REQUEST` if it is negative.
fn duration(name: &str, asked: Option<prost_types::Duration>) -> Result<Option<Duration>, Error> {
    asked
        .map(Duration::try_from)
        .transpose()
        .map_err(|_| invalid(format!("{name} is negative or no duration")))
}

fn start_position(asked: pb::StartPosition) -> Option<StartPosition> {
    use pb::start_position::At;
    Some(match asked.at? {
        At::Earliest(_) => StartPosition::Earliest,
        At::Latest(_) => StartPosition::Latest,
        At::Offset(offset) => StartPosition::Offset(offset),
        At::TimestampMs(time) => StartPosition::TimestampMs(time),
    })
}

fn window(asked: pb::Window) -> WindowBounds {
    WindowBounds { max_records: asked.max_records, max_bytes: asked.max_bytes }
}

pub fn tail_request(asked: pb::TailRequest) -> TailRequest {
    TailRequest {
        topic: asked.topic,
        partition: asked.partition,
        start: asked.start.and_then(start_position),
        max_records: asked.max_records,
        until_end: asked.until_end,
        max_message_bytes: asked.max_message_bytes,
        skip_too_large: asked.skip_too_large,
        isolation: match reads_uncommitted(asked.isolation_level) {
            true => Isolation::Uncommitted,
            false => Isolation::Committed,
        },
    }
}

/// Those who say nothing are given what is committed.
fn reads_uncommitted(level: i32) -> bool {
    pb::IsolationLevel::try_from(level) == Ok(pb::IsolationLevel::ReadUncommitted)
}

fn options(asked: pb::SubscriptionOptions) -> Result<SubscriptionOptions, Error> {
    // There is one, whether it is named or not.
    if pb::Ordering::try_from(asked.ordering).is_err() {
        let message =
            format!("ordering {} is not known here; use ORDERING_PARTITION", asked.ordering);
        return Err(invalid(message));
    }
    Ok(SubscriptionOptions {
        start_position: asked.start_position.and_then(start_position),
        window: asked.window.map(window),
        max_processing_time: duration("max_processing_time", asked.max_processing_time)?,
        reconnect_grace: duration("reconnect_grace", asked.reconnect_grace)?,
        topics: asked.topics,
        topic_pattern: asked.topic_pattern,
        group: asked.group,
        member_name: asked.member_name,
        auto_ack: asked.auto_ack,
        confirm_settlements: asked.confirm_settlements,
        assignor: asked.assignor,
        client_id: asked.client_id,
        max_message_bytes: asked.max_message_bytes,
        skip_too_large: asked.skip_too_large,
        read_uncommitted: reads_uncommitted(asked.isolation_level),
    })
}

/// # Errors
/// `INVALID_REQUEST`
pub fn subscribe_request(asked: pb::SubscribeRequest) -> Result<SubscribeRequest, Error> {
    Ok(SubscribeRequest {
        start: asked.start.map(options).transpose()?,
        ack_ids: asked.ack_ids,
        settlements: asked.settlements.into_iter().map(settlement).collect(),
        window: asked.window.map(window),
        commit_now: asked.commit_now,
    })
}

/// # Errors
/// `INVALID_REQUEST`
pub fn pull_request(asked: pb::PullRequest) -> Result<PullRequest, Error> {
    Ok(PullRequest {
        options: asked.options.map(options).transpose()?,
        max_records: asked.max_records,
        max_wait: duration("max_wait", asked.max_wait)?,
    })
}

pub fn settle_request(asked: pb::SettleRequest) -> SettleRequest {
    SettleRequest {
        ack_ids: asked.ack_ids,
        settlements: asked.settlements.into_iter().map(settlement).collect(),
    }
}

fn settlement(asked: pb::Settlement) -> Settlement {
    let action = action(&asked).map_err(Box::new);
    Settlement { ack_id: asked.ack_id, action }
}

fn action(asked: &pb::Settlement) -> Result<SettlementAction, Error> {
    use pb::settlement::Action;
    match &asked.action {
        Some(Action::Ack(_)) => Ok(SettlementAction::Ack),
        Some(Action::Nack(nack)) => {
            Ok(SettlementAction::Nack { delay: duration("nack.delay", nack.delay)? })
        }
        Some(Action::Extend(extend)) => {
            Ok(SettlementAction::Extend { by: duration("extend.by", extend.by)? })
        }
        None => Err(invalid(format!(
            "settlement of `{}` says neither ack, nack nor extend",
            asked.ack_id
        ))),
    }
}

pub fn settle_results(results: Vec<SettleResult>) -> Vec<pb::SettleResult> {
    let results = results.into_iter().map(|result| pb::SettleResult {
        ack_id: result.ack_id,
        outcome: pb::SettleOutcome::from(result.outcome).into(),
    });
    results.collect()
}

pub fn assignment(assignment: Assignment) -> pb::Assignment {
    let Assignment { partitions, member_epoch, member_id } = assignment;
    let partitions = partitions
        .into_iter()
        .map(|(topic, partition)| pb::AssignedTopicPartition { topic, partition })
        .collect();
    pb::Assignment { partitions, member_epoch, member_id }
}

pub fn notice(notice: Notice) -> pb::Notice {
    let mut told = pb::Notice { message: notice.message, ..Default::default() };
    let kind = match notice.kind {
        NoticeKind::Draining { grace } => {
            told.grace = prost_types::Duration::try_from(grace).ok();
            pb::NoticeKind::Draining
        }
        NoticeKind::CaughtUp => pb::NoticeKind::CaughtUp,
        NoticeKind::AckGapFull => pb::NoticeKind::AckGapFull,
        NoticeKind::RecordTooLarge(record) => {
            told.record_too_large = Some(pb::RecordTooLarge {
                topic: record.topic,
                partition: record.partition,
                offset: record.offset.to_wire(),
                message_bytes: record.message_bytes as i64,
                option: record.option.to_owned(),
                limit: record.limit as i64,
                skipped: record.skipped,
            });
            pb::NoticeKind::RecordTooLarge
        }
        NoticeKind::PositionLost(lost) => {
            told.position_lost = Some(pb::PositionLost {
                topic: lost.topic,
                partition: lost.partition,
                position: lost.position.to_wire(),
                earliest: lost.earliest.to_wire(),
                latest: lost.latest.to_wire(),
                cut_at: lost.cut_at.map(Offset::to_wire),
            });
            pb::NoticeKind::PositionLost
        }
    };
    told.kind = kind.into();
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn bad_options_are_refused() {
        for wrong in [
            pb::SubscriptionOptions { ordering: 2, ..Default::default() },
            pb::SubscriptionOptions { reconnect_grace: seconds(-1), ..Default::default() },
            pb::SubscriptionOptions { max_processing_time: seconds(-1), ..Default::default() },
        ] {
            assert_eq!(options(wrong).unwrap_err().code, ErrorCode::InvalidRequest);
        }
    }

    #[test]
    fn a_settlement_says_what_to_do() {
        use pb::settlement::Action;
        let of = |action| settlement(pb::Settlement { ack_id: String::new(), action }).action.ok();
        assert_eq!(of(Some(Action::Ack(pb::Ack {}))), Some(SettlementAction::Ack));
        assert_eq!(
            of(Some(Action::Nack(pb::Nack { delay: None }))),
            Some(SettlementAction::Nack { delay: None })
        );
        assert_eq!(of(Some(Action::Nack(pb::Nack { delay: seconds(-1) }))), None);
        let long = Some(Action::Extend(pb::Extend { by: seconds(1 << 40) }));
        let by = Some(Duration::from_secs(1 << 40));
        assert_eq!(of(long), Some(SettlementAction::Extend { by }));
        assert_eq!(of(None), None);
    }
}

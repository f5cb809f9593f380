//! What a subscriber asks for, checked.

use super::ledger::Action;
use super::window::Window;
use crate::service::delivery::Takes;
use std::time::Duration;
use troupe_machines::cluster::check_topic_names;
use troupe_machines::group::check_group_id;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as log;
use troupe_proto::v1 as pb;

const DEFAULT_PROCESSING: Duration = Duration::from_secs(30 * 60);
const MAX_PROCESSING: Duration = Duration::from_secs(24 * 60 * 60);
/// Of sessions that are held between calls. Streams have the group's own limit.
const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a partition is begun for which nothing is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Earliest,
    Latest,
    TimestampMs(i64),
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub group: String,
    pub subscription: log::Subscription,
    pub start: Start,
    pub window: Window,
    pub max_processing: Duration,
    /// Empty: not static.
    pub member_name: String,
    pub grace: Option<Duration>,
    pub auto_ack: bool,
    pub confirm: bool,
    pub assignor: String,
    pub client_id: String,
    pub takes: Takes,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

impl Options {
    /// # Errors
    /// `INVALID_GROUP_ID`, `INVALID_TOPIC`, `INVALID_REQUEST`: what to write instead.
    pub fn parse(asked: pb::SubscriptionOptions) -> Result<Options, Error> {
        if asked.group.is_empty() {
            let message = "the subscription names no group; without one, use Tail";
            return Err(Error::new(ErrorCode::InvalidGroupId, message));
        }
        check_group_id(&asked.group)?;
        check_topic_names(&asked.topics)?;
        match (asked.topics.is_empty(), asked.topic_pattern.is_empty()) {
            (true, true) => {
                return Err(invalid("the subscription names neither topics nor a topic_pattern"));
            }
            (false, false) => {
                return Err(invalid("name either topics or a topic_pattern, not both"));
            }
            _ => {}
        }
        if pb::Ordering::try_from(asked.ordering).is_err() {
            let message =
                format!("ordering {} is not known here; use ORDERING_PARTITION", asked.ordering);
            return Err(invalid(message));
        }
        Ok(Options {
            start: parse_start(asked.start_position)?,
            window: Window::new(asked.window.as_ref())?,
            max_processing: parse_processing(asked.max_processing_time)?,
            grace: parse_grace(asked.reconnect_grace)?,
            takes: Takes::parse(asked.max_message_bytes, asked.skip_too_large)?,
            group: asked.group,
            subscription: log::Subscription { topics: asked.topics, pattern: asked.topic_pattern },
            member_name: asked.member_name,
            auto_ack: asked.auto_ack,
            confirm: asked.confirm_settlements,
            assignor: asked.assignor,
            client_id: asked.client_id,
        })
    }

    /// A new member of the group.
    pub fn member(&self) -> log::MemberStart {
        // 0 means the default.
        let millis = |grace: Duration| u32::try_from(grace.as_millis().max(1)).unwrap_or(u32::MAX);
        log::MemberStart {
            group_id: self.group.clone(),
            instance_id: self.member_name.clone(),
            client_id: self.client_id.clone(),
            subscription: Some(self.subscription.clone()),
            assignor: self.assignor.clone(),
            session_timeout_ms: self.grace.map_or(0, millis),
            ..Default::default()
        }
    }
}

fn parse_start(asked: Option<pb::StartPosition>) -> Result<Start, Error> {
    use pb::start_position::At;
    match asked.and_then(|start| start.at) {
        None | Some(At::Latest(_)) => Ok(Start::Latest),
        Some(At::Earliest(_)) => Ok(Start::Earliest),
        Some(At::TimestampMs(time)) => Ok(Start::TimestampMs(time)),
        Some(At::Offset(offset)) => Err(invalid(format!(
            "start_position offset {offset} is not for groups: a group goes on where it has \
             committed; use earliest, latest or timestamp_ms, or reset the group's offsets"
        ))),
    }
}

fn parse_processing(asked: Option<prost_types::Duration>) -> Result<Duration, Error> {
    let asked = parse_duration("max_processing_time", asked)?.unwrap_or(DEFAULT_PROCESSING);
    if asked.is_zero() || asked > MAX_PROCESSING {
        let message = "max_processing_time has to be more than 0 and at most 24 hours";
        return Err(invalid(message));
    }
    Ok(asked)
}

fn parse_grace(asked: Option<prost_types::Duration>) -> Result<Option<Duration>, Error> {
    let asked = parse_duration("reconnect_grace", asked)?;
    if asked.is_some_and(|grace| grace > MAX_GRACE) {
        return Err(invalid("reconnect_grace has to be at most 24 hours"));
    }
    Ok(asked)
}

/// # Errors
/// `INVALID_REQUEST` if it is negative.
pub(super) fn parse_duration(
    name: &str,
    asked: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Error> {
    asked
        .map(Duration::try_from)
        .transpose()
        .map_err(|_| invalid(format!("{name} is negative or no duration")))
}

/// What a settlement says.
///
/// # Errors
/// `INVALID_REQUEST` if it says nothing.
pub(super) fn parse_action(
    settlement: &pb::Settlement,
    max_processing: Duration,
) -> Result<Action, Error> {
    use pb::settlement::Action as Asked;
    match &settlement.action {
        Some(Asked::Ack(_)) => Ok(Action::Ack),
        Some(Asked::Nack(nack)) => {
            let delay = parse_duration("nack.delay", nack.delay)?.unwrap_or_default();
            Ok(Action::Nack(delay.min(MAX_PROCESSING)))
        }
        Some(Asked::Extend(extend)) => {
            let by = parse_duration("extend.by", extend.by)?.unwrap_or(max_processing);
            Ok(Action::Extend(by.min(MAX_PROCESSING)))
        }
        None => {
            let message =
                format!("settlement of `{}` says neither ack, nack nor extend", settlement.ack_id);
            Err(invalid(message))
        }
    }
}

/// What `extend` without a time means where the session's own is not known.
pub(super) const EXTENSION: Duration = DEFAULT_PROCESSING;

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> pb::SubscriptionOptions {
        pb::SubscriptionOptions {
            topics: vec!["t".into()],
            group: "g".into(),
            ..Default::default()
        }
    }

    fn refused(asked: pb::SubscriptionOptions) -> ErrorCode {
        Options::parse(asked).unwrap_err().code
    }

    #[test]
    fn what_is_unset_has_its_default() {
        let options = Options::parse(options()).unwrap();
        assert_eq!((options.start, options.max_processing), (Start::Latest, DEFAULT_PROCESSING));
        assert_eq!(options.member().session_timeout_ms, 0);
    }

    #[test]
    fn bad_options_are_refused() {
        use pb::start_position::At;
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(
            refused(pb::SubscriptionOptions { group: String::new(), ..options() }),
            ErrorCode::InvalidGroupId
        );
        let start = Some(pb::StartPosition { at: Some(At::Offset(3)) });
        for wrong in [
            pb::SubscriptionOptions { topics: vec![], ..options() },
            pb::SubscriptionOptions { topic_pattern: "t.*".into(), ..options() },
            pb::SubscriptionOptions { ordering: 2, ..options() },
            pb::SubscriptionOptions { start_position: start, ..options() },
            pb::SubscriptionOptions { max_processing_time: seconds(0), ..options() },
            pb::SubscriptionOptions { max_processing_time: seconds(86_401), ..options() },
            pb::SubscriptionOptions { reconnect_grace: seconds(-1), ..options() },
            pb::SubscriptionOptions { reconnect_grace: seconds(86_401), ..options() },
            pb::SubscriptionOptions { reconnect_grace: seconds(i64::MAX), ..options() },
            pb::SubscriptionOptions { max_message_bytes: Some(1_000), ..options() },
        ] {
            assert_eq!(refused(wrong), ErrorCode::InvalidRequest);
        }
    }

    #[test]
    fn a_settlement_says_what_to_do() {
        use pb::settlement::Action as Asked;
        let of = |action| {
            let settlement = pb::Settlement { ack_id: String::new(), action };
            parse_action(&settlement, Duration::from_secs(9)).ok()
        };
        let days = Some(prost_types::Duration { seconds: 1 << 40, nanos: 0 });
        assert_eq!(of(Some(Asked::Ack(pb::Ack {}))), Some(Action::Ack));
        assert_eq!(
            of(Some(Asked::Nack(pb::Nack { delay: None }))),
            Some(Action::Nack(Duration::ZERO))
        );
        let unset = Some(Asked::Extend(pb::Extend { by: None }));
        assert_eq!(of(unset), Some(Action::Extend(Duration::from_secs(9))));
        let long = Some(Asked::Extend(pb::Extend { by: days }));
        assert_eq!(of(long), Some(Action::Extend(MAX_PROCESSING)));
        assert_eq!(of(None), None);
    }
}

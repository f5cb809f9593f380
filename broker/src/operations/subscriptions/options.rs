//! What a subscriber asks for, checked.

use super::request::{SettlementAction, SubscriptionOptions};
use super::window::Window;
use crate::forward::SettleAction;
use crate::operations::delivery::Takes;
use crate::operations::start_position::StartPosition;
use crate::operations::topic_lookup::TopicLookup;
use crate::partition::Isolation;
use std::time::Duration;
use troupe_machines::cluster::check_topic_names;
use troupe_machines::group::check_group_id;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as log;

const DEFAULT_PROCESSING: Duration = Duration::from_secs(30 * 60);
const MAX_PROCESSING: Duration = Duration::from_secs(24 * 60 * 60);
/// Of sessions that are held between calls. Streams have the group's own limit.
const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a partition is begun for which nothing is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    TimestampMs(i64),
}

#[derive(Clone, Debug)]
pub struct Options {
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
    pub isolation: Isolation,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

impl Options {
    /// # Errors
    /// `INVALID_GROUP_ID`, `INVALID_TOPIC`, `INVALID_REQUEST`: what to write instead.
    fn parse(asked: SubscriptionOptions) -> Result<Options, Error> {
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
        Ok(Options {
            start: parse_start(asked.start_position)?,
            window: Window::new(asked.window)?,
            max_processing: parse_processing(asked.max_processing_time)?,
            grace: parse_grace(asked.reconnect_grace)?,
            takes: Takes::parse(asked.max_message_bytes, asked.skip_too_large)?,
            isolation: match asked.read_uncommitted {
                true => Isolation::Uncommitted,
                false => Isolation::Committed,
            },
            group: asked.group,
            subscription: log::Subscription { topics: asked.topics, pattern: asked.topic_pattern },
            member_name: asked.member_name,
            auto_ack: asked.auto_ack,
            confirm: asked.confirm_settlements,
            assignor: asked.assignor,
            client_id: asked.client_id,
        })
    }

    /// The same, once their topics are there.
    ///
    /// # Errors
    /// Also those of [`TopicLookup::find_or_create`].
    pub async fn check(
        asked: SubscriptionOptions,
        topic_lookup: &TopicLookup,
    ) -> Result<Options, Error> {
        let options = Options::parse(asked)?;
        for topic in &options.subscription.topics {
            // One that may not be written may be read.
            if topic_lookup.find(topic).await.is_err() {
                topic_lookup.find_or_create(topic).await?;
            }
        }
        Ok(options)
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

fn parse_start(asked: Option<StartPosition>) -> Result<Start, Error> {
    match asked {
        None | Some(StartPosition::Latest) => Ok(Start::Latest),
        Some(StartPosition::Earliest) => Ok(Start::Earliest),
        Some(StartPosition::TimestampMs(time)) => Ok(Start::TimestampMs(time)),
        Some(StartPosition::Offset(offset)) => Err(invalid(format!(
            "start_position offset {offset} is not for groups: a group goes on where it has \
             committed; use earliest, latest or timestamp_ms, or reset the group's offsets"
        ))),
    }
}

fn parse_processing(asked: Option<Duration>) -> Result<Duration, Error> {
    let asked = asked.unwrap_or(DEFAULT_PROCESSING);
    if asked.is_zero() || asked > MAX_PROCESSING {
        let message = "max_processing_time has to be more than 0 and at most 24 hours";
        return Err(invalid(message));
    }
    Ok(asked)
}

fn parse_grace(asked: Option<Duration>) -> Result<Option<Duration>, Error> {
    if asked.is_some_and(|grace| grace > MAX_GRACE) {
        return Err(invalid("reconnect_grace has to be at most 24 hours"));
    }
    Ok(asked)
}

/// What a settlement says.
///
/// # Errors
/// Why it says nothing.
pub fn parse_action(
    action: Result<SettlementAction, Box<Error>>,
    max_processing: Duration,
) -> Result<SettleAction, Error> {
    Ok(match action.map_err(|error| *error)? {
        SettlementAction::Ack => SettleAction::Ack,
        SettlementAction::Nack { delay } => {
            SettleAction::Nack(delay.unwrap_or_default().min(MAX_PROCESSING))
        }
        SettlementAction::Extend { by } => {
            SettleAction::Extend(by.unwrap_or(max_processing).min(MAX_PROCESSING))
        }
    })
}

/// What `extend` without a time means where the session's own is not known.
pub const EXTENSION: Duration = DEFAULT_PROCESSING;

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SubscriptionOptions {
        SubscriptionOptions { topics: vec!["t".into()], group: "g".into(), ..Default::default() }
    }

    fn refused(asked: SubscriptionOptions) -> ErrorCode {
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
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            refused(SubscriptionOptions { group: String::new(), ..options() }),
            ErrorCode::InvalidGroupId
        );
        let start_position = Some(StartPosition::Offset(3));
        for wrong in [
            SubscriptionOptions { topics: vec![], ..options() },
            SubscriptionOptions { topic_pattern: "t.*".into(), ..options() },
            SubscriptionOptions { start_position, ..options() },
            SubscriptionOptions { max_processing_time: seconds(0), ..options() },
            SubscriptionOptions { max_processing_time: seconds(86_401), ..options() },
            SubscriptionOptions { reconnect_grace: seconds(86_401), ..options() },
            SubscriptionOptions { reconnect_grace: seconds(i64::MAX as u64), ..options() },
            SubscriptionOptions { max_message_bytes: Some(1_000), ..options() },
        ] {
            assert_eq!(refused(wrong), ErrorCode::InvalidRequest);
        }
    }

    #[test]
    fn a_settlement_says_what_to_do() {
        let of = |action| parse_action(action, Duration::from_secs(9)).ok();
        let days = Some(Duration::from_secs(1 << 40));
        assert_eq!(of(Ok(SettlementAction::Ack)), Some(SettleAction::Ack));
        assert_eq!(
            of(Ok(SettlementAction::Nack { delay: None })),
            Some(SettleAction::Nack(Duration::ZERO))
        );
        let unset = Ok(SettlementAction::Extend { by: None });
        assert_eq!(of(unset), Some(SettleAction::Extend(Duration::from_secs(9))));
        let long = Ok(SettlementAction::Extend { by: days });
        assert_eq!(of(long), Some(SettleAction::Extend(MAX_PROCESSING)));
        assert_eq!(of(Err(Box::new(invalid("nothing")))), None);
    }
}

//! Positions that the log does not have any more.

use super::notice::{Notice, NoticeKind, PositionLost};
use crate::forward::Target;
use troupe_proto::error::Error;
use troupe_proto::ids::Offset;

/// A position that the log does not have any more, and what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub position: Offset,
    pub earliest: Offset,
    pub latest: Offset,
    /// An unclean election has truncated the log there.
    pub cut_at: Option<Offset>,
}

impl Lost {
    /// What `OFFSET_OUT_OF_RANGE` says of it.
    pub fn read(error: &Error) -> Option<Lost> {
        let fact = |name: &str| Some(Offset(error.facts.get(name)?.parse().ok()?));
        let (position, earliest) = (fact("requested")?, fact("earliest")?);
        Some(Lost { position, earliest, latest: fact("latest")?, cut_at: fact("cut_at") })
    }

    /// That it is lost. `whose`: `the group's`, or nobody's in particular.
    pub fn notice(&self, target: &Target, whose: &str) -> Notice {
        let Lost { position, earliest, latest, cut_at } = *self;
        let (number, topic) = (target.number(), &target.topic);
        let message = match cut_at {
            Some(at) => format!(
                "the log of partition {number} of `{topic}` was cut below {whose} position {position} by an \
                 unclean election; it goes on at {at}, where what was not delivered begins"
            ),
            None => format!(
                "{whose} position {position} in partition {number} of `{topic}` is not there any more: the \
                 log holds {earliest} to {latest}; it goes on where start_position says"
            ),
        };
        let lost = PositionLost {
            topic: topic.to_string(),
            partition: number,
            position,
            earliest,
            latest,
            cut_at,
        };
        Notice { kind: NoticeKind::PositionLost(lost), message }
    }
}

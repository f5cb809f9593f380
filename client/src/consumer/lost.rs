//! Positions that the log does not have any more.

use super::Consumer;
use crate::error::ClientError;
use crate::exclusive::Exclusive;
use crate::topic_partition::TopicPartition;
use std::fmt;
use troupe_proto::ids::Offset;

/// Why a position is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// Retention, or somebody, has deleted the records up to a later offset.
    Deleted,
    /// The log ends before it: an unclean election has cut it, and what was read of it is not there any more.
    Cut,
}

/// The consumer goes on elsewhere than it stood: what lies between is not read, or read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionLost {
    pub partition: TopicPartition,
    /// Of the next record that would have been read.
    pub position: Offset,
    /// The first offset that is still kept, if it is known.
    pub log_start: Option<Offset>,
    /// Where the log ends, or what it still has of what was read before it was cut.
    pub log_end: Offset,
    pub cause: LossCause,
}

impl PositionLost {
    /// What a refusal says of it.
    pub(super) fn read(
        at: &TopicPartition,
        position: Option<Offset>,
        error: &ClientError,
    ) -> Option<PositionLost> {
        let ClientError::Refused(refusal) = error else { return None };
        let fact = |name: &str| refusal.facts.get(name)?.parse().ok().map(Offset);
        let (log_start, log_end) = (fact("earliest")?, fact("latest")?);
        let position = fact("requested").or(position)?;
        let cause = if position < log_start { LossCause::Deleted } else { LossCause::Cut };
        let partition = at.clone();
        Some(PositionLost { partition, position, log_start: Some(log_start), log_end, cause })
    }
}

impl PositionLost {
    /// What a refusal says of a log that was cut below what was read of it.
    pub(super) fn cut(at: &TopicPartition, error: &ClientError) -> Option<PositionLost> {
        let ClientError::Refused(refusal) = error else { return None };
        let cut = refusal.facts.get("cut_at")?.parse().ok().map(Offset)?;
        let lost = PositionLost::read(at, None, error)?;
        Some(PositionLost { log_end: cut, cause: LossCause::Cut, ..lost })
    }
}

impl fmt::Display for PositionLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, position, log_start, log_end, cause } = self;
        let start = log_start.map_or_else(|| "?".to_owned(), |start| start.to_string());
        match cause {
            LossCause::Deleted => write!(
                f,
                "{partition}: the position {position} is deleted; the log holds {start} to {log_end}, and reading \
                 goes on where the reset rule says"
            ),
            LossCause::Cut => write!(
                f,
                "{partition}: the log was cut below the position {position} by an unclean election; of what was \
                 read before it has what is below {log_end} (from {start})"
            ),
        }
    }
}

/// Told before reading goes on elsewhere. It must not block.
pub(super) type PositionLostListener = Exclusive<Box<dyn FnMut(&PositionLost) + Send>>;

impl Consumer {
    /// Whoever wants to know when a position is lost, instead of those before. Without one it is only logged.
    pub fn set_position_lost_listener(
        &mut self,
        listener: impl FnMut(&PositionLost) + Send + 'static,
    ) {
        self.position_lost = Some(Exclusive::new(Box::new(listener)));
    }

    pub(super) fn tell_position_lost(&mut self, lost: &PositionLost) {
        if let Some(listener) = &mut self.position_lost {
            listener.get_mut()(lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::error::{Error as Refusal, ErrorCode};

    /// C13.
    #[test]
    fn a_log_that_was_cut_is_told_from_one_that_has_lost_its_beginning() {
        let at = TopicPartition::new("t", 0);
        let refusal = Refusal::new(ErrorCode::OffsetOutOfRange, "as the test wants")
            .with("requested", 100)
            .with("earliest", 0)
            .with("latest", 200);
        assert_eq!(PositionLost::cut(&at, &refusal.clone().into()), None);
        let lost = PositionLost::cut(&at, &refusal.with("cut_at", 50).into()).unwrap();
        assert_eq!((lost.position, lost.log_end), (Offset(100), Offset(50)));
        assert_eq!(lost.cause, LossCause::Cut);
    }
}

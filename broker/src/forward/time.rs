//! How long a call may take, by what its caller says.

use std::time::Duration;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// What a call without a deadline gets.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a call's time, the part that is kept for its answer.
const ANSWER_SHARE: u32 = 20;
/// The part that is left when it is answered with what is known then. [`crate::grpc::Intake`] answers a little later,
/// and knows nothing.
const LAST_WORD_SHARE: u32 = 30;
/// How much later than its deadline an answer may come: a leader has a clock of its own.
const GRACE: Duration = Duration::from_secs(1);

const TIMEOUT: &str = "grpc-timeout";

/// When a call has to be answered.
pub fn deadline_of(metadata: &MetadataMap) -> Instant {
    deadline_in(metadata.as_ref())
}

pub fn deadline_in(headers: &http::HeaderMap) -> Instant {
    let timeout = timeout_of(headers).unwrap_or(DEFAULT_TIMEOUT).min(DEFAULT_TIMEOUT);
    Instant::now() + (timeout - timeout / ANSWER_SHARE)
}

/// The time that records have on their way.
#[derive(Clone, Copy, Debug)]
pub struct Allotted {
    /// Until then they are sent to whoever leads.
    pub deadline: Instant,
    /// Then they are answered, if need be with an outcome that nobody knows.
    pub answer_by: Instant,
}

impl Allotted {
    /// By a call that came then.
    pub fn by_call(came: Instant, metadata: &MetadataMap) -> Self {
        let asked = timeout_of(metadata.as_ref());
        let timeout = asked.unwrap_or(DEFAULT_TIMEOUT).min(DEFAULT_TIMEOUT);
        let mut allotted = Self::from(came + (timeout - timeout / ANSWER_SHARE));
        if let Some(last) =
            asked.and_then(|asked| came.checked_add(asked - asked / LAST_WORD_SHARE))
        {
            allotted.answer_by = allotted.answer_by.min(last);
        }
        allotted
    }
}

impl From<Instant> for Allotted {
    fn from(deadline: Instant) -> Self {
        Self { deadline, answer_by: deadline + GRACE }
    }
}

/// How long a call's client waits, if it says so.
pub fn timeout_of(headers: &http::HeaderMap) -> Option<Duration> {
    headers.get(TIMEOUT)?.to_str().ok().and_then(parse_timeout)
}

/// `grpc-timeout`: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_s_time_is_read_in_every_unit() {
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse_timeout("15S"), Some(Duration::from_secs(15)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("9u"), Some(Duration::from_micros(9)));
        assert_eq!(parse_timeout("9n"), Some(Duration::from_nanos(9)));
        for wrong in ["", "5", "S", "5s", "-1S", "é"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }
}

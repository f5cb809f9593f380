//! How long a connection may keep its slot without using it.
//!
//! | silence | borne for |
//! |---|---|
//! | nothing, half a preface, no SETTINGS; half a block of headers, however it trickles | `setup_ms` |
//! | not a byte, although it is asked for signs of life | `silent_ms` |
//! | no call, or half a frame of data | `idle_ms` |
//! | a call whose answers the peer does not take: its window stays shut | `stall_ms` |
//!
//! Such a call ends; and its connection, if no other call of it is any better. A call whose request does not come ends
//! by itself ([`super::read_timeout`]), and its connection stays.
//!
//! Whoever judges late was not running, and has not read what has come meanwhile: his own silence he holds against
//! nobody.

use super::frames::Frames;
use crate::time::Time;

/// After it was asked to go, a connection has this long to end what it has begun.
pub const CLOSE_GRACE_MS: u64 = 5_000;

/// Who checks so much later than it is due has not been running; and so much later again it has read what came.
pub const LATE_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub setup_ms: u64,
    pub silent_ms: u64,
    pub idle_ms: u64,
    pub stall_ms: u64,
}

/// Why a connection ends before its peer ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The preface, or headers, did not come as a whole in time.
    Setup,
    Silent,
    Idle,
    Stalled,
}

impl Cause {
    /// As a label of a metric.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Setup => "setup",
            Cause::Silent => "silent",
            Cause::Idle => "idle",
            Cause::Stalled => "stalled",
        }
    }
}

/// What is known of a connection's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub open: usize,
    /// When the last one ended.
    pub last_end: Time,
    /// Since when the peer has taken nothing of the call that has waited longest.
    pub blocked_since: Option<Time>,
    /// Since when it has taken nothing of any; none, if one of them does not wait for it.
    pub all_blocked_since: Option<Time>,
    /// When it was asked to go.
    pub leaving_since: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong before this time.
    Stay(Time),
    /// End those of its calls of which the peer has taken nothing since this time; the others go on.
    EndCalls(Time),
    /// Ask it to go: nothing of it is under way.
    AskToGo(Cause),
    /// End it.
    Cut(Cause),
}

impl Timeouts {
    pub fn judge(&self, now: Time, frames: &Frames, calls: &Calls) -> Verdict {
        let mut look_again = now.plus(self.setup_ms.max(1));
        let mut is_over = |since: Time, limit: u64| {
            let end = since.plus(limit.max(1));
            look_again = look_again.min(end.max(now.plus(1)));
            now >= end
        };
        if let Some(since) = frames.unfinished_head_since()
            && is_over(since, self.setup_ms)
        {
            return Verdict::Cut(Cause::Setup);
        }
        if frames.is_introduced() && is_over(frames.last_byte(), self.silent_ms) {
            return Verdict::Cut(Cause::Silent);
        }
        if let Some(since) = frames.unfinished_since()
            && is_over(since, self.idle_ms)
        {
            return Verdict::Cut(Cause::Idle);
        }
        if let Some(since) = calls.all_blocked_since
            && is_over(since, self.stall_ms)
        {
            return Verdict::Cut(Cause::Stalled);
        }
        if let Some(since) = calls.blocked_since
            && is_over(since, self.stall_ms)
        {
            return Verdict::EndCalls(Time(now.0.saturating_sub(self.stall_ms.max(1))));
        }
        if calls.open == 0 {
            let idle_since = frames.last_frame().max(calls.last_end);
            match calls.leaving_since {
                Some(since) if is_over(since, CLOSE_GRACE_MS) => return Verdict::Cut(Cause::Idle),
                Some(_) => {}
                None if is_over(idle_since, self.idle_ms) => return Verdict::AskToGo(Cause::Idle),
                None => {}
            }
        }
        Verdict::Stay(look_again)
    }
}

/// The judgements of one connection, one after the other.
#[derive(Debug, Default)]
pub struct Checks {
    /// When the next one is due.
    due: Option<Time>,
}

impl Checks {
    pub fn judge(
        &mut self,
        timeouts: &Timeouts,
        now: Time,
        frames: &Frames,
        calls: &Calls,
    ) -> Verdict {
        let late = self.due.is_some_and(|due| now >= due.plus(LATE_MS));
        let verdict = match late {
            true => Verdict::Stay(now.plus(LATE_MS)),
            false => timeouts.judge(now, frames, calls),
        };
        if let Verdict::Stay(again) = verdict {
            self.due = Some(again);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts =
        Timeouts { setup_ms: 10, silent_ms: 40, idle_ms: 600, stall_ms: 1_800 };
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    fn introduced(now: Time) -> Frames {
        let mut frames = Frames::new(now);
        frames.take(now, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.take(now, &SETTINGS);
        assert!(frames.is_introduced());
        frames
    }

    /// The time at which it does not stay any more, looking whenever the verdict says.
    fn end(frames: &Frames, calls: &Calls) -> (Time, Verdict) {
        let mut now = Time(0);
        loop {
            match TIMEOUTS.judge(now, frames, calls) {
                Verdict::Stay(again) => {
                    assert!(again > now && again.0 < 100_000);
                    now = again;
                }
                verdict => return (now, verdict),
            }
        }
    }

    #[test]
    fn every_kind_of_silence_has_an_end() {
        let nothing = Frames::new(Time(0));
        assert_eq!(end(&nothing, &Calls::default()), (Time(10), Verdict::Cut(Cause::Setup)));

        let mut half_a_header = introduced(Time(0));
        half_a_header.take(Time(3), &[0, 0, 9, 1, 4, 0, 0, 0, 1, 0]);
        let calls = Calls { open: 1, ..Calls::default() };
        assert_eq!(end(&half_a_header, &calls), (Time(13), Verdict::Cut(Cause::Setup)));

        assert_eq!(end(&introduced(Time(0)), &calls), (Time(40), Verdict::Cut(Cause::Silent)));
    }

    /// It answers pings, and so it is not silent.
    fn end_of_a_live_one(calls: impl Fn(Time) -> Calls) -> (Time, Verdict) {
        let mut frames = introduced(Time(0));
        for now in (0..10_000).map(Time) {
            if now.0 % 20 == 0 {
                frames.take(now, &[0, 0, 8, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
            let verdict = TIMEOUTS.judge(now, &frames, &calls(now));
            if !matches!(verdict, Verdict::Stay(_)) {
                return (now, verdict);
            }
        }
        (Time(10_000), Verdict::Stay(Time(10_000)))
    }

    #[test]
    fn one_without_a_call_is_asked_to_go_and_then_cut() {
        let calls = Calls { last_end: Time(100), ..Calls::default() };
        assert_eq!(end_of_a_live_one(|_| calls), (Time(700), Verdict::AskToGo(Cause::Idle)));
        let left = |_| Calls { leaving_since: Some(Time(700)), ..calls };
        assert_eq!(end_of_a_live_one(left), (Time(5_700), Verdict::Cut(Cause::Idle)));
    }

    #[test]
    fn a_quiet_subscription_stays_and_one_that_takes_nothing_does_not() {
        let quiet = Calls { open: 1, ..Calls::default() };
        assert!(matches!(end_of_a_live_one(|_| quiet), (Time(10_000), Verdict::Stay(_))));
        let since = Some(Time(50));
        let shut = Calls { blocked_since: since, all_blocked_since: since, ..quiet };
        assert_eq!(end_of_a_live_one(|_| shut), (Time(1_850), Verdict::Cut(Cause::Stalled)));
    }

    /// A client that pauses one of its streams keeps the others.
    #[test]
    fn a_call_that_is_not_taken_ends_alone_while_another_one_is() {
        let since = Some(Time(50));
        let paused = Calls { open: 2, blocked_since: since, ..Calls::default() };
        assert_eq!(end_of_a_live_one(|_| paused), (Time(1_850), Verdict::EndCalls(Time(50))));
        // The other one has begun to wait, and may yet be taken.
        let other = Calls { all_blocked_since: Some(Time(1_000)), ..paused };
        assert_eq!(end_of_a_live_one(|_| other), (Time(1_850), Verdict::EndCalls(Time(50))));
    }

    /// The node was stopped for a minute; what the peer has sent meanwhile is read a moment later.
    #[test]
    fn a_pause_of_ones_own_is_held_against_nobody() {
        let timeouts = Timeouts { setup_ms: 10_000, silent_ms: 35_000, ..TIMEOUTS };
        let (mut frames, mut checks) = (introduced(Time(0)), Checks::default());
        let calls = Calls { open: 1, ..Calls::default() };
        let mut judge = |now, frames: &Frames| checks.judge(&timeouts, Time(now), frames, &calls);
        assert_eq!(judge(0, &frames), Verdict::Stay(Time(10_000)));
        assert_eq!(judge(60_000, &frames), Verdict::Stay(Time(61_000)), "it was not running");
        frames.take(Time(60_001), &[0, 0, 8, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(judge(61_000, &frames), Verdict::Stay(_)));
        // Who says nothing then, either, is silent.
        assert_eq!(judge(80_000, &frames), Verdict::Stay(Time(81_000)));
        assert_eq!(judge(81_000, &frames), Verdict::Stay(Time(91_000)));
        assert_eq!(judge(91_000, &frames), Verdict::Stay(Time(95_001)));
        assert_eq!(judge(95_001, &frames), Verdict::Cut(Cause::Silent));
    }
}

//! Whether a replica led at a time: a leader cannot know that by itself, so it asks its followers.
//!
//! A read that is answered as of now (an end, what a coordinator has built from the log) must not come from a leader
//! that has been replaced without hearing of it. No clock decides that here: a leader may be replaced at once, by a
//! preferred election or because its process seems gone, so that no lease on time would hold.
//!
//! ```text
//!   question ──► round n ──► every member of the maximal ISR ──► "I follow you, in your epoch" ──► answer
//! ```
//!
//! Why it holds. A successor is elected from the ISR as the controller has committed it, and that lies within the
//! maximal ISR of this leader: only the leader itself asks for more members, and a request counts until it is
//! settled (R3). A member answers on the stream that it opened in this leader epoch, and never again once it leads
//! or follows in a later one. All have answered a round that began after the question came, so none of them had led
//! in a later epoch when it came, nor any successor of theirs: whatever a later leader commits is committed after the
//! question. With fewer in sync than `min.insync.replicas` others may be eligible (KIP-966), and nothing is
//! confirmed, as nothing is committed. An unclean election keeps no promise, and not this one either.

use super::planted::Bug;
use super::{AppendError, Effect, Effects, FollowSession, Replica, Token};
use crate::time::Time;
use std::collections::VecDeque;
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::NodeId;

/// Why it is not known that a replica leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    #[error("this node does not lead the partition any more; refresh metadata")]
    NotLeader,
    #[error(
        "{in_sync} replicas are in sync and min.insync.replicas asks for {required}: with fewer, this node cannot \
         find out whether it still leads; bring the others back, or ask again"
    )]
    TooFew { in_sync: u32, required: u32 },
    #[error(
        "not every in-sync replica has confirmed in time that this node still leads; it may be cut off; ask again"
    )]
    TimedOut,
}

impl From<ConfirmError> for WireError {
    fn from(error: ConfirmError) -> Self {
        let code = match error {
            ConfirmError::NotLeader => ErrorCode::NotLeader,
            ConfirmError::TooFew { .. } | ConfirmError::TimedOut => ErrorCode::LeaderNotAvailable,
        };
        WireError::new(code, error.to_string())
    }
}

/// Of a leader, in one leader epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Confirmations {
    /// The newest round; 0: there was none. At most one is not answered.
    round: u64,
    /// In the order in which they came, and so of their rounds and deadlines.
    questions: VecDeque<Question>,
}

#[derive(Clone, Debug)]
struct Question {
    token: Token,
    /// Begun after the question came.
    round: u64,
    deadline: Time,
}

impl Confirmations {
    fn drain(&mut self) -> impl Iterator<Item = Token> + '_ {
        self.questions.drain(..).map(|question| question.token)
    }
}

impl Replica {
    /// Whether this replica leads now; answered by [`Effect::Confirmed`] when that is known, at `deadline` at the
    /// latest. All questions are given the same time: none has a deadline before that of an earlier one.
    pub fn confirm(&mut self, token: Token, deadline: Time, out: &mut Effects) {
        let Some(leadership) = self.leadership_mut() else {
            out.push(Effect::Confirmed { token, result: Err(ConfirmError::NotLeader) });
            return;
        };
        let Confirmations { round, questions } = &mut leadership.confirmations;
        debug_assert!(
            questions.back().is_none_or(|last| last.deadline <= deadline),
            "a later question would expire earlier"
        );
        let under_way = questions.front().is_some_and(|first| first.round == *round);
        if !under_way {
            *round += 1;
        }
        let round = *round + u64::from(under_way);
        questions.push_back(Question { token, round, deadline });
        self.settle_questions(out);
    }

    /// The round that every follower has to be told of, with whatever is pushed to it next or alone; 0: none.
    pub fn round(&self) -> u64 {
        self.leadership().map_or(0, |leadership| leadership.confirmations.round)
    }

    /// A follower has answered a round on its stream; on any other it counts for nothing.
    pub fn on_follower_confirmed(
        &mut self,
        node: NodeId,
        session: FollowSession,
        round: u64,
        out: &mut Effects,
    ) {
        if let Some(progress) = self.progress_of(node, session) {
            progress.confirmed = progress.confirmed.max(round);
            self.settle_questions(out);
        }
    }

    /// The leader asks whether it is still followed. Nothing is said to one that is not.
    pub fn on_asked(&mut self, session: FollowSession, round: u64, out: &mut Effects) {
        let follows = self.following().and_then(super::following::Following::session);
        if follows == Some(session) && round > 0 {
            let end = self.own_end();
            out.push(Effect::Replication(super::ReplicationEffect::Confirm {
                session,
                round,
                end,
            }));
        }
    }

    /// Answers whatever can be answered, and begins the next round if somebody waits for it.
    pub(super) fn settle_questions(&mut self, out: &mut Effects) {
        let alone = self.bugs.has(Bug::ConfirmAlone);
        loop {
            let Some(leadership) = self.leadership() else { return };
            let Some(first) = leadership.confirmations.questions.front() else { return };
            let round = first.round;
            let result = match self.enough_replicas(leadership) {
                Err(AppendError::NotEnoughReplicas { in_sync, required }) => {
                    Err(ConfirmError::TooFew { in_sync, required })
                }
                Ok(()) | Err(_) if alone || self.has_confirmed(round) => Ok(()),
                Ok(()) | Err(_) => return,
            };
            let Some(leadership) = self.leadership_mut() else { return };
            let Confirmations { round: newest, questions } = &mut leadership.confirmations;
            while let Some(question) = questions.pop_front_if(|question| question.round == round) {
                out.push(Effect::Confirmed { token: question.token, result });
            }
            if let Some(next) = questions.front() {
                *newest = next.round;
            }
        }
    }

    /// Every member of the maximal ISR has answered this round.
    fn has_confirmed(&self, round: u64) -> bool {
        let Some(leadership) = self.leadership() else { return false };
        let requested = leadership.requested().map_or(&[][..], |request| &request.isr[..]);
        let isr = leadership.state.isr.iter().copied();
        let mut maximal = isr.chain(requested.iter().map(|member| member.node));
        maximal.all(|node| {
            let progress = leadership.followers.get(&node);
            node == self.node_id || progress.is_some_and(|progress| progress.confirms(round))
        })
    }

    pub(super) fn expire_questions(&mut self, now: Time, out: &mut Effects) {
        let Some(leadership) = self.leadership_mut() else { return };
        let questions = &mut leadership.confirmations.questions;
        while let Some(question) = questions.pop_front_if(|question| question.deadline <= now) {
            let result = Err(ConfirmError::TimedOut);
            out.push(Effect::Confirmed { token: question.token, result });
        }
        // The round of those who are left has begun, or begins now.
        if let Some(next) = questions.front() {
            leadership.confirmations.round = leadership.confirmations.round.max(next.round);
        }
    }

    pub(super) fn next_question_deadline(&self) -> Option<Time> {
        let questions = &self.leadership()?.confirmations.questions;
        questions.front().map(|question| question.deadline)
    }
}

/// The replica leads no more, or in another epoch: nobody can tell any more what was.
pub(super) fn fail_questions(confirmations: &mut Confirmations, out: &mut Effects) {
    for token in confirmations.drain() {
        out.push(Effect::Confirmed { token, result: Err(ConfirmError::NotLeader) });
    }
}

//! How a voter that lost its log comes back without doing harm: when it knows what it may have promised, and when it
//! has again what others may rest on.
//!
//! A majority elects, and a majority has what is committed; any two share a voter that gave its vote once in a term,
//! and elects nobody whose log is shorter than its own. A voter that forgets breaks both. So one that lost its log
//!
//! 1. follows nobody with a lower vote than it ever gave. That vote is known if it was kept elsewhere. If it was not,
//!    all the others know one that is high enough: whoever it voted for or followed was one of them, and had raised
//!    his own vote before he asked. What it stood for itself nobody may have heard of yet; it will not stand for the
//!    same again, as it goes on from a term far above theirs, to which they have to follow it.
//! 2. votes for nobody and stands for nothing, until it has the log of one that leads by such a vote, up to where that
//!    ended when the leader was asked, and durably. What was committed by this voter's word in earlier terms, every
//!    leader has; what it acknowledged to this leader, this leader has had since before. *Committed* when it was asked
//!    would not do: an acknowledgement of this voter's former self may still be on its way.
//!
//! Meanwhile it acknowledges what it has durably received, like any follower: what is committed by that is on its disk,
//! and on a leader's, without whose vote, or that of another who has it, nobody is elected.
//! Promise: without these two a committed decision could vanish; with them, voters that recover one after the other, or
//! together under a leader that did not, lose nothing. If more have lost their logs than a majority can spare and nobody
//! leads, nobody is elected: what only they had is on no disk that is read.
//! Never here: who is asked how, what is written where.

use std::collections::BTreeMap;

/// Who leads, or would: ordered, and each is one node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidacy {
    pub term: u64,
    pub node_id: u64,
}

/// Where a log ends, or an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// Of whom the entry is.
    pub leader: Candidacy,
    pub index: u64,
}

/// What another voter says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterStanding {
    /// Whom it has voted for last, or follows.
    pub vote: Candidacy,
    /// It follows that one, or is it: a majority gave it its vote.
    pub elected: bool,
    /// The end of its log.
    pub last: Option<LogPosition>,
}

/// More terms than a voter can have stood for while the others heard of none of them.
const FORGOTTEN_TERMS: u64 = 1 << 20;

/// A voter that lost its log.
#[derive(Clone, Debug)]
pub struct VoterRecovery {
    node_id: u64,
    /// How many others there are.
    others: usize,
    known: Option<Option<Candidacy>>,
    heard: BTreeMap<u64, Candidacy>,
    /// The leader that was asked, and where its log ended.
    target: Option<(Candidacy, LogPosition)>,
}

impl VoterRecovery {
    /// One of `voters`. `vote`: the highest that it ever gave, if that is known; of which there may be none.
    pub fn new(node_id: u64, voters: usize, vote: Option<Option<Candidacy>>) -> VoterRecovery {
        let others = voters.saturating_sub(1);
        VoterRecovery { node_id, others, known: vote, heard: BTreeMap::new(), target: None }
    }

    /// The lowest vote that it may follow; `None`: that is not known yet, and it may follow nobody.
    pub fn floor(&self) -> Option<Option<Candidacy>> {
        self.known
    }

    /// Another has answered. What it says of itself is as of now: it was asked after the log was lost.
    pub fn answered(&mut self, from: u64, standing: VoterStanding) {
        if self.known.is_none() {
            self.hear(from, standing.vote);
        }
        let (Some(floor), VoterStanding { vote, elected, last: Some(last) }) =
            (self.known, standing)
        else {
            return;
        };
        let leads = elected && vote.node_id == from && Some(vote) >= floor;
        // A leader's first own entry is behind all that it was elected with.
        let newer = self.target.is_none_or(|(leader, _)| leader < vote);
        if leads && newer && last.leader == vote {
            self.target = Some((vote, last));
        }
    }

    fn hear(&mut self, from: u64, vote: Candidacy) {
        self.heard.insert(from, vote);
        let highest = self.heard.values().max().filter(|_| self.heard.len() >= self.others);
        if let Some(highest) = highest {
            let term = highest.term.saturating_add(FORGOTTEN_TERMS);
            self.known = Some(Some(Candidacy { term, node_id: self.node_id }));
        }
    }

    /// Whether the leader that is followed has yet to be asked where its log ends.
    pub fn has_to_ask(&self, leader: Candidacy) -> bool {
        self.target.is_none_or(|(asked, _)| asked != leader)
    }

    /// Whether it may vote again: it follows `leader`, and its log is durable up to `last`.
    pub fn is_over(&self, leader: Candidacy, last: Option<LogPosition>) -> bool {
        let (Some((asked, target)), Some(last)) = (self.target, last) else { return false };
        asked == leader && last.leader == asked && last.index >= target.index
    }
}

#[cfg(test)]
mod tests;

//! The metadata log: three voters that agree on decisions as Raft says. Terms, votes, a leader that may not
//! know yet that it is none, entries that a new leader overwrites.
//!
//! What a voter has taken it keeps: term, vote and log are on disk before anything is answered. A restart
//! loses the rest and applies again from the beginning.
//! Never here: what the entries mean, who is asked when. Time and chance are arguments.

use std::rc::Rc;
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::MetadataOffset;
use troupe_proto::internal::v1::MetadataRecord;

/// Leaders are heard this often, and missed after [`ELECTION_MS`].
pub const HEARTBEAT_MS: u64 = 100;
/// The shortest patience of a voter; chance adds to it.
pub const ELECTION_MS: u64 = 500;

/// One decision. Without an offset: a barrier, of a leader that begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub term: u64,
    pub base: Option<MetadataOffset>,
    pub records: Rc<Vec<MetadataRecord>>,
}

#[derive(Clone, Debug)]
pub enum Message {
    Vote {
        term: u64,
        last: (u64, usize),
    },
    Voted {
        term: u64,
        granted: bool,
    },
    Append {
        term: u64,
        previous: (u64, usize),
        entries: Vec<Entry>,
        commit: usize,
    },
    /// `matched`: entries that both have; after a refusal, where the leader may try next.
    Appended {
        term: u64,
        accepted: bool,
        matched: usize,
    },
}

/// Who gets what.
pub type Mail = Vec<(usize, Message)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    Candidate {
        votes: Vec<usize>,
    },
    /// By peer: the next entry to send, and how many are known to be there.
    Leader {
        next: Vec<usize>,
        matched: Vec<usize>,
    },
}

#[derive(Clone, Debug)]
pub struct Voter {
    me: usize,
    voters: usize,
    // on disk
    pub term: u64,
    voted_for: Option<usize>,
    pub log: Vec<Entry>,
    // in memory
    pub role: Role,
    pub leader: Option<usize>,
    pub commit: usize,
    pub applied: usize,
    pub image: ClusterImage,
    patience_ends: u64,
    next_heartbeat: u64,
    /// Entries that were overwritten here.
    pub lost_entries: u64,
}

impl Voter {
    pub fn new(me: usize, voters: usize, now: u64, patience: u64) -> Voter {
        Voter {
            me,
            voters,
            term: 0,
            voted_for: None,
            log: Vec::new(),
            role: Role::Follower,
            leader: None,
            commit: 0,
            applied: 0,
            image: ClusterImage::default(),
            patience_ends: now + patience,
            next_heartbeat: now,
            lost_entries: 0,
        }
    }

    /// The process is gone and comes back.
    pub fn restart(&mut self, now: u64, patience: u64) {
        self.role = Role::Follower;
        self.leader = None;
        self.commit = 0;
        self.applied = 0;
        self.image = ClusterImage::default();
        self.patience_ends = now + patience;
    }

    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }

    fn term_before(&self, len: usize) -> u64 {
        len.checked_sub(1).and_then(|at| self.log.get(at)).map_or(0, |entry| entry.term)
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.voters).filter(move |voter| *voter != me)
    }

    /// An election, if nobody was heard of; a heartbeat, if this one leads.
    pub fn tick(&mut self, now: u64, patience: u64, out: &mut Mail) {
        if self.leads() {
            if self.next_heartbeat <= now {
                self.next_heartbeat = now + HEARTBEAT_MS;
                self.send_entries(out);
            }
        } else if self.patience_ends <= now {
            self.stand(now, patience, out);
        }
    }

    /// Stands for election now, whoever leads.
    pub fn stand(&mut self, now: u64, patience: u64, out: &mut Mail) {
        self.term += 1;
        self.voted_for = Some(self.me);
        self.role = Role::Candidate { votes: vec![self.me] };
        self.leader = None;
        self.patience_ends = now + patience;
        let last = self.last();
        out.extend(self.others().map(|to| (to, Message::Vote { term: self.term, last })));
        self.count_votes(now, out);
    }

    /// Only a leader proposes. Returns how long its log is then.
    pub fn propose(
        &mut self,
        base: Option<MetadataOffset>,
        records: Vec<MetadataRecord>,
        out: &mut Mail,
    ) -> usize {
        assert!(self.leads(), "only a leader proposes");
        self.log.push(Entry { term: self.term, base, records: Rc::new(records) });
        self.send_entries(out);
        self.count_copies();
        self.log.len()
    }

    pub fn receive(
        &mut self,
        now: u64,
        patience: u64,
        from: usize,
        message: Message,
        out: &mut Mail,
    ) {
        let (Message::Vote { term, .. }
        | Message::Voted { term, .. }
        | Message::Append { term, .. }
        | Message::Appended { term, .. }) = message;
        if term > self.term {
            self.term = term;
            self.voted_for = None;
            self.role = Role::Follower;
            self.leader = None;
        }
        match message {
            Message::Vote { last, .. } => {
                let granted = term == self.term
                    && self.voted_for.is_none_or(|voted| voted == from)
                    && last >= self.last();
                if granted {
                    self.voted_for = Some(from);
                    self.patience_ends = now + patience;
                }
                out.push((from, Message::Voted { term: self.term, granted }));
            }
            Message::Voted { granted, .. } => {
                if let Role::Candidate { votes } = &mut self.role
                    && granted
                    && term == self.term
                    && !votes.contains(&from)
                {
                    votes.push(from);
                    self.count_votes(now, out);
                }
            }
            Message::Append { previous, entries, commit, .. } => {
                if term < self.term {
                    let refused =
                        Message::Appended { term: self.term, accepted: false, matched: 0 };
                    out.push((from, refused));
                    return;
                }
                self.role = Role::Follower;
                self.leader = Some(from);
                self.patience_ends = now + patience;
                let answer = self.take(previous, entries, commit);
                out.push((from, answer));
            }
            Message::Appended { accepted, matched, .. } if term == self.term => {
                self.hear(from, accepted, matched, out);
            }
            Message::Appended { .. } => {}
        }
    }

    fn take(&mut self, (term, len): (u64, usize), entries: Vec<Entry>, commit: usize) -> Message {
        if self.log.len() < len || self.term_before(len) != term {
            let matched = self.log.len().min(len.saturating_sub(1));
            return Message::Appended { term: self.term, accepted: false, matched };
        }
        let mut matched = len;
        for entry in entries {
            if self.log.get(matched).is_some_and(|own| own.term != entry.term) {
                assert!(matched >= self.commit, "a committed entry is overwritten");
                self.lost_entries += (self.log.len() - matched) as u64;
                self.log.truncate(matched);
            }
            if self.log.len() == matched {
                self.log.push(entry);
            }
            matched += 1;
        }
        self.commit = self.commit.max(commit.min(matched));
        Message::Appended { term: self.term, accepted: true, matched }
    }

    fn hear(&mut self, from: usize, accepted: bool, known: usize, out: &mut Mail) {
        let Role::Leader { next, matched } = &mut self.role else { return };
        if accepted {
            matched[from] = matched[from].max(known);
            next[from] = next[from].max(known);
            self.count_copies();
        } else {
            next[from] = known;
            self.send_entries_to(from, out);
        }
    }

    fn count_votes(&mut self, now: u64, out: &mut Mail) {
        if let Role::Candidate { votes } = &self.role
            && votes.len() * 2 > self.voters
        {
            let next = vec![self.log.len(); self.voters];
            self.role = Role::Leader { next, matched: vec![0; self.voters] };
            self.leader = Some(self.me);
            self.next_heartbeat = now + HEARTBEAT_MS;
            self.propose(None, Vec::new(), out);
        }
    }

    /// Committed is what a majority has, if it is of this term.
    fn count_copies(&mut self) {
        let Role::Leader { matched, .. } = &self.role else { return };
        let mut copies: Vec<usize> = self.others().map(|voter| matched[voter]).collect();
        copies.push(self.log.len());
        copies.sort_unstable();
        let common = copies[(self.voters - 1) / 2];
        if common > self.commit && self.term_before(common) == self.term {
            self.commit = common;
        }
    }

    fn send_entries(&mut self, out: &mut Mail) {
        for to in self.others() {
            self.send_entries_to(to, out);
        }
    }

    fn send_entries_to(&mut self, to: usize, out: &mut Mail) {
        let Role::Leader { next, matched } = &mut self.role else { return };
        let from = if matched[to] == 0 { next[to] } else { matched[to] };
        let previous = (self.term_before(from), from);
        let entries = self.log[from..].to_vec();
        out.push((to, Message::Append { term: self.term, previous, entries, commit: self.commit }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything is delivered at once.
    fn deliver(voters: &mut [Voter], from: usize, mail: Mail) {
        let mut waiting: Vec<_> =
            mail.into_iter().map(|(to, message)| (from, to, message)).collect();
        while !waiting.is_empty() {
            let (from, to, message) = waiting.remove(0);
            let mut out = Mail::new();
            voters[to].receive(0, 500, from, message, &mut out);
            waiting.extend(out.into_iter().map(|(next, message)| (to, next, message)));
        }
    }

    #[test]
    fn a_leader_commits_with_a_majority_and_overwrites_what_had_none() {
        let mut voters: Vec<_> = (0..3).map(|me| Voter::new(me, 3, 0, 500)).collect();
        let mut out = Mail::new();
        voters[0].stand(0, 500, &mut out);
        deliver(&mut voters, 0, out);
        assert!(voters[0].leads());
        assert_eq!(voters[0].commit, 1);
        // nobody hears of this one
        voters[0].propose(Some(MetadataOffset(0)), Vec::new(), &mut Mail::new());
        let mut out = Mail::new();
        voters[1].stand(0, 500, &mut out);
        deliver(&mut voters, 1, out);
        assert!(voters[1].leads() && !voters[0].leads());
        let mut out = Mail::new();
        voters[1].tick(1_000, 500, &mut out);
        deliver(&mut voters, 1, out);
        assert_eq!((voters[0].lost_entries, voters[0].log.clone()), (1, voters[1].log.clone()));
        assert_eq!(voters[1].commit, 2);
    }
}

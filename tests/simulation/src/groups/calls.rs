//! What members ask of coordinators, beside their streams and on them: how it arrives, and what is answered.

use super::GroupEvent;
use super::committed::Committer;
use super::coordinator::Output;
use super::streams::{Down, Up};
use crate::violation::Checked;
use crate::world::{At, Event, World};
use troupe_machines::group::SessionId;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

/// A commit on its way.
#[derive(Clone, Debug)]
pub struct CommitCall {
    pub member: usize,
    pub attempt: u64,
    pub sent_at: u64,
    pub request: pb::CommitOffsetsRequest,
}

/// A question for committed offsets.
#[derive(Clone, Debug)]
pub struct FetchCall {
    pub member: usize,
    pub attempt: u64,
    pub request: pb::FetchOffsetsRequest,
}

impl World {
    /// A message on a member's stream arrives where it leads to.
    pub fn at_coordinator(&mut self, id: u64, message: Up) -> Checked {
        let Some(stream) = self.groups.streams.get(&id).filter(|stream| stream.open_above) else {
            return Ok(());
        };
        let at: At = (stream.broker, stream.key);
        self.end_if_deposed(at);
        let now = self.steady(at.0);
        let (session, new_id) = (SessionId(id), format!("m-{:08}", self.take_id()));
        let serves = self.machine(at).is_some();
        if let Up::Start(start) = message {
            if !serves {
                self.tell_member(id, Down::Ended(ErrorCode::NotCoordinator));
                return Ok(());
            }
            return self.join(at, session, new_id, start);
        }
        if !serves {
            return Ok(());
        }
        let Some(groups) = self.machine(at) else { return Ok(()) };
        match message {
            Up::Start(_) => Ok(()),
            Up::Applied(number) => {
                let decision = groups.applied(now, session, number);
                self.settle_groups(at, decision, None, |()| None)
            }
            Up::Subscribe(subscription) => match groups.subscribe(now, session, subscription) {
                Ok(decision) => self.settle_groups(at, decision, None, |()| None),
                Err(_) => Ok(()),
            },
            Up::Leave => {
                let decision = groups.leave(now, session);
                self.group_counts.left += 1;
                self.close_above(id);
                self.settle_groups(at, decision, None, |()| None)
            }
        }
    }

    fn join(
        &mut self,
        at: At,
        session: SessionId,
        new_id: String,
        start: pb::MemberStart,
    ) -> Checked {
        let (now, comes_back) = (self.steady(at.0), !start.member_id.is_empty());
        let Some(groups) = self.machine(at) else { return Ok(()) };
        match groups.join(now, session, new_id, "127.0.0.1", start) {
            Ok(decision) => {
                if comes_back {
                    self.group_counts.resumed += 1;
                    let moves = !decision.changes.is_empty();
                    self.group_counts.resumed_with_changes += u64::from(moves);
                } else {
                    self.group_counts.joined += 1;
                }
                if let Some(coordinator) = self.groups.coordinators.get_mut(&at) {
                    coordinator.sessions.insert(session.0);
                }
                self.settle_groups(at, decision, None, |()| None)
            }
            Err(error) => {
                let decision = troupe_machines::group::Decision {
                    changes: Vec::new(),
                    answer: (),
                    pushes: Vec::new(),
                    ended: Vec::new(),
                };
                self.settle_groups(at, decision, None, |()| Some(Output::End(session, error)))
            }
        }
    }

    /// The stream is broken, or closed: what that means is the machine's to say.
    pub fn coordinator_lost_stream(&mut self, id: u64) -> Checked {
        let Some(stream) = self.groups.streams.get(&id).filter(|stream| stream.open_above) else {
            return Ok(());
        };
        let at: At = (stream.broker, stream.key);
        self.close_above(id);
        let now = self.steady(at.0);
        if let Some(groups) = self.machine(at) {
            groups.disconnected(now, SessionId(id));
            self.group_counts.disconnected += 1;
        }
        Ok(())
    }

    pub fn serve_commit(&mut self, site: usize, call: CommitCall) -> Checked {
        let CommitCall { member, attempt, sent_at, request } = call;
        let at: At = (site, self.group_key(&request.group_id));
        self.end_if_deposed(at);
        let now = self.steady(site);
        let Some(groups) = self.machine(at) else {
            self.answer_commit(site, member, attempt, Err(ErrorCode::NotCoordinator));
            return Ok(());
        };
        let committer = Committer {
            member_id: request.member_id.clone(),
            epoch: request.member_epoch,
            sent_at,
        };
        let decision = groups.commit(now, request);
        for result in &decision.answer.results {
            let code = result.error.as_ref().map(|error| error.reason());
            if let Some(code) = code {
                self.count_refusal(code);
            }
        }
        self.settle_groups(at, decision, Some(committer), |result| {
            Some(Output::Committed { member, attempt, result })
        })
    }

    pub fn serve_fetch(&mut self, site: usize, call: FetchCall) -> Checked {
        let at: At = (site, self.group_key(&call.request.group_id));
        self.end_if_deposed(at);
        let FetchCall { member, attempt, request } = call;
        let Some(groups) = self.machine(at) else {
            self.answer_fetch(site, member, attempt, Err(ErrorCode::NotCoordinator));
            return Ok(());
        };
        let asked = request.partitions.len() as u64;
        let result = groups.fetch_offsets(&request).map_err(|error| Error::from(error).code);
        if let Err(code) = result {
            self.count_refusal(code);
        }
        let found = result.as_ref().map_or(0, |found| found.offsets.len() as u64);
        self.trace.note(self.now, "fetch offsets", [site as u64, member as u64, asked, found]);
        // behind all that is decided and not committed yet
        let decision = troupe_machines::group::Decision {
            changes: Vec::new(),
            answer: result,
            pushes: Vec::new(),
            ended: Vec::new(),
        };
        self.settle_groups(at, decision, None, |result| {
            Some(Output::Fetched { member, attempt, result })
        })
    }

    pub fn answer_commit(
        &mut self,
        site: usize,
        member: usize,
        attempt: u64,
        result: Result<pb::CommitOffsetsResponse, ErrorCode>,
    ) {
        let to = self.groups.members[member].site;
        let swallowed = self.now < self.groups.members[member].deaf_until;
        let event = GroupEvent::Committed { member, attempt, result };
        if swallowed || !self.send(site, to, Event::groups(event)) {
            self.group_counts.swallowed_answers += 1;
        }
    }

    pub fn answer_fetch(
        &mut self,
        site: usize,
        member: usize,
        attempt: u64,
        result: Result<pb::FetchOffsetsResponse, ErrorCode>,
    ) {
        let to = self.groups.members[member].site;
        self.send(site, to, Event::groups(GroupEvent::Fetched { member, attempt, result }));
    }

    pub fn count_refusal(&mut self, code: ErrorCode) {
        let counts = &mut self.group_counts;
        match code {
            ErrorCode::UnknownMember => counts.unknown_members += 1,
            ErrorCode::FencedMemberEpoch => counts.fenced_members += 1,
            ErrorCode::StaleMemberEpoch => counts.stale_members += 1,
            ErrorCode::NotAssigned => counts.not_assigned += 1,
            ErrorCode::FencedInstanceId => counts.fenced_instances += 1,
            ErrorCode::GroupNotEmpty => counts.refused_resets += 1,
            _ => {}
        }
    }
}

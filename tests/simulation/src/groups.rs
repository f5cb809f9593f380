//! Consumer groups in the same world: the machine of the coordinators runs where the simulated partition's
//! leader is, on its log and its disk, and dies with it; members come, go, stall and are left for dead.
//!
//! - `coordinator`, `calls`: a coordinator's actor: it loads, decides, appends, and gives out what is committed.
//! - `member`, `hearing`: a member's process. `streams`: the way between the two.
//! - `storm`: what happens to members and topics. `healing`: and then.
//! - `committed`, `reading`: what the log says of groups, and what was read, as nobody in the run can see it.
//!
//! The topic of the other runs is `__consumer_offsets` here; the topics that are read are in the metadata
//! and nowhere else: their logs only grow.

mod calls;
mod committed;
mod coordinator;
mod healing;
mod hearing;
mod member;
mod reading;
mod settings;
mod storm;
mod streams;
mod tests;

pub use committed::{Committer, Holding, Offset as CommittedOffset};
pub use settings::{GroupHostBug, GroupSettings};

use crate::violation::Checked;
use crate::world::{At, Event, World};
use calls::{CommitCall, FetchCall};
use committed::{Batch, Committed};
use coordinator::Coordinator;
use member::Member;
use reading::Reading;
use std::collections::BTreeMap;
use streams::{Down, MemberStream, Up};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{PartitionKey, TopicId};
use troupe_proto::log::v1 as pb;

/// One partition of a topic that is read, of one incarnation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: String,
    pub id: TopicId,
    pub partition: u32,
}

#[derive(Debug)]
pub enum GroupEvent {
    CoordinatorTick,
    MemberTick {
        member: usize,
    },
    Up {
        stream: u64,
        message: Up,
    },
    Down {
        stream: u64,
        message: Down,
    },
    /// This end hears that the stream is broken.
    BrokenBelow {
        stream: u64,
    },
    BrokenAbove {
        stream: u64,
    },
    Commit(Box<CommitCall>),
    Committed {
        member: usize,
        attempt: u64,
        result: Result<pb::CommitOffsetsResponse, ErrorCode>,
    },
    Fetch(Box<FetchCall>),
    Fetched {
        member: usize,
        attempt: u64,
        result: Result<pb::FetchOffsetsResponse, ErrorCode>,
    },
    CallTimeout {
        member: usize,
        attempt: u64,
    },
    Grow,
    Storm,
}

/// Everything of groups that is not a machine of its own.
#[derive(Default)]
pub struct GroupWorld {
    pub coordinators: BTreeMap<At, Coordinator>,
    /// After a coordinator has ended, its successor waits.
    rest_until: BTreeMap<At, u64>,
    pub members: Vec<Member>,
    pub streams: BTreeMap<u64, MemberStream>,
    /// By the value that is produced: what was appended.
    batches: BTreeMap<u64, Batch>,
    /// What each partition of `__consumer_offsets` says up to its high watermark.
    pub committed: BTreeMap<PartitionKey, Committed>,
    pub reading: Reading,
    topics_made: u64,
}

impl World {
    pub fn build_groups(&mut self) {
        let Some(settings) = self.settings.groups.clone() else { return };
        for member in 0..settings.members + settings.twins {
            let site = self.add_site(None);
            let member = Member::draw(member, site, &settings, &mut self.whim);
            self.groups.members.push(member);
        }
        for partition in 0..self.settings.partitions {
            self.groups.committed.insert(self.key(partition), Committed::default());
        }
        for site in 0..self.settings.brokers {
            self.schedule(site, 1_000, Event::groups(GroupEvent::CoordinatorTick));
        }
        self.schedule_free(1_300, Event::groups(GroupEvent::Grow));
        self.schedule_free(2_500, Event::groups(GroupEvent::Storm));
    }

    /// Of which partition of `__consumer_offsets` a group is.
    pub fn group_key(&self, group: &str) -> PartitionKey {
        let number: u32 = group.bytes().map(u32::from).sum();
        self.key(number % self.settings.partitions)
    }

    pub fn group_event(&mut self, site: usize, event: GroupEvent) -> Checked {
        match event {
            GroupEvent::CoordinatorTick => self.coordinator_tick(site)?,
            GroupEvent::MemberTick { member } => self.member_tick(member)?,
            GroupEvent::Up { stream, message } => self.at_coordinator(stream, message)?,
            GroupEvent::Down { stream, message } => self.at_member(stream, message)?,
            GroupEvent::BrokenBelow { stream } => self.member_lost_stream(stream),
            GroupEvent::BrokenAbove { stream } => self.coordinator_lost_stream(stream)?,
            GroupEvent::Commit(call) => self.serve_commit(site, *call)?,
            GroupEvent::Committed { member, attempt, result } => {
                self.commit_answered(member, attempt, result);
            }
            GroupEvent::Fetch(call) => self.serve_fetch(site, *call)?,
            GroupEvent::Fetched { member, attempt, result } => {
                self.fetch_answered(member, attempt, result)?;
            }
            GroupEvent::CallTimeout { member, attempt } => self.call_timeout(member, attempt),
            GroupEvent::Grow => self.grow_topics()?,
            GroupEvent::Storm => self.storm()?,
        }
        Ok(())
    }

    /// What begins with a process on this site.
    pub fn start_group_processes(&mut self, site: usize) {
        if self.settings.groups.is_none() {
            return;
        }
        if site < self.settings.brokers {
            self.schedule(site, 20, Event::groups(GroupEvent::CoordinatorTick));
        }
        let member = self.groups.members.iter().position(|member| member.site == site);
        if let Some(member) = member {
            self.groups.members[member].begin();
            let wait = self.whim.between(1, 100);
            self.schedule(site, wait, Event::groups(GroupEvent::MemberTick { member }));
        }
    }

    /// What ends with the process on this site.
    pub fn end_group_processes(&mut self, site: usize, resets: bool) {
        self.groups.coordinators.retain(|at, _| at.0 != site);
        self.break_member_streams_of(site, resets);
    }
}

//! What happens to members, coordinators and topics; the rest happens to brokers, disks and the network.

use super::GroupEvent;
use super::member::{commit_of, draw_subscription};
use crate::storage::End;
use crate::violation::{Checked, Violation};
use crate::world::{Event, World};
use troupe_machines::cluster::{ClusterPolicy, CreatePartitions, CreateTopic, DeleteTopic};
use troupe_proto::ids::TopicId;
use troupe_proto::log::v1 as pb;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupFault {
    /// Gone without a word, and back as a new process.
    KillMember,
    /// Stands still for longer than its session lasts, and goes on as if nothing were.
    Zombie,
    /// Commits and goes, and joins again soon.
    Leave,
    /// As many as there are.
    AllLeave,
    BreakStream,
    /// Only one end hears of it at first.
    DropStream,
    Slow,
    SwallowAnswers,
    ChangeSubscription,
    StartTwin,
    KillCoordinator,
    CreateTopic,
    AddPartitions,
    DeleteTopic,
    /// Somebody who is no member sets offsets.
    Reset,
}

impl GroupFault {
    pub const ALL: [GroupFault; 15] = [
        GroupFault::KillMember,
        GroupFault::Zombie,
        GroupFault::Leave,
        GroupFault::AllLeave,
        GroupFault::BreakStream,
        GroupFault::DropStream,
        GroupFault::Slow,
        GroupFault::SwallowAnswers,
        GroupFault::ChangeSubscription,
        GroupFault::StartTwin,
        GroupFault::KillCoordinator,
        GroupFault::CreateTopic,
        GroupFault::AddPartitions,
        GroupFault::DeleteTopic,
        GroupFault::Reset,
    ];
}

const MOST_TOPICS: usize = 4;

impl World {
    pub fn storm(&mut self) -> Checked {
        let Some(settings) = self.settings.groups.clone().filter(|_| !self.healing) else {
            return Ok(());
        };
        let wait = 1 + self.fate.below(2 * settings.fault_interval_ms);
        self.schedule_free(wait, Event::groups(GroupEvent::Storm));
        let Some(fault) = self.fate.pick(&settings.faults) else { return Ok(()) };
        let me = self.fate.index(self.groups.members.len());
        self.trace.note(self.now, "storm", [fault as u64, me as u64, 0, 0]);
        match fault {
            GroupFault::KillMember => self.kill_member(me),
            GroupFault::Zombie => self.make_zombie(me),
            GroupFault::Leave => self.ask_to_leave(me),
            GroupFault::AllLeave => {
                if self.fate.one_in(3) {
                    (0..self.groups.members.len()).for_each(|me| self.ask_to_leave(me));
                }
            }
            GroupFault::BreakStream => {
                if let Some(stream) = self.groups.members[me].stream {
                    let resets = self.fate.one_in(2);
                    self.break_member_stream(stream, resets);
                }
            }
            GroupFault::DropStream => {
                let site = self.groups.members[me].site;
                if self.sites[site].up && !self.sites[site].paused {
                    self.drop_stream(me);
                }
            }
            GroupFault::Slow => {
                self.group_counts.slow_members += 1;
                let until = self.now + self.fate.between(500, 6_000);
                self.groups.members[me].slow_until = until;
            }
            GroupFault::SwallowAnswers => {
                let until = self.now + self.fate.between(200, 3_000);
                self.groups.members[me].deaf_until = until;
            }
            GroupFault::ChangeSubscription => {
                let subscription = draw_subscription(&mut self.fate);
                self.groups.members[me].subscription = subscription;
            }
            GroupFault::StartTwin => self.start_twin(),
            GroupFault::KillCoordinator => {
                let running: Vec<_> = self.groups.coordinators.keys().copied().collect();
                if let Some(at) = self.fate.pick(&running) {
                    self.group_counts.coordinators_killed += 1;
                    self.end_coordinator(at);
                }
            }
            GroupFault::CreateTopic => self.create_read_topic()?,
            GroupFault::AddPartitions => self.add_partitions()?,
            GroupFault::DeleteTopic => self.delete_read_topic()?,
            GroupFault::Reset => self.try_to_reset(me),
        }
        Ok(())
    }

    fn kill_member(&mut self, me: usize) {
        let site = self.groups.members[me].site;
        if self.sites[site].up {
            self.group_counts.killed_members += 1;
            self.bury(site, End::Killed);
            let wait = self.fate.between(20, 3_000);
            self.schedule_free(wait, Event::Undo(crate::nemesis::Undo::Restart(site)));
        }
    }

    fn make_zombie(&mut self, me: usize) {
        let target = &mut self.sites[self.groups.members[me].site];
        if target.up && !target.paused {
            target.paused = true;
            self.group_counts.zombies += 1;
            let site = self.groups.members[me].site;
            let wait = self.fate.between(1_000, 6_000);
            self.schedule_free(wait, Event::Undo(crate::nemesis::Undo::Resume(site)));
        }
    }

    fn ask_to_leave(&mut self, me: usize) {
        let commits_first = self.fate.between(0, 1_500);
        let member = &mut self.groups.members[me];
        if member.joined {
            member.leaving.get_or_insert(self.now + commits_first);
        }
    }

    /// A second process of a static member, while the first may still run.
    fn start_twin(&mut self) {
        let twins: Vec<usize> = (0..self.groups.members.len())
            .filter(|me| self.groups.members[*me].is_twin && self.groups.members[*me].stopped)
            .collect();
        let Some(me) = self.fate.pick(&twins) else { return };
        let site = self.groups.members[me].site;
        if self.sites[site].up && !self.sites[site].paused {
            self.group_counts.twins += 1;
            self.groups.members[me].stopped = false;
            self.start_processes(site);
        }
    }

    /// Somebody sets offsets to the beginning: only a group without members takes it.
    fn try_to_reset(&mut self, me: usize) {
        let group = self.groups.members[me].group.clone();
        let places = self.places();
        let request = pb::CommitOffsetsRequest {
            group_id: group,
            member_id: String::new(),
            member_epoch: 0,
            commits: places.iter().map(|place| commit_of(place, 0)).collect(),
            ..Default::default()
        };
        let attempt = self.take_id();
        if !places.is_empty() {
            self.send_commit(me, attempt, request);
        }
    }

    fn topic_names(&self) -> Vec<(String, u32)> {
        let topics = self.truth.image().topics();
        let read = topics.filter(|topic| *topic.name != *crate::world::TOPIC);
        read.map(|topic| (topic.name.to_string(), topic.partitions.len() as u32)).collect()
    }

    /// Some there are from the beginning.
    pub fn make_first_topics(&mut self) -> Checked {
        let wants =
            self.groups.topics_made < 2 && self.truth.image().topic(crate::world::TOPIC).is_some();
        if wants { self.create_read_topic() } else { Ok(()) }
    }

    fn create_read_topic(&mut self) -> Checked {
        let Some(site) = self.active_site() else { return Ok(()) };
        let Some(tip) = self.tip(site) else { return Ok(()) };
        let name = ["a0", "b1", "a2", "b3"][self.groups.topics_made as usize % 4].to_owned();
        let (id, seed) = (self.take_id(), self.net.next());
        let mut bytes = [9; 16];
        bytes[..8].copy_from_slice(&id.to_be_bytes());
        let Some(topic_id) = TopicId::from_wire(&bytes) else { return Ok(()) };
        let active = tip.brokers().filter(|broker| broker.is_active()).count();
        if tip.topic(&name).is_some() || tip.topic_count() > MOST_TOPICS || active == 0 {
            self.groups.topics_made += u64::from(tip.topic(&name).is_some());
            return Ok(());
        }
        let request = CreateTopic {
            name,
            partitions: Some(self.fate.between(1, 4) as i32),
            replication_factor: Some(1),
            ..CreateTopic::default()
        };
        let decision = tip
            .create_topic(&ClusterPolicy::default(), &request, topic_id, seed)
            .map_err(|error| Violation::new("a topic can be made", error.to_string()))?;
        self.groups.topics_made += 1;
        self.group_counts.topics_created += 1;
        self.decide(site, decision)
    }

    fn add_partitions(&mut self) -> Checked {
        let Some(site) = self.active_site() else { return Ok(()) };
        let Some(tip) = self.tip(site) else { return Ok(()) };
        let Some((name, count)) = self.fate_pick_topic() else { return Ok(()) };
        let seed = self.net.next();
        let request =
            CreatePartitions { name, total: count as i32 + 1, ..CreatePartitions::default() };
        if count < 6
            && let Ok(decision) = tip.create_partitions(&ClusterPolicy::default(), &request, seed)
        {
            self.group_counts.partitions_added += 1;
            return self.decide(site, decision);
        }
        Ok(())
    }

    fn delete_read_topic(&mut self) -> Checked {
        let Some(site) = self.active_site().filter(|_| self.fate.one_in(2)) else { return Ok(()) };
        let Some(tip) = self.tip(site) else { return Ok(()) };
        let Some((name, _)) = self.fate_pick_topic() else { return Ok(()) };
        let request = DeleteTopic { name, ..DeleteTopic::default() };
        if let Ok(decision) = tip.delete_topic(&ClusterPolicy::default(), &request) {
            self.group_counts.topics_deleted += 1;
            return self.decide(site, decision);
        }
        Ok(())
    }

    fn fate_pick_topic(&mut self) -> Option<(String, u32)> {
        let names = self.topic_names();
        if names.is_empty() { None } else { Some(names[self.fate.index(names.len())].clone()) }
    }
}

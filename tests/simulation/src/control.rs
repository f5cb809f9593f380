//! The controllers: the active one decides with the cluster machine on top of what it has proposed before,
//! answers when it is committed, keeps the brokers' sessions, and tells them what is new.

mod sessions;

use crate::damage::keep_leader_epoch;
use crate::quorum::{Mail, Message};
use crate::settings::HostBug;
use crate::truth::News;
use crate::violation::{Checked, Violation};
use crate::world::{Event, TOPIC, World};
use std::collections::{BTreeMap, VecDeque};
use troupe_machines::cluster::{
    self, Arrival, ClusterError, ClusterImage, ClusterPolicy, CreateTopic, Decision, RegisterBroker,
};
use troupe_machines::replica::{AlterPartition, AlterPartitionError, CommittedIsr};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, MetadataOffset, NodeId, PartitionKey};

const SESSION_TIMEOUT_MS: u64 = 2_000;
const TICK_MS: u64 = 50;
/// A broker that lacks more gets a snapshot.
const MOST_RECORDS: u64 = 30;

/// What a broker asks the active controller for.
#[derive(Clone, Debug)]
pub enum Request {
    Register {
        broker: RegisterBroker,
        stopped_cleanly: Option<BrokerEpoch>,
        holds_nothing: bool,
    },
    Heartbeat {
        node: NodeId,
        epoch: BrokerEpoch,
        applied: MetadataOffset,
    },
    Alter {
        node: NodeId,
        epoch: BrokerEpoch,
        key: PartitionKey,
        host: u64,
        request: AlterPartition,
    },
    Report {
        node: NodeId,
        epoch: BrokerEpoch,
        dead: Vec<(PartitionKey, LeaderEpoch)>,
    },
    Lose {
        node: NodeId,
        epoch: BrokerEpoch,
        keys: Vec<PartitionKey>,
    },
    Shutdown {
        node: NodeId,
        epoch: BrokerEpoch,
    },
}

#[derive(Clone, Debug)]
pub enum Answer {
    Registered(BrokerEpoch),
    Heard(Option<News>),
    Altered {
        key: PartitionKey,
        host: u64,
        request: AlterPartition,
        result: Result<CommittedIsr, AlterPartitionError>,
    },
    Reported,
    /// An image from there on goes by what was found damaged.
    LossKnown {
        from: MetadataOffset,
    },
    ShuttingDown,
    /// The broker has registered anew, or is not registered.
    StaleEpoch,
    /// Not now.
    Refused,
    NotController {
        active: Option<usize>,
    },
}

#[derive(Debug)]
struct Reply {
    to: usize,
    life: u64,
    id: u64,
    answer: Answer,
}

/// What only the controller has that leads, in its term.
pub struct Active {
    term: u64,
    /// Applied, all that was before is known.
    barrier: usize,
    ready: bool,
    /// The committed image and all that is proposed.
    tip: ClusterImage,
    /// Until so many entries are applied.
    parked: VecDeque<(usize, Reply)>,
    /// When each broker was last heard of.
    heard: BTreeMap<NodeId, u64>,
}

impl World {
    pub fn voter_tick(&mut self, site: usize) -> Checked {
        self.schedule(site, TICK_MS, Event::VoterTick);
        let (now, patience) = (self.now, self.patience());
        let mut mail = Mail::new();
        if let Some(voter) = &mut self.sites[site].voter {
            voter.tick(now, patience, &mut mail);
        }
        self.voter_changed(site, mail)?;
        self.keep_sessions(site)
    }

    pub fn raft_message(&mut self, site: usize, from: usize, message: Message) -> Checked {
        let (now, patience) = (self.now, self.patience());
        let mut mail = Mail::new();
        if let Some(voter) = &mut self.sites[site].voter {
            let lost = voter.lost_entries;
            voter.receive(now, patience, from, message, &mut mail);
            self.counts.lost_metadata_entries += voter.lost_entries - lost;
        }
        self.voter_changed(site, mail)
    }

    /// This voter stands for election though nobody is missing.
    pub fn stand_for_election(&mut self, site: usize) -> Checked {
        let (now, patience) = (self.now, self.patience());
        let mut mail = Mail::new();
        if let Some(voter) = &mut self.sites[site].voter {
            voter.stand(now, patience, &mut mail);
        }
        self.voter_changed(site, mail)
    }

    /// Sends what the voter says, applies what is committed, and begins or ends being active.
    fn voter_changed(&mut self, site: usize, mail: Mail) -> Checked {
        let Some(me) = (0..crate::world::VOTERS).find(|voter| self.voter_site(*voter) == site)
        else {
            return Ok(());
        };
        for (to, message) in mail {
            let to = self.voter_site(to);
            self.send(site, to, Event::Raft { from: me, message });
        }
        self.apply(site)?;
        let Some(voter) = &self.sites[site].voter else { return Ok(()) };
        let (leads, term, len, applied) =
            (voter.leads(), voter.term, voter.log.len(), voter.applied);
        if self.sites[site].active.as_ref().is_some_and(|active| !leads || active.term != term) {
            self.sites[site].active = None;
        }
        if leads && self.sites[site].active.is_none() {
            self.trace.note(self.now, "leads metadata", [site as u64, term, 0, 0]);
            self.sites[site].active = Some(Active {
                term,
                barrier: len,
                ready: false,
                tip: ClusterImage::default(),
                parked: VecDeque::new(),
                heard: BTreeMap::new(),
            });
        }
        self.answer_parked(site, applied);
        Ok(())
    }

    fn apply(&mut self, site: usize) -> Checked {
        let Some(voter) = &mut self.sites[site].voter else { return Ok(()) };
        let (from, mut unclean) = (voter.image.next_offset(), Vec::new());
        while voter.applied < voter.commit {
            let entry = voter.log[voter.applied].clone();
            voter.applied += 1;
            let Some(base) = entry.base else { continue };
            if base != voter.image.next_offset() {
                continue;
            }
            let replayed = voter.image.replay_all(&entry.records);
            replayed.map_err(|error| Violation::new("I22 records replay", error.to_string()))?;
            unclean.extend(self.truth.applied(base, &entry.records, &mut self.counts)?);
        }
        let end = voter.image.next_offset();
        unclean.into_iter().for_each(|election| self.judge_election(election));
        let is_active = self.sites[site].active.as_ref().is_some_and(|active| active.ready);
        if is_active && end > from {
            self.trace.note(self.now, "metadata", [site as u64, from.0, end.0, 0]);
            for to in 0..self.settings.brokers {
                let records = self.truth.records(from, end);
                self.send(site, to, Event::News(News::Records { from, records }));
            }
        }
        Ok(())
    }

    fn answer_parked(&mut self, site: usize, applied: usize) {
        let now = self.now;
        let Some(voter) = &self.sites[site].voter else { return };
        let image = voter.image.clone();
        let Some(active) = &mut self.sites[site].active else { return };
        if !active.ready && applied >= active.barrier {
            active.ready = true;
            active.heard = image.brokers().map(|broker| (broker.node_id, now)).collect();
            active.tip = image;
        }
        let mut free = Vec::new();
        while active.parked.front().is_some_and(|(index, _)| *index <= applied) {
            free.extend(active.parked.pop_front().map(|(_, reply)| reply));
        }
        for reply in free {
            self.reply(site, reply);
        }
    }

    fn reply(&mut self, site: usize, Reply { to, life, id, answer }: Reply) {
        let again = self.net.one_in(16) && matches!(answer, Answer::Altered { .. });
        if again {
            self.counts.repeated_answers += 1;
            let event = Event::FromController { id, answer: Box::new(answer.clone()) };
            self.send_life(site, to, life, event);
        }
        let lost = !self.healing && self.net.one_in(40);
        let event = Event::FromController { id, answer: Box::new(answer) };
        if lost || !self.send_life(site, to, life, event) {
            self.counts.lost_answers += 1;
        }
    }

    /// Proposes what was decided; answers once it, and all before it, is applied.
    fn settle<T>(
        &mut self,
        site: usize,
        decision: Decision<T>,
        reply: impl FnOnce(T) -> Option<(usize, u64, u64, Answer)>,
    ) -> Checked {
        let mut mail = Mail::new();
        let answer = reply(decision.answer);
        let crate::world::Site { active: Some(active), voter: Some(voter), .. } =
            &mut self.sites[site]
        else {
            return Ok(());
        };
        let base = active.tip.next_offset();
        let index = if decision.records.is_empty() {
            voter.log.len()
        } else {
            let replayed = active.tip.replay_all(&decision.records);
            replayed.map_err(|error| Violation::new("I22 decisions replay", error.to_string()))?;
            voter.propose(Some(base), decision.records, &mut mail)
        };
        if let Some((to, life, id, answer)) = answer {
            active.parked.push_back((index, Reply { to, life, id, answer }));
        }
        self.voter_changed(site, mail)
    }

    /// The image to decide on; `None` if somebody else decides, or this one is not ready yet.
    pub fn tip(&self, site: usize) -> Option<ClusterImage> {
        let active = self.sites[site].active.as_ref().filter(|active| active.ready)?;
        Some(active.tip.clone())
    }

    pub fn active_site(&self) -> Option<usize> {
        (0..self.sites.len()).find(|site| {
            self.sites[*site].up && !self.sites[*site].paused && self.tip(*site).is_some()
        })
    }

    /// A decision that nobody waits for.
    pub fn decide<T>(&mut self, site: usize, decision: Decision<T>) -> Checked {
        self.settle(site, decision, |_| None)
    }

    pub fn serve_request(
        &mut self,
        site: usize,
        from: usize,
        life: u64,
        id: u64,
        request: Request,
    ) -> Checked {
        let Some(tip) = self.tip(site) else {
            let active = self.sites[site].voter.as_ref().and_then(|voter| voter.leader);
            self.reply(
                site,
                Reply { to: from, life, id, answer: Answer::NotController { active } },
            );
            return Ok(());
        };
        let refuse = |error: &ClusterError| match error {
            ClusterError::StaleBrokerEpoch { .. } | ClusterError::UnknownBroker { .. } => {
                Answer::StaleEpoch
            }
            _ => Answer::Refused,
        };
        let now = self.now;
        let refused = match request {
            Request::Register { broker, stopped_cleanly, holds_nothing } => {
                let node = broker.node_id;
                let heard = self.sites[site].active.as_mut().map(|active| &mut active.heard);
                let last = heard.as_ref().and_then(|heard| heard.get(&node).copied());
                let predecessor_alive = last.is_some_and(|last| now < last + SESSION_TIMEOUT_MS);
                let arrival = Arrival {
                    predecessor_alive,
                    stopped_cleanly,
                    holds_nothing,
                    ..Arrival::default()
                };
                match tip.register_broker(&broker, arrival) {
                    Ok(decision) => {
                        heard.map(|heard| heard.insert(node, now));
                        self.trace.note(now, "register", [site as u64, node.0 as u64, 0, 0]);
                        return self.settle(site, decision, |epoch| {
                            Some((from, life, id, Answer::Registered(epoch)))
                        });
                    }
                    Err(error) => refuse(&error),
                }
            }
            Request::Heartbeat { node, epoch, applied } => {
                return self.heartbeat(site, &tip, (from, life, id), (node, epoch, applied));
            }
            Request::Alter { node, epoch, key, host, request } => {
                let asked = alter_request(key, &request);
                match tip.alter_partition(node, epoch, &asked) {
                    Ok(decision) => {
                        return self.settle(site, decision, |partition| {
                            // R9: NEW_LEADER_ELECTED, where that was the end of its own replica
                            let result = match partition.leader == Some(node) {
                                true => Ok(CommittedIsr {
                                    leader_epoch: partition.leader_epoch,
                                    partition_epoch: partition.partition_epoch,
                                    isr: partition.isr,
                                }),
                                false => Err(AlterPartitionError::FencedLeaderEpoch),
                            };
                            let answer = Answer::Altered { key, host, request, result };
                            Some((from, life, id, answer))
                        });
                    }
                    Err(error) => {
                        let result = Err(self.alter_error(&error));
                        Answer::Altered { key, host, request, result }
                    }
                }
            }
            Request::Report { node, epoch, dead } => match tip.fail_replicas(node, epoch, &dead) {
                Ok(decision) => {
                    return self
                        .settle(site, decision, |()| Some((from, life, id, Answer::Reported)));
                }
                Err(error) => refuse(&error),
            },
            Request::Lose { node, epoch, keys } => match tip.lose_replicas(node, epoch, &keys) {
                Ok(mut decision) => {
                    if self.settings.has_host_bug(HostBug::KeepStreamsOfDamaged) {
                        let records = &mut decision.records;
                        records.iter_mut().for_each(|record| keep_leader_epoch(&tip, record));
                    }
                    let known = tip.next_offset().0 + decision.records.len() as u64;
                    let known = Answer::LossKnown { from: MetadataOffset(known) };
                    return self.settle(site, decision, |()| Some((from, life, id, known)));
                }
                Err(error) => refuse(&error),
            },
            Request::Shutdown { node, epoch } => match tip.begin_shutdown(node, epoch) {
                Ok(decision) => {
                    return self
                        .settle(site, decision, |_| Some((from, life, id, Answer::ShuttingDown)));
                }
                Err(error) => refuse(&error),
            },
        };
        if self.settings.has_host_bug(HostBug::RefuseByWhatIsProposed) {
            self.reply(site, Reply { to: from, life, id, answer: refused });
            return Ok(());
        }
        // a refusal rests on what was proposed before, and that may come to nothing
        let refusal = Decision { records: Vec::new(), answer: () };
        self.settle(site, refusal, |()| Some((from, life, id, refused)))
    }

    fn alter_error(&mut self, error: &ClusterError) -> AlterPartitionError {
        match error {
            ClusterError::FencedLeaderEpoch { .. } => {
                self.counts.fenced_alters += 1;
                AlterPartitionError::FencedLeaderEpoch
            }
            ClusterError::StalePartitionEpoch { .. } => {
                self.counts.stale_alters += 1;
                AlterPartitionError::StalePartitionEpoch
            }
            ClusterError::IneligibleReplica { .. } => {
                self.counts.ineligible_alters += 1;
                AlterPartitionError::IneligibleReplica
            }
            ClusterError::InvalidIsr { .. } | ClusterError::NotTheLeader { .. } => {
                AlterPartitionError::InvalidRequest
            }
            _ => AlterPartitionError::Unavailable,
        }
    }

    fn create_topic(&mut self, site: usize, tip: &ClusterImage) -> Checked {
        let active = tip.brokers().filter(|broker| broker.is_active()).count();
        if tip.topic(TOPIC).is_some() || active < self.settings.brokers {
            return Ok(());
        }
        let request = CreateTopic {
            name: TOPIC.to_owned(),
            partitions: Some(self.settings.partitions as i32),
            replication_factor: Some(3),
            configs: self.settings.topic_overrides(),
            ..CreateTopic::default()
        };
        let topic_id = self.key(0).topic_id;
        let seed = self.net.next();
        let decision = tip
            .create_topic(&ClusterPolicy::default(), &request, topic_id, seed)
            .map_err(|error| Violation::new("a topic can be made", error.to_string()))?;
        self.decide(site, decision)
    }
}

fn alter_request(key: PartitionKey, request: &AlterPartition) -> cluster::AlterPartition {
    let isr = request.isr.iter();
    cluster::AlterPartition {
        key,
        leader_epoch: request.leader_epoch,
        partition_epoch: request.partition_epoch,
        isr: isr
            .map(|member| cluster::IsrMember {
                node: member.node,
                broker_epoch: member.broker_epoch,
            })
            .collect(),
        // there are no transactions to recover
        recovered: true,
    }
}

//! Time, chance, the order of events; and the hands of the machines: what an actor and a network would do.

use super::super::{
    AlterPartitionError, Effect, Effects, Follower, LeaderEnds, LogEnds, OpenError, Opening,
    PartitionState, Replica, ReplicaConfig, ReplicationEffect, Role, Session, SliceError,
};
use super::clients::{Client, PRODUCERS};
use super::controller::{Controller, Request};
use super::disk::DiskLog;
use super::invariants::{self, Ledger};
use super::network::{Link, Peer, ToFollower, ToLeader};
use crate::config::{FlushPolicy, TopicConfig};
use crate::replica::planted::{Bug, Bugs};
use crate::time::Time;
use std::collections::VecDeque;
use std::fmt;
use troupe_proto::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionId, PartitionKey, TopicId,
};

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    invariant: &'static str,
    what: String,
}

impl Violation {
    pub fn new(invariant: &'static str, what: String) -> Violation {
        Violation { invariant, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Chance from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

macro_rules! stats {
    ($($name:ident),* $(,)?) => {
        /// What has happened, so that it is known that it does.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Stats { $(pub $name: u64),* }

        impl Stats {
            pub fn add(&mut self, other: &Stats) { $(self.$name += other.$name;)* }

            pub fn assert_all_happened(&self) {
                $(assert!(self.$name > 0, "never: {}", stringify!($name));)*
            }
        }
    };
}

stats! {
    acknowledged, duplicates, duplicates_after_failover, unknown_outcomes, elections, expansions,
    shrinks, lost_alter_answers, stale_alters, fenced_alters, ineligible_alters, elections_needed,
    truncations, resets, deletions, power_losses, lost_batches, process_kills, actor_kills, fences,
    pauses, broken_streams, late_reports,
}

/// A process, its disk, and the replica's actor if it lives.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: NodeId,
    /// Counts the replica's actors.
    pub life: u64,
    pub is_up: bool,
    pub is_paused: bool,
    pub broker_epoch: BrokerEpoch,
    pub replica: Option<Replica>,
    pub log: DiskLog,
    pub flushing: Option<Offset>,
    pub high_watermark_checkpoint: Offset,
    /// News on its way, and the latest that arrived.
    pub inbox: VecDeque<PartitionState>,
    pub known: Option<PartitionState>,
    /// For the invariants, of this life: newest epoch told, log start and high watermark seen, how far its
    /// visible batches have been compared.
    pub told_epoch: Option<LeaderEpoch>,
    pub seen: (Offset, Offset),
    pub compared: Offset,
}

pub struct World {
    pub chance: Chance,
    pub now: Time,
    pub config: ReplicaConfig,
    bug: Option<Bug>,
    steps: u64,
    steps_per_fault: u64,
    pub nodes: Vec<Node>,
    pub controller: Controller,
    pub links: Vec<Link>,
    pub clients: Vec<Client>,
    pub next_value: u32,
    pub next_token: u64,
    pub ledger: Ledger,
    pub stats: Stats,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut chance = Chance(seed.wrapping_mul(0xA24B_AED4_963E_E407));
        let topic = ReplicaConfig::from_topic(
            &TopicConfig::default(),
            ReplicaConfig::PRODUCER_ID_EXPIRATION_MS,
        );
        let flush_policy = if chance.one_in(4) { FlushPolicy::Os } else { FlushPolicy::Commit };
        let min_insync_replicas = 1 + chance.below(2) as u32;
        let config = ReplicaConfig { flush_policy, min_insync_replicas, ..topic };
        let steps_per_fault = 8 + chance.below(80);
        let ids = [NodeId(0), NodeId(1), NodeId(2)];
        let node = |id| Node {
            id,
            life: 0,
            is_up: true,
            is_paused: false,
            broker_epoch: BrokerEpoch(0),
            replica: None,
            log: DiskLog::default(),
            flushing: None,
            high_watermark_checkpoint: Offset::ZERO,
            inbox: VecDeque::new(),
            known: None,
            told_epoch: None,
            seen: (Offset::ZERO, Offset::ZERO),
            compared: Offset::ZERO,
        };
        let mut world = World {
            chance,
            now: Time(1_700_000_000_000),
            config,
            bug,
            steps: 0,
            steps_per_fault,
            nodes: ids.map(node).into(),
            controller: Controller::new(&ids),
            links: Vec::new(),
            clients: vec![Client::default(); PRODUCERS + 1],
            next_value: 0,
            next_token: 0,
            ledger: Ledger::default(),
            stats: Stats::default(),
        };
        world.publish();
        for node in 0..ids.len() {
            world.build_replica(node).expect("nothing is there yet");
        }
        world
    }

    /// One event, by chance; then everything that has to hold is looked at.
    pub fn step(&mut self) -> Result<(), Violation> {
        let node = self.chance.index(self.nodes.len());
        if self.chance.one_in(self.steps_per_fault) {
            self.fault(node)?;
            return self.check();
        }
        match self.chance.below(93) {
            0..=39 if !self.links.is_empty() => {
                let link = self.chance.index(self.links.len());
                if self.chance.one_in(2) {
                    self.deliver_to_leader(link)?;
                } else {
                    self.deliver_to_follower(link)?;
                }
            }
            40..=54 if !self.links.is_empty() => {
                let link = self.chance.index(self.links.len());
                self.push(link);
            }
            55..=66 => {
                let client = self.chance.index(self.clients.len());
                self.client_step(client)?;
            }
            67..=75 => self.finish_flush(node)?,
            76..=80 => self.deliver_news(node)?,
            81..=84 => self.serve_request()?,
            85..=92 => {
                let long = self.chance.one_in(12);
                let ms = self.chance.below(if long { 20_000 } else { 60 });
                self.pass_time(ms)?;
            }
            _ => {}
        }
        self.check()
    }

    pub fn check(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        self.links.retain(|link| !link.is_done());
        for node in 0..self.nodes.len() {
            self.check_node(node)?;
        }
        if self.steps.is_multiple_of(16) {
            self.check_durability()?;
        }
        Ok(())
    }

    pub fn check_durability(&self) -> Result<(), Violation> {
        for (i, node) in self.nodes.iter().enumerate() {
            if self.controller.state.isr.contains(&node.id) {
                invariants::committed_is_durable(&self.ledger, i, &node.log)?;
            }
        }
        Ok(())
    }

    /// What became visible on this node, and whether it may be.
    pub fn check_node(&mut self, node: usize) -> Result<(), Violation> {
        invariants::offsets_only_grow(&mut self.nodes[node])?;
        let visible = self.nodes[node].seen.1;
        if self.nodes[node].replica.is_none() || self.nodes[node].compared >= visible {
            return Ok(());
        }
        let isr = &self.controller.state.isr;
        let policy = self.config.flush_policy;
        invariants::in_sync_replicas_have_what_is_committed(visible, isr, &self.nodes, policy)?;
        let from = self.nodes[node].compared;
        for batch in &self.nodes[node].log.batches {
            if batch.base_offset >= from
                && batch.end_offset() <= visible
                && !invariants::committed_never_changes(&self.ledger, batch)?
            {
                invariants::no_record_twice_and_in_order(&mut self.ledger, batch)?;
                self.ledger.committed.insert(batch.base_offset, *batch);
            }
        }
        self.nodes[node].compared = visible;
        Ok(())
    }

    pub fn leads(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        !node.is_paused && node.replica.as_ref().is_some_and(|r| r.role() == Role::Leader)
    }

    fn is_awake(&self, node: usize) -> bool {
        self.nodes[node].replica.is_some() && !self.nodes[node].is_paused
    }

    /// Runs the machine of an awake node, and carries out what it asks for.
    pub fn drive(
        &mut self,
        node: usize,
        event: impl FnOnce(&mut Replica, Time, &mut Effects),
    ) -> Result<(), Violation> {
        let mut out = Effects::new();
        if let Some(replica) = &mut self.nodes[node].replica {
            event(replica, self.now, &mut out);
        }
        self.perform(node, out)
    }

    pub fn perform(&mut self, node: usize, effects: Effects) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                Effect::Answer { token, result } => self.answered(node, token, result)?,
                Effect::Flush => {
                    assert_eq!(self.nodes[node].flushing, None, "one flush is under way");
                    self.nodes[node].flushing = Some(self.nodes[node].log.end());
                }
                // Travels with the next slice.
                Effect::HighWatermark(_) => {}
                Effect::LeaderEpochStarted { leader_epoch, start_offset } => {
                    assert_eq!(start_offset, self.nodes[node].log.end());
                    self.nodes[node].log.assign_epoch(leader_epoch, start_offset);
                }
                Effect::Replication(effect) => self.replicate(node, effect)?,
            }
        }
        Ok(())
    }

    fn replicate(&mut self, node: usize, effect: ReplicationEffect) -> Result<(), Violation> {
        let (id, life) = (self.nodes[node].id, self.nodes[node].life);
        match effect {
            ReplicationEffect::AlterPartition(request) => {
                self.controller.requests.push_back(Request::Alter { from: node, life, request });
            }
            ReplicationEffect::ElectionNeeded { leader_epoch } => {
                self.stats.elections_needed += 1;
                let leader_epoch = Some(leader_epoch);
                self.controller.requests.push_back(Request::ReplicaDead { node: id, leader_epoch });
            }
            ReplicationEffect::Open { leader, session } => {
                let last_epoch = self.nodes[node].log.last_epoch();
                let replica = self.nodes[node].replica.as_ref();
                let position = replica.and_then(|replica| replica.position(last_epoch));
                let position = position.expect("who opens a stream follows");
                self.links.push(Link::new(
                    Peer { node, life, session },
                    leader.0 as usize,
                    position,
                ));
            }
            ReplicationEffect::Close { session } => {
                let delivers = self.chance.one_in(2);
                for link in self.links_of(node, session) {
                    link.break_off(delivers);
                }
            }
            ReplicationEffect::ReportEnd { session, end } => {
                for link in self.links_of(node, session).filter(|link| !link.broken) {
                    link.to_leader.push_back(ToLeader::Report(end));
                }
            }
            ReplicationEffect::Truncate { to } => self.truncate(node, to)?,
            ReplicationEffect::ResetTo { offset } => {
                self.stats.resets += 1;
                invariants::truncation_stays_above(&self.nodes[node], offset)?;
                self.nodes[node].log.reset(offset);
                self.nodes[node].flushing = self.nodes[node].flushing.map(|_| offset);
                self.nodes[node].compared = offset;
                self.drive(node, |replica, now, out| {
                    replica.on_reset(offset);
                    replica.continue_following(now, out);
                })?;
            }
            ReplicationEffect::DeleteBefore { offset } => {
                self.nodes[node].log.delete_before(offset);
                self.drive(node, |replica, _, _| replica.on_log_start(offset))?;
            }
        }
        Ok(())
    }

    fn truncate(&mut self, node: usize, to: Offset) -> Result<(), Violation> {
        self.stats.truncations += 1;
        invariants::truncation_stays_above(&self.nodes[node], to)?;
        self.nodes[node].log.truncate(to);
        let (end, batches) = (self.nodes[node].log.end(), self.nodes[node].log.batches.clone());
        self.nodes[node].flushing = self.nodes[node].flushing.map(|target| target.min(end));
        self.drive(node, |replica, now, out| {
            replica.on_truncated(end, None);
            for batch in &batches {
                replica.on_recovered_batch(now, batch);
            }
            replica.continue_following(now, out);
        })
    }

    fn links_of(&mut self, node: usize, session: Session) -> impl Iterator<Item = &mut Link> {
        let life = self.nodes[node].life;
        self.links.iter_mut().filter(move |link| {
            let follower = link.follower;
            (follower.node, follower.life, follower.session) == (node, life, session)
        })
    }

    pub fn push(&mut self, link: usize) {
        let Some(leader) = self.links[link].leader else { return };
        let node = &self.nodes[leader.node];
        if self.links[link].broken || node.is_paused || node.life != leader.life {
            return;
        }
        let Some(replica) = &node.replica else { return };
        let ends =
            LeaderEnds { high_watermark: replica.high_watermark(), log_start: node.log.start };
        let next = self.links[link].next;
        let follower = self.nodes[self.links[link].follower.node].id;
        if next < node.log.start || !replica.has_stream(follower, leader.session) {
            self.links[link].break_off(true);
            return;
        }
        let most = 1 + self.chance.index(3);
        let batches: Vec<_> =
            node.log.batches.iter().filter(|b| b.base_offset >= next).take(most).copied().collect();
        if batches.is_empty() && self.links[link].told == Some(ends) {
            return;
        }
        let link = &mut self.links[link];
        link.next = batches.last().map_or(next, |batch| batch.end_offset());
        link.told = Some(ends);
        link.to_follower.push_back(ToFollower::Slice(batches, ends));
    }

    pub fn deliver_to_leader(&mut self, link: usize) -> Result<(), Violation> {
        let node = self.links[link].leader_node;
        if self.nodes[node].is_paused {
            return Ok(());
        }
        let Some(message) = self.links[link].to_leader.pop_front() else { return Ok(()) };
        let life = self.nodes[node].life;
        let accepted = self.links[link].leader.filter(|leader| leader.life == life);
        let follower = self.nodes[self.links[link].follower.node].id;
        match (message, accepted) {
            (ToLeader::Open(position), _) if self.nodes[node].replica.is_some() => {
                let epoch_end =
                    position.last_epoch.and_then(|epoch| self.nodes[node].log.epoch_end(epoch));
                let broker_epoch = self.nodes[self.links[link].follower.node].broker_epoch;
                let follower = Follower { node: follower, broker_epoch };
                let mut answer = Err(OpenError::NotLeader);
                self.drive(node, |replica, now, out| {
                    answer = replica.on_follower_opened(now, follower, &position, epoch_end, out);
                })?;
                self.answer_opening(link, life, answer);
            }
            (ToLeader::Open(_), _) => self.links[link].break_off(false),
            (ToLeader::Report(end), Some(leader)) => {
                self.stats.late_reports += u64::from(self.links[link].broken);
                self.drive(node, |replica, now, out| {
                    replica.on_follower_end(now, follower, leader.session, end, out);
                })?;
            }
            (ToLeader::Closed, Some(leader)) => self.drive(node, |replica, now, out| {
                replica.on_follower_closed(now, follower, leader.session, out);
            })?,
            (ToLeader::Report(_) | ToLeader::Closed, None) => {}
        }
        Ok(())
    }

    fn answer_opening(&mut self, link: usize, life: u64, answer: Result<Opening, OpenError>) {
        let link = &mut self.links[link];
        let message = match answer {
            Ok(Opening::Stream { session, from, ends }) => {
                link.leader = Some(Peer { node: link.leader_node, life, session });
                link.next = from;
                link.told = Some(ends);
                ToFollower::Slice(Vec::new(), ends)
            }
            Ok(Opening::Diverging(divergence)) => ToFollower::Diverging(divergence),
            Ok(Opening::OutOfRange { log_start, log_end }) => {
                ToFollower::OutOfRange(log_start, log_end)
            }
            Err(_) => ToFollower::Closed,
        };
        link.broken |= link.leader.is_none();
        link.to_follower.push_back(message);
    }

    pub fn deliver_to_follower(&mut self, link: usize) -> Result<(), Violation> {
        let Peer { node, life, session } = self.links[link].follower;
        if self.nodes[node].is_paused {
            return Ok(());
        }
        let Some(message) = self.links[link].to_follower.pop_front() else { return Ok(()) };
        if self.nodes[node].life != life || self.nodes[node].replica.is_none() {
            return Ok(());
        }
        match message {
            ToFollower::Slice(batches, ends) => {
                let replica = self.nodes[node].replica.as_ref();
                match replica.map(|replica| replica.check_slice(session, &batches)) {
                    Some(Ok(())) => {
                        for batch in &batches {
                            self.nodes[node].log.append(*batch);
                        }
                        self.drive(node, |replica, now, out| {
                            replica.on_replicated(now, session, &batches, ends, out);
                        })?;
                    }
                    Some(Err(SliceError::StaleSession)) | None => {}
                    Some(Err(error)) => {
                        return Err(Violation::new("slices are in order", error.to_string()));
                    }
                }
            }
            ToFollower::Diverging(divergence) => {
                let epoch = divergence.leader_epoch;
                let own = epoch.and_then(|epoch| self.nodes[node].log.epoch_end(epoch));
                self.drive(node, |replica, now, out| {
                    replica.on_diverged(now, session, divergence, own, out);
                })?;
            }
            ToFollower::OutOfRange(log_start, log_end) => {
                self.drive(node, |replica, now, out| {
                    replica.on_out_of_range(now, session, log_start, log_end, out);
                })?
            }
            ToFollower::Closed => self.drive(node, |replica, now, out| {
                replica.on_stream_closed(now, session, out);
            })?,
        }
        Ok(())
    }

    pub fn finish_flush(&mut self, node: usize) -> Result<(), Violation> {
        if !self.is_awake(node) {
            return Ok(());
        }
        let Some(target) = self.nodes[node].flushing.take() else { return Ok(()) };
        let log = &mut self.nodes[node].log;
        log.flushed = log.flushed.max(target.min(log.end()));
        let flushed = log.flushed;
        self.drive(node, |replica, now, out| replica.on_flushed(now, flushed, out))
    }

    pub fn pass_time(&mut self, ms: u64) -> Result<(), Violation> {
        self.now = self.now.plus(ms);
        for node in 0..self.nodes.len() {
            let now = self.now;
            let is_due = |replica: &Replica| replica.next_tick().is_some_and(|at| at <= now);
            if self.is_awake(node) && self.nodes[node].replica.as_ref().is_some_and(is_due) {
                self.drive(node, |replica, now, out| replica.on_tick(now, out))?;
            }
        }
        Ok(())
    }

    pub fn publish(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.is_up) {
            node.inbox.push_back(self.controller.state.clone());
        }
    }

    pub fn deliver_news(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].is_paused || !self.nodes[node].is_up {
            return Ok(());
        }
        if let Some(state) = self.nodes[node].inbox.pop_front() {
            self.nodes[node].known = Some(state);
            self.apply_known(node)?;
        }
        Ok(())
    }

    pub fn apply_known(&mut self, node: usize) -> Result<(), Violation> {
        let Some(state) = self.nodes[node].known.clone() else { return Ok(()) };
        if self.nodes[node].replica.is_some() {
            let told = self.nodes[node].told_epoch;
            self.nodes[node].told_epoch = told.max(Some(state.leader_epoch));
        }
        self.drive(node, |replica, now, out| replica.on_partition_state(now, &state, out))
    }

    /// The controller takes a request, or never gets it; the answer arrives, or does not.
    pub fn serve_request(&mut self) -> Result<(), Violation> {
        let Some(request) = self.controller.requests.pop_front() else { return Ok(()) };
        let before = self.controller.state.clone();
        match request {
            Request::ReplicaDead { node, leader_epoch } => {
                self.controller.replica_dead(node, leader_epoch);
                self.note_change(&before);
            }
            Request::Alter { from, life, request } => {
                let lost = self.chance.one_in(8);
                let mut result = Err(AlterPartitionError::Unavailable);
                if !lost {
                    result = self.controller.alter(self.nodes[from].id, &request);
                    self.note_change(&before);
                    self.stats.note_alter(&result);
                }
                if lost || self.chance.one_in(6) {
                    self.stats.lost_alter_answers += 1;
                    result = Err(AlterPartitionError::Unavailable);
                }
                if self.nodes[from].life == life {
                    self.drive(from, |replica, now, out| {
                        replica.on_alter_partition_answer(now, &request, result, out);
                    })?;
                }
            }
        }
        Ok(())
    }

    pub fn note_change(&mut self, before: &PartitionState) {
        let after = &self.controller.state;
        if after == before {
            return;
        }
        let elected = after.leader_epoch != before.leader_epoch && after.leader.is_some();
        self.stats.elections += u64::from(elected);
        self.stats.shrinks += u64::from(after.isr.len() < before.isr.len());
        self.stats.expansions += u64::from(after.isr.len() > before.isr.len());
        self.publish();
    }

    /// From the disk, as if nothing had been before.
    pub fn build_replica(&mut self, node: usize) -> Result<(), Violation> {
        let topic_id = TopicId::from_wire(&[7; 16]).expect("16 bytes");
        let key = PartitionKey { topic_id, partition: PartitionId(0) };
        let state = &mut self.nodes[node];
        let mut replica = Replica::new(key, state.id, self.config.clone());
        replica.bugs = Bugs(self.bug);
        let ends = LogEnds {
            log_start: state.log.start,
            high_watermark: state.high_watermark_checkpoint,
            flushed_end: state.log.flushed,
            log_end: state.log.end(),
        };
        replica.restore(ends, None);
        for batch in &state.log.batches {
            replica.on_recovered_batch(self.now, batch);
        }
        replica.restore_leader_epoch(state.log.last_epoch());
        assert_eq!(replica.role(), Role::Idle);
        state.life += 1;
        state.seen = (Offset::ZERO, Offset::ZERO);
        state.compared = Offset::ZERO;
        state.told_epoch = None;
        state.replica = Some(replica);
        self.apply_known(node)
    }
}

impl Stats {
    fn note_alter<T>(&mut self, result: &Result<T, AlterPartitionError>) {
        match result {
            Err(AlterPartitionError::StalePartitionEpoch) => self.stale_alters += 1,
            Err(AlterPartitionError::FencedLeaderEpoch) => self.fenced_alters += 1,
            Err(AlterPartitionError::IneligibleReplica) => self.ineligible_alters += 1,
            Err(AlterPartitionError::InvalidRequest | AlterPartitionError::Unavailable) | Ok(_) => {
            }
        }
    }
}

//! The state of everything, and the order of events: one queue, one thread.
//!
//! What is sent to a process is for the life that it has then: another life never gets it. A process that is
//! paused gets everything when it goes on, in order.

use crate::broker::{Broker, Host};
use crate::chance::Chance;
use crate::clients::{Consumer, Producer};
use crate::control::{Active, Answer, Request};
use crate::counts::{Counts, GroupCounts, TxnCounts};
use crate::damage::{Finder, Suspicion};
use crate::groups::{GroupEvent, GroupWorld};
use crate::ledger::Ledger;
use crate::nemesis::Undo;
use crate::network::Network;
use crate::queue::Queue;
use crate::quorum::{Message, Voter};
use crate::settings::{HostBug, Settings};
use crate::storage::Remains;
use crate::streams::{Stream, ToFollower, ToLeader};
use crate::trace::Trace;
use crate::truth::{News, Truth};
use crate::txn::{TxnEvent, TxnWorld};
use crate::violation::Checked;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use troupe_log::disk::FaultDisk;
use troupe_machines::time::Time;
use troupe_proto::ids::{BrokerEpoch, NodeId, PartitionId, PartitionKey, TopicId};

/// The wall clock of those whose clock is right, when a run begins.
const BEGIN_MS: u64 = 1_700_000_000_000;
pub const VOTERS: usize = 3;
pub const TOPIC: &str = "t";

/// A replica: its site and its partition.
pub type At = (usize, PartitionKey);

#[derive(Debug)]
pub enum Event {
    VoterTick,
    Raft { from: usize, message: Message },
    Refused { node: NodeId, incarnation: [u8; 16] },
    ToController { from: usize, life: u64, id: u64, request: Box<Request> },
    FromController { id: u64, answer: Box<Answer> },
    ControlTimeout { id: u64 },
    News(News),
    BrokerTick,
    Alarm { key: PartitionKey, host: u64 },
    FlushDone { key: PartitionKey, host: u64 },
    Rebuild { key: PartitionKey },
    RunRemovals { key: PartitionKey, host: u64 },
    CleaningDue { key: PartitionKey, host: u64 },
    ScrubDue { key: PartitionKey, host: u64 },
    Suspect { key: PartitionKey, host: u64, suspicion: Box<Suspicion>, finder: Finder },
    ToLeader { stream: u64, message: ToLeader },
    ToFollower { stream: u64, message: ToFollower },
    Pump { stream: u64 },
    ProducerTick { producer: usize },
    Produce(Box<crate::clients::ProduceRequest>),
    Produced { producer: usize, attempt: u64, result: crate::clients::Produced },
    ProduceTimeout { producer: usize, attempt: u64 },
    ConsumerTick { consumer: usize },
    Fetch { consumer: usize, attempt: u64, key: PartitionKey, from: troupe_proto::ids::Offset },
    Fetched { consumer: usize, attempt: u64, result: crate::clients::Fetched },
    Groups(Box<GroupEvent>),
    Txn(Box<TxnEvent>),
    Nemesis,
    Decay,
    Operate,
    Undo(Undo),
}

impl Event {
    /// The larger kinds are kept apart, so that all the others are moved about in a few words.
    pub fn groups(event: GroupEvent) -> Event {
        Event::Groups(Box::new(event))
    }
}

#[derive(Debug)]
struct Scheduled {
    /// Whose event it is, and of which life; `None`: nobody's, it is always delivered.
    to: Option<(usize, u64)>,
    event: Event,
}

/// A machine with its processes and disks: a broker, a voter, both, or a client.
pub struct Site {
    pub up: bool,
    /// Counts the processes.
    pub life: u64,
    pub paused: bool,
    deferred: VecDeque<Event>,
    /// The wall clock is so far off, and was when the process started.
    pub skew: i64,
    pub boot_skew: i64,
    pub node: Option<NodeId>,
    pub broker: Option<Broker>,
    pub voter: Option<Voter>,
    pub active: Option<Active>,
    pub disks: BTreeMap<PartitionKey, FaultDisk>,
    pub remains: BTreeMap<PartitionKey, Remains>,
    /// Written to disk by a clean stop, removed by the next start.
    pub clean_stop: Option<BrokerEpoch>,
    pub slow_disk_until: u64,
    /// Its disk was replaced by an empty one; what it had promised to keep is gone.
    pub wiped: bool,
    /// Partitions of which something on its disk is not what was written.
    pub decayed: BTreeSet<PartitionKey>,
    /// The same, ever.
    pub had_decayed: BTreeSet<PartitionKey>,
    /// Those of which that is noted here, with where what is damaged within ends, if that is known; and those of them that
    /// the controller has been told of.
    pub damaged: BTreeMap<PartitionKey, Option<troupe_proto::ids::Offset>>,
    pub losses_known: BTreeSet<PartitionKey>,
    /// What is damaged in them was being given up, or forgotten as they were filled again, and nobody knows how far that
    /// came.
    pub may_be_given_up: BTreeSet<PartitionKey>,
    pub may_be_forgotten: BTreeSet<PartitionKey>,
}

pub struct World {
    pub settings: Settings,
    /// Milliseconds since the run began, as nobody in it knows them.
    pub now: u64,
    queue: Queue<Scheduled>,
    next_id: u64,
    pub net: Chance,
    pub disk: Chance,
    pub fate: Chance,
    pub whim: Chance,
    /// For what goes bad and is deleted: whatever else is drawn stays as it was before there was that.
    pub rot: Chance,
    pub sites: Vec<Site>,
    pub network: Network,
    pub streams: BTreeMap<u64, Stream>,
    pub truth: Truth,
    pub ledgers: BTreeMap<PartitionKey, Ledger>,
    pub producers: Vec<Producer>,
    pub consumers: Vec<Consumer>,
    pub groups: GroupWorld,
    pub txn: TxnWorld,
    /// Faults have ended.
    pub healing: bool,
    pub counts: Counts,
    pub group_counts: GroupCounts,
    pub txn_counts: TxnCounts,
    pub trace: Trace,
}

impl World {
    pub fn new(seed: u64, settings: Settings, mut chance: Chance) -> World {
        let (net, disk, fate, whim) =
            (chance.split(), chance.split(), chance.split(), chance.split());
        let mut world = World {
            now: 0,
            queue: Queue::default(),
            next_id: 0,
            net,
            disk,
            fate,
            whim,
            rot: Chance::new(seed ^ 0x0B17_5107),
            sites: Vec::new(),
            network: Network::default(),
            streams: BTreeMap::new(),
            truth: Truth::default(),
            ledgers: BTreeMap::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
            groups: GroupWorld::default(),
            txn: TxnWorld::default(),
            healing: false,
            counts: Counts::default(),
            group_counts: GroupCounts::default(),
            txn_counts: TxnCounts::default(),
            trace: Trace::new(),
            settings,
        };
        world.trace.note(0, "seed", [seed, 0, 0, 0]);
        world.build();
        world
    }

    fn build(&mut self) {
        for at in 0..self.settings.brokers {
            self.add_site(Some(NodeId(at as i32 + 1)));
        }
        for at in 0..VOTERS {
            let site = if self.settings.combined { at } else { self.add_site(None) };
            let patience = self.patience();
            self.sites[site].voter = Some(Voter::new(at, VOTERS, 0, patience));
        }
        for partition in 0..self.settings.partitions {
            let key = self.key(partition);
            let compaction = self.settings.compaction.clone();
            let ledger = Ledger::new(compaction.filter(|_| !self.is_of_coordinator(&key)));
            self.ledgers.insert(key, ledger);
        }
        for producer in 0..self.settings.producers {
            let site = self.add_site(None);
            let plain = producer + 1 == self.settings.producers;
            self.producers.push(Producer::new(producer, site, plain, &self.settings));
        }
        for consumer in 0..self.settings.consumers {
            let site = self.add_site(None);
            self.consumers.push(Consumer::new(site, self.settings.written_partitions()));
            self.schedule(site, 1_000 + consumer as u64, Event::ConsumerTick { consumer });
        }
        self.build_groups();
        self.build_transactions();
        for site in 0..self.sites.len() {
            self.start_processes(site);
        }
        for producer in 0..self.producers.len() {
            let site = self.producers[producer].site;
            self.schedule(site, 1_200 + producer as u64, Event::ProducerTick { producer });
        }
        self.schedule_free(2_000, Event::Nemesis);
        if self.settings.decay.is_some() {
            self.schedule_free(2_000, Event::Decay);
            self.schedule_free(3_000, Event::Operate);
        }
    }

    pub fn add_site(&mut self, node: Option<NodeId>) -> usize {
        self.sites.push(Site {
            up: true,
            life: 1,
            paused: false,
            deferred: VecDeque::new(),
            skew: 0,
            boot_skew: 0,
            node,
            broker: None,
            voter: None,
            active: None,
            disks: BTreeMap::new(),
            remains: BTreeMap::new(),
            clean_stop: None,
            slow_disk_until: 0,
            wiped: false,
            decayed: BTreeSet::new(),
            had_decayed: BTreeSet::new(),
            damaged: BTreeMap::new(),
            losses_known: BTreeSet::new(),
            may_be_given_up: BTreeSet::new(),
            may_be_forgotten: BTreeSet::new(),
        });
        self.sites.len() - 1
    }

    /// What runs on a site that has just started.
    pub fn start_processes(&mut self, site: usize) {
        if let Some(node) = self.sites[site].node {
            let incarnation = self.take_id();
            self.sites[site].broker = Some(Broker::new(node, incarnation));
            self.schedule(site, 1, Event::BrokerTick);
        }
        if self.sites[site].voter.is_some() {
            let wait = 1 + self.net.below(50);
            self.schedule(site, wait, Event::VoterTick);
        }
        self.start_group_processes(site);
        self.start_txn_processes(site);
    }

    pub fn key(&self, partition: u32) -> PartitionKey {
        let topic_id = TopicId::from_wire(&[7; 16]).expect("16 bytes");
        PartitionKey { topic_id, partition: PartitionId(partition) }
    }

    pub fn site_of(&self, node: NodeId) -> usize {
        node.0 as usize - 1
    }

    pub fn voter_site(&self, voter: usize) -> usize {
        if self.settings.combined { voter } else { self.settings.brokers + voter }
    }

    pub fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A voter's patience with a silent leader.
    pub fn patience(&mut self) -> u64 {
        crate::quorum::ELECTION_MS + self.net.below(300)
    }

    /// What a site takes for the time.
    pub fn wall(&self, site: usize) -> Time {
        Time(BEGIN_MS.saturating_add(self.now).saturating_add_signed(self.sites[site].skew))
    }

    /// What a process goes by for how long things last: it starts as the wall clock and never jumps.
    pub fn steady(&self, site: usize) -> Time {
        if self.settings.has_host_bug(HostBug::MeasureByWallClock) {
            return self.wall(site);
        }
        Time(BEGIN_MS.saturating_add(self.now).saturating_add_signed(self.sites[site].boot_skew))
    }

    pub fn host(&mut self, (site, key): At) -> Option<&mut Host> {
        self.sites[site].broker.as_mut()?.hosts.get_mut(&key)
    }

    pub fn see_host(&self, (site, key): At) -> Option<&Host> {
        self.sites[site].broker.as_ref()?.hosts.get(&key)
    }

    /// For the process that runs on the site now.
    pub fn schedule(&mut self, site: usize, wait: u64, event: Event) {
        let life = self.sites[site].life;
        self.schedule_life(site, life, wait, event);
    }

    pub fn schedule_life(&mut self, site: usize, life: u64, wait: u64, event: Event) {
        self.push(wait, Scheduled { to: Some((site, life)), event });
    }

    /// For nobody: it happens.
    pub fn schedule_free(&mut self, wait: u64, event: Event) {
        self.push(wait, Scheduled { to: None, event });
    }

    fn push(&mut self, wait: u64, scheduled: Scheduled) {
        self.queue.push(self.now + wait, scheduled);
    }

    /// Everything up to this time.
    pub fn run_until(&mut self, end: u64) -> Checked {
        while let Some((at, Scheduled { to, event })) = self.queue.pop_until(end) {
            self.now = at;
            match to {
                None => {
                    self.deliver(0, event)?;
                    // what happens to nobody happens to anybody's disk
                    (0..self.settings.brokers)
                        .try_for_each(|site| self.crash_where_disk_did(site))?;
                }
                Some((site, life)) => {
                    let target = &mut self.sites[site];
                    if !target.up || target.life != life {
                        continue;
                    }
                    if target.paused {
                        target.deferred.push_back(event);
                    } else {
                        self.deliver(site, event)?;
                    }
                }
            }
        }
        self.now = end;
        Ok(())
    }

    pub fn resume(&mut self, site: usize) -> Checked {
        if !std::mem::take(&mut self.sites[site].paused) {
            return Ok(());
        }
        let life = self.sites[site].life;
        let deferred = std::mem::take(&mut self.sites[site].deferred);
        for event in deferred {
            if self.sites[site].up && self.sites[site].life == life {
                self.deliver(site, event)?;
            }
        }
        Ok(())
    }

    /// The process on the site is gone, with all that was meant for it.
    pub fn end_process(&mut self, site: usize) {
        self.sites[site].up = false;
        self.sites[site].life += 1;
        self.sites[site].paused = false;
        self.sites[site].deferred.clear();
    }

    fn deliver(&mut self, site: usize, event: Event) -> Checked {
        match event {
            Event::VoterTick => self.voter_tick(site)?,
            Event::Raft { from, message } => self.raft_message(site, from, message)?,
            Event::Refused { node, incarnation } => {
                self.connection_refused(site, node, incarnation)?
            }
            Event::ToController { from, life, id, request } => {
                self.serve_request(site, from, life, id, *request)?;
            }
            Event::FromController { id, answer } => self.controller_answered(site, id, *answer)?,
            Event::ControlTimeout { id } => self.control_timeout(site, id)?,
            Event::News(news) => self.news_arrived(site, news)?,
            Event::BrokerTick => self.broker_tick(site)?,
            Event::Alarm { key, host } => self.alarm((site, key), host)?,
            Event::FlushDone { key, host } => self.flush_done((site, key), host)?,
            Event::Rebuild { key } => self.rebuild((site, key))?,
            Event::RunRemovals { key, host } => self.run_removals((site, key), host),
            Event::CleaningDue { key, host } => self.cleaning_due((site, key), host)?,
            Event::ScrubDue { key, host } => self.scrub_due((site, key), host)?,
            Event::Suspect { key, host, suspicion, finder } => {
                self.suspected((site, key), host, &suspicion, finder)?;
            }
            Event::ToLeader { stream, message } => self.at_leader(stream, message)?,
            Event::ToFollower { stream, message } => self.at_follower(stream, message)?,
            Event::Pump { stream } => self.pump(stream)?,
            Event::ProducerTick { producer } => self.producer_tick(producer),
            Event::Produce(request) => self.produce(site, *request)?,
            Event::Produced { producer, attempt, result } => {
                self.produced(producer, attempt, result)?;
            }
            Event::ProduceTimeout { producer, attempt } => {
                self.produced(producer, attempt, crate::clients::Produced::Unknown)?;
            }
            Event::ConsumerTick { consumer } => self.consumer_tick(consumer),
            Event::Fetch { consumer, attempt, key, from } => {
                self.fetch((site, key), consumer, attempt, from)?;
            }
            Event::Fetched { consumer, attempt, result } => {
                self.fetched(consumer, attempt, result)?;
            }
            Event::Groups(event) => self.group_event(site, *event)?,
            Event::Txn(event) => self.txn_event(site, *event)?,
            Event::Nemesis => self.nemesis()?,
            Event::Decay => self.decay()?,
            Event::Operate => self.operate()?,
            Event::Undo(undo) => self.undo(undo)?,
        }
        self.crash_where_disk_did(site)
    }
}

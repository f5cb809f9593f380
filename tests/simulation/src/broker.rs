//! A broker: registers, holds a session, follows the metadata, and asks the controller for its replicas.
//!
//! Metadata from before its own registration says nothing about its replicas: what they led, they led in
//! another life.

use crate::control::{Answer, Request};
use crate::storage::{End, PLACE};
use crate::streams::StreamId;
use crate::truth::News;
use crate::txn::Verifying;
use crate::violation::{Checked, Violation};
use crate::world::{At, Event, VOTERS, World};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use troupe_log::disk::{Disk, FaultDisk};
use troupe_log::{
    Cleaned, Cleaning, Ending, FlushDone, FlushTicket, Log, LogError, Removal, Scrub,
};
use troupe_machines::cluster::{ClusterImage, LOG_VERSION, METADATA_VERSION, RegisterBroker};
use troupe_machines::replica::{
    AlterPartition, AlterPartitionError, DeleteUpTo, DeletionError, Effect, FollowSession,
    PartitionState, Repair, Replica, Token, has_others,
};
use troupe_machines::time::Time;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::{
    BrokerEpoch, LeaderEpoch, MetadataOffset, NodeId, Offset, PartitionKey, ProducerId,
};

const TICK_MS: u64 = 100;
const HEARTBEAT_MS: u64 = 300;

pub struct Broker {
    pub node: NodeId,
    pub incarnation: [u8; 16],
    pub epoch: Option<BrokerEpoch>,
    /// Of the last registration, also while it registers again: in whose name streams are opened.
    pub last_epoch: BrokerEpoch,
    pub image: ClusterImage,
    /// Whom it takes for the active controller.
    controller: usize,
    waiting: BTreeMap<u64, Waiting>,
    last_heartbeat: u64,
    pub hosts: BTreeMap<PartitionKey, Host>,
    /// Replicas that died while they led, and in which epoch, until somebody else leads.
    pub dead: BTreeMap<PartitionKey, LeaderEpoch>,
    /// The newest epoch that a replica here was told of, in whichever of its lives.
    pub told: BTreeMap<PartitionKey, LeaderEpoch>,
    /// Replicas that were found damaged, each time: the controller is to know.
    pub losses: Vec<PartitionKey>,
    /// It knows of these; its image does from there on.
    pub losses_told: Vec<(Vec<PartitionKey>, MetadataOffset)>,
    /// Since when it wants to stop.
    pub leaving: Option<u64>,
}

#[derive(Clone, Debug)]
enum Waiting {
    Register,
    Heartbeat,
    Report,
    Lose(Vec<PartitionKey>),
    Shutdown,
    Alter { key: PartitionKey, host: u64, request: AlterPartition },
}

/// A replica with its log, as an actor holds them.
pub struct Host {
    /// No two have the same: another life is another host.
    pub id: u64,
    pub replica: Replica,
    pub log: Log<FaultDisk>,
    pub flush: Option<Flush>,
    pub removals: Vec<Removal<FaultDisk>>,
    /// A cleaning that is under way.
    pub pass: Option<Pass>,
    pub alarm: Option<Time>,
    pub offline: bool,
    /// Streams to the leader, by the name that the replica gave them.
    pub streams: BTreeMap<FollowSession, StreamId>,
    pub waiting: BTreeMap<Token, Asker>,
    /// Effects that were decided and wait for those before them.
    pub due: VecDeque<Effect>,
    pub performing: bool,
    /// Batches that wait for the word of a coordinator of transactions, by producer.
    pub verifications: BTreeMap<ProducerId, Verifying>,
    /// Of aborted transactions, those that have ended below are not known here; for a planted bug.
    pub aborted_from: Offset,
    /// Who waits for a deletion: of what, and what was to come of it.
    pub deletions: BTreeMap<Token, (DeleteUpTo, Result<Offset, DeletionError>)>,
    pub repair: Repair,
    /// It is looked through.
    pub scrub: Option<Scrub<FaultDisk>>,
    pub watched: Watched,
}

/// A flush that is under way.
pub enum Flush {
    /// The disk has done it; nobody has heard.
    Done(Result<FlushDone, LogError>),
    Due(FlushTicket<FaultDisk>),
}

/// A cleaning between two of its parts.
pub enum Pass {
    Begun(Cleaning<FaultDisk>),
    Made(Cleaned<FaultDisk>),
    /// It stands in the log, and its list still on the disk.
    Ending(Ending<FaultDisk>),
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Producer(usize),
    /// A producer with transactions.
    Transactional(usize),
    GroupCoordinator,
    TxnCoordinator,
    /// A coordinator of transactions, at a partition.
    Marker,
}

/// Who waits for an append.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub who: Who,
    pub attempt: u64,
    pub value: u64,
    pub acks_all: bool,
}

/// What is known of this life of the replica, to compare with.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub told_epoch: Option<LeaderEpoch>,
    pub leader_epoch: Option<LeaderEpoch>,
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Batches below have been compared with what was committed.
    pub compared: Offset,
    /// What was appended, as long as it was not truncated.
    pub written: Vec<BatchHeader>,
    /// What an append that failed was to write: a crash in the middle of it may have kept it.
    pub attempted: Vec<BatchHeader>,
    /// What stands for what was given up.
    pub stand_ins: Vec<BatchHeader>,
    /// All below survives whatever comes.
    pub durable: Offset,
}

impl Broker {
    pub fn new(node: NodeId, incarnation: u64) -> Broker {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&incarnation.to_be_bytes());
        Broker {
            node,
            incarnation: bytes,
            epoch: None,
            last_epoch: BrokerEpoch::default(),
            image: ClusterImage::default(),
            controller: incarnation as usize % VOTERS,
            waiting: BTreeMap::new(),
            last_heartbeat: 0,
            hosts: BTreeMap::new(),
            dead: BTreeMap::new(),
            told: BTreeMap::new(),
            losses: Vec::new(),
            losses_told: Vec::new(),
            leaving: None,
        }
    }

    /// Its metadata is of this life.
    pub fn is_current(&self) -> bool {
        let known = self.image.broker(self.node).map(|broker| broker.epoch);
        self.epoch.is_some() && known == self.epoch
    }

    pub fn reports_losses(&self) -> bool {
        self.waits_for(|waiting| matches!(waiting, Waiting::Lose(_)))
    }

    fn waits_for(&self, kind: fn(&Waiting) -> bool) -> bool {
        self.waiting.values().any(kind)
    }
}

impl World {
    pub fn broker_tick(&mut self, site: usize) -> Checked {
        let wait = TICK_MS - 20 + self.net.below(40);
        self.schedule(site, wait, Event::BrokerTick);
        let stopped_cleanly = self.sites[site].clean_stop;
        let now = self.now;
        let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
        let node = broker.node;
        let Some(epoch) = broker.epoch else {
            if !broker.waits_for(|waiting| matches!(waiting, Waiting::Register)) {
                let broker = RegisterBroker {
                    node_id: node,
                    incarnation: broker.incarnation,
                    cluster_id: None,
                    endpoint: format!("node{node}:9092"),
                    listeners: BTreeMap::new(),
                    http_endpoint: String::new(),
                    rack: None,
                    log_version: LOG_VERSION,
                    metadata_version: METADATA_VERSION,
                };
                let holds_nothing = self.holds_nothing(site);
                let request = Request::Register { broker, stopped_cleanly, holds_nothing };
                self.ask(site, Waiting::Register, request);
            }
            return Ok(());
        };
        let silent = now >= broker.last_heartbeat + HEARTBEAT_MS;
        if silent && !broker.waits_for(|waiting| matches!(waiting, Waiting::Heartbeat)) {
            broker.last_heartbeat = now;
            let applied = broker.image.next_offset();
            self.ask(site, Waiting::Heartbeat, Request::Heartbeat { node, epoch, applied });
        }
        self.report_dead(site);
        self.report_losses(site);
        self.leave_if_asked(site)?;
        self.upkeep(site);
        self.begin_scrubs(site);
        self.begin_cleanings(site)
    }

    /// A checkpoint only shortens the next recovery; without it, more is scanned.
    fn upkeep(&mut self, site: usize) {
        let Some(broker) = &mut self.sites[site].broker else { return };
        for host in broker.hosts.values_mut().filter(|host| !host.offline) {
            if self.disk.one_in(8) {
                let high_watermark = host.replica.high_watermark();
                let _ = host.log.checkpoint(high_watermark);
            }
        }
    }

    /// No partition is on its disk.
    fn holds_nothing(&self, site: usize) -> bool {
        let is_there = |disk: &FaultDisk| matches!(disk.list(Path::new(PLACE)), Ok(Some(_)));
        !self.sites[site].disks.values().any(is_there)
    }

    fn report_dead(&mut self, site: usize) {
        let Some(broker) = &mut self.sites[site].broker else { return };
        let (node, image) = (broker.node, &broker.image);
        broker.dead.retain(|key, epoch| {
            let partition = image.partition(key);
            partition.is_some_and(|known| known.leader_epoch <= *epoch)
        });
        let Some(epoch) = broker.epoch else { return };
        if broker.dead.is_empty() || broker.waits_for(|waiting| matches!(waiting, Waiting::Report))
        {
            return;
        }
        let dead = broker.dead.iter().map(|(key, epoch)| (*key, *epoch)).collect();
        self.ask(site, Waiting::Report, Request::Report { node, epoch, dead });
    }

    /// K17.
    fn leave_if_asked(&mut self, site: usize) -> Checked {
        let now = self.now;
        let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
        let (Some(since), Some(epoch)) = (broker.leaving, broker.epoch) else { return Ok(()) };
        let node = broker.node;
        let known = broker.image.broker(node);
        let leaves = known.is_some_and(|broker| broker.shutting_down);
        let leads = broker.image.led_by(node).next().is_some();
        if leaves && !leads {
            return self.stop_cleanly(site, epoch);
        }
        if now > since + 3_000 {
            // it goes all the same
            self.crash(site, End::Killed);
            return Ok(());
        }
        if !leaves && !broker.waits_for(|waiting| matches!(waiting, Waiting::Shutdown)) {
            self.ask(site, Waiting::Shutdown, Request::Shutdown { node, epoch });
        }
        Ok(())
    }

    fn ask(&mut self, site: usize, waiting: Waiting, request: Request) {
        let id = self.take_id();
        let life = self.sites[site].life;
        let patience = self.net.between(300, 900);
        let Some(broker) = &mut self.sites[site].broker else { return };
        broker.waiting.insert(id, waiting);
        let to = broker.controller;
        let to = self.voter_site(to);
        self.send(
            site,
            to,
            Event::ToController { from: site, life, id, request: Box::new(request) },
        );
        self.schedule(site, patience, Event::ControlTimeout { id });
    }

    pub fn ask_to_lose(
        &mut self,
        site: usize,
        node: NodeId,
        epoch: BrokerEpoch,
        keys: Vec<PartitionKey>,
    ) {
        self.ask(site, Waiting::Lose(keys.clone()), Request::Lose { node, epoch, keys });
    }

    pub fn ask_for_isr(&mut self, (site, key): At, host: u64, request: AlterPartition) -> Checked {
        let Some(broker) = &self.sites[site].broker else { return Ok(()) };
        let waiting = Waiting::Alter { key, host, request: request.clone() };
        let (node, Some(epoch)) = (broker.node, broker.epoch) else {
            return self.gave_no_answer(site, waiting);
        };
        self.ask(site, waiting, Request::Alter { node, epoch, key, host, request });
        Ok(())
    }

    pub fn control_timeout(&mut self, site: usize, id: u64) -> Checked {
        let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
        let Some(waiting) = broker.waiting.remove(&id) else { return Ok(()) };
        broker.controller = (broker.controller + 1) % VOTERS;
        self.gave_no_answer(site, waiting)
    }

    fn gave_no_answer(&mut self, site: usize, waiting: Waiting) -> Checked {
        let Waiting::Alter { key, host, request } = waiting else { return Ok(()) };
        let result = Err(AlterPartitionError::Unavailable);
        self.drive_host((site, key), host, |replica, now, out| {
            replica.on_alter_partition_answer(now, &request, result, out);
        })
    }

    pub fn controller_answered(&mut self, site: usize, id: u64, answer: Answer) -> Checked {
        let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
        let waiting = broker.waiting.remove(&id);
        match answer {
            Answer::NotController { active } => {
                if let Some(waiting) = waiting {
                    let next = (broker.controller + 1) % VOTERS;
                    broker.controller = active.unwrap_or(next);
                    return self.gave_no_answer(site, waiting);
                }
            }
            Answer::Registered(epoch) => {
                if broker.epoch.is_none() {
                    let before = std::mem::replace(&mut broker.last_epoch, epoch);
                    broker.epoch = Some(epoch);
                    self.sites[site].clean_stop = None;
                    if before != epoch {
                        self.renew_streams_of(site);
                    }
                    return self.apply_image(site);
                }
            }
            Answer::Heard(news) => {
                if let Some(news) = news {
                    return self.news_arrived(site, news);
                }
            }
            // an answer that comes late, or twice, is as good
            Answer::Altered { key, host, request, result } => {
                self.counts.late_answers += u64::from(waiting.is_none());
                return self.drive_host((site, key), host, |replica, now, out| {
                    replica.on_alter_partition_answer(now, &request, result, out);
                });
            }
            // a controller that is behind may say so too: who registers again gets the epoch it has
            Answer::StaleEpoch => {
                if waiting.is_some() {
                    broker.epoch = None;
                }
            }
            Answer::LossKnown { from } => {
                if let Some(Waiting::Lose(keys)) = waiting {
                    broker.losses_told.push((keys, from));
                    return self.losses_known(site);
                }
            }
            Answer::Reported | Answer::ShuttingDown | Answer::Refused => {}
        }
        Ok(())
    }

    pub fn news_arrived(&mut self, site: usize, news: News) -> Checked {
        let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
        let known = broker.image.next_offset();
        match news {
            News::Records { from, records } => {
                let skip = known.0.saturating_sub(from.0) as usize;
                if from > known || skip >= records.len() {
                    return Ok(());
                }
                let replayed = broker.image.replay_all(&records[skip..]);
                replayed
                    .map_err(|error| Violation::new("I22 records replay", error.to_string()))?;
            }
            News::Snapshot(snapshot) => {
                if snapshot.next_offset <= known {
                    return Ok(());
                }
                broker.image = ClusterImage::from_snapshot(&snapshot)
                    .map_err(|error| Violation::new("I22 a snapshot replays", error.to_string()))?;
            }
        }
        let image = broker.image.clone();
        self.truth.check_image(&image)?;
        self.apply_image(site)
    }

    /// Tells the replicas here what the controller thinks of them.
    pub fn apply_image(&mut self, site: usize) -> Checked {
        let Some(broker) = &self.sites[site].broker else { return Ok(()) };
        if !broker.is_current() {
            return Ok(());
        }
        self.drop_reassigned(site);
        let Some(broker) = &self.sites[site].broker else { return Ok(()) };
        let node = broker.node;
        let keys: Vec<_> = crate::truth::keys(&broker.image)
            .into_iter()
            .filter(|key| {
                let partition = broker.image.partition(key);
                partition.is_some_and(|partition| partition.replicas.contains(&node))
            })
            .collect();
        for key in keys {
            if self.see_host((site, key)).is_none() && self.sites[site].up {
                self.open_host((site, key))?;
            } else {
                self.tell_state((site, key))?;
            }
        }
        self.losses_known(site)
    }

    pub fn tell_state(&mut self, (site, key): At) -> Checked {
        let Some(broker) = &mut self.sites[site].broker else { return Ok(()) };
        if !broker.is_current() {
            return Ok(());
        }
        let Some(state) = state_of(&broker.image, &key) else { return Ok(()) };
        let node = broker.node;
        if broker.hosts.get(&key).is_some_and(|host| host.repair.withholds(&state, node)) {
            if state.leader == Some(node) && has_others(&state, node) {
                broker.dead.insert(key, state.leader_epoch);
            }
            return Ok(());
        }
        let told = broker.told.entry(key).or_default();
        *told = state.leader_epoch.max(*told);
        if let Some(host) = broker.hosts.get_mut(&key) {
            let told = &mut host.watched.told_epoch;
            *told = (*told).max(Some(state.leader_epoch));
        }
        self.drive((site, key), |replica, now, out| {
            replica.on_partition_state(now, &state, out);
        })?;
        self.conclude_repair((site, key))
    }
}

pub fn state_of(image: &ClusterImage, key: &PartitionKey) -> Option<PartitionState> {
    let partition = image.partition(key)?;
    let active = image.brokers().filter(|broker| broker.is_active());
    let eligible = active
        .filter(|broker| partition.replicas.contains(&broker.node_id))
        .map(|broker| (broker.node_id, broker.epoch))
        .collect();
    Some(PartitionState {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
        least_replicas: partition.least_replicas() as u32,
        eligible,
    })
}

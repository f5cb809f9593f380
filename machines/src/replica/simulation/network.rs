//! Streams between a follower and a leader: in order, each on its own time, and they break.

use super::super::{
    Divergence, FollowSession, Follower, LeaderEnds, OpenError, Opening, Position, ReplicaEnd,
    SliceError,
};
use super::chance::Violation;
use super::world::World;
use std::collections::VecDeque;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::Offset;

/// One end of a stream: a node, the life of its replica, and the name that this one gave the stream.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub node: usize,
    pub life: u64,
    pub session: FollowSession,
}

#[derive(Clone, Debug)]
pub struct Connection {
    pub follower: Peer,
    pub leader_node: usize,
    /// Once it has accepted.
    pub leader: Option<Peer>,
    /// What the leader pushes next, and the ends it has told.
    pub next: Offset,
    pub told: Option<LeaderEnds>,
    /// The newest round that it has told.
    pub asked: u64,
    pub broken: bool,
    pub to_leader: VecDeque<ToLeader>,
    pub to_follower: VecDeque<ToFollower>,
}

#[derive(Clone, Debug)]
pub enum ToLeader {
    Open(Position),
    Report(ReplicaEnd),
    Confirm(ReplicaEnd, u64),
    Closed,
}

#[derive(Clone, Debug)]
pub enum ToFollower {
    Slice(Option<Offset>, Vec<BatchHeader>, LeaderEnds),
    Asked(u64),
    Diverging(Divergence),
    OutOfRange(Offset, Offset),
    Closed,
}

impl Connection {
    pub fn new(follower: Peer, leader_node: usize, position: Position) -> Connection {
        Connection {
            follower,
            leader_node,
            leader: None,
            next: position.end.log_end,
            told: None,
            asked: 0,
            broken: false,
            to_leader: [ToLeader::Open(position)].into(),
            to_follower: VecDeque::new(),
        }
    }

    /// Nothing more is sent; what is under way arrives, if `delivers`.
    pub fn break_off(&mut self, delivers: bool) {
        if self.broken {
            return;
        }
        self.broken = true;
        if !delivers {
            self.to_leader.clear();
            self.to_follower.clear();
        }
        self.to_leader.push_back(ToLeader::Closed);
        self.to_follower.push_back(ToFollower::Closed);
    }

    pub fn is_done(&self) -> bool {
        self.broken && self.to_leader.is_empty() && self.to_follower.is_empty()
    }
}

impl World {
    pub fn connections_of(
        &mut self,
        node: usize,
        session: FollowSession,
    ) -> impl Iterator<Item = &mut Connection> {
        let life = self.nodes[node].life;
        self.connections.iter_mut().filter(move |connection| {
            let follower = connection.follower;
            (follower.node, follower.life, follower.session) == (node, life, session)
        })
    }

    pub fn push(&mut self, connection: usize) {
        let Some(leader) = self.connections[connection].leader else { return };
        let node = &self.nodes[leader.node];
        if self.connections[connection].broken || node.is_paused || node.life != leader.life {
            return;
        }
        let Some(replica) = &node.replica else { return };
        let ends = replica.leader_ends();
        let next = self.connections[connection].next;
        let follower = self.nodes[self.connections[connection].follower.node].id;
        if next < node.log.start || !replica.has_stream(follower, leader.session) {
            self.connections[connection].break_off(true);
            return;
        }
        let round = replica.round();
        if self.connections[connection].asked < round {
            self.connections[connection].asked = round;
            self.connections[connection].to_follower.push_back(ToFollower::Asked(round));
        }
        let node = &self.nodes[leader.node];
        let most = 1 + self.chance.index(3);
        let batches: Vec<_> =
            node.log.batches.iter().filter(|b| b.base_offset >= next).take(most).copied().collect();
        if batches.is_empty() && self.connections[connection].told == Some(ends) {
            return;
        }
        let connection = &mut self.connections[connection];
        connection.next = batches.last().map_or(next, |batch| batch.end_offset());
        connection.told = Some(ends);
        connection.to_follower.push_back(ToFollower::Slice(Some(next), batches, ends));
    }

    pub fn deliver_to_leader(&mut self, connection: usize) -> Result<(), Violation> {
        let node = self.connections[connection].leader_node;
        if self.nodes[node].is_paused {
            return Ok(());
        }
        let Some(message) = self.connections[connection].to_leader.pop_front() else {
            return Ok(());
        };
        let life = self.nodes[node].life;
        let accepted = self.connections[connection].leader.filter(|leader| leader.life == life);
        let follower = self.nodes[self.connections[connection].follower.node].id;
        match (message, accepted) {
            (ToLeader::Open(position), _) if self.nodes[node].replica.is_some() => {
                let epoch_end =
                    position.last_epoch.and_then(|epoch| self.nodes[node].log.epoch_end(epoch));
                let broker_epoch =
                    self.nodes[self.connections[connection].follower.node].broker_epoch;
                let follower = Follower { node: follower, broker_epoch, answers_rounds: true };
                let mut answer = Err(OpenError::NotLeader);
                self.drive(node, |replica, now, out| {
                    answer = replica.on_follower_opened(now, follower, &position, epoch_end, out);
                })?;
                self.answer_opening(connection, life, answer);
            }
            (ToLeader::Open(_), _) => self.connections[connection].break_off(false),
            (ToLeader::Report(end), Some(leader)) => {
                self.stats.late_reports += u64::from(self.connections[connection].broken);
                self.drive(node, |replica, now, out| {
                    replica.on_follower_end(now, follower, leader.session, end, out);
                })?;
            }
            (ToLeader::Confirm(end, round), Some(leader)) => {
                self.drive(node, |replica, now, out| {
                    replica.on_follower_end(now, follower, leader.session, end, out);
                    replica.on_follower_confirmed(follower, leader.session, round, out);
                })?;
            }
            (ToLeader::Closed, Some(leader)) => self.drive(node, |replica, now, out| {
                replica.on_follower_closed(now, follower, leader.session, out);
            })?,
            (ToLeader::Report(_) | ToLeader::Confirm(..) | ToLeader::Closed, None) => {}
        }
        Ok(())
    }

    fn answer_opening(&mut self, connection: usize, life: u64, answer: Result<Opening, OpenError>) {
        let connection = &mut self.connections[connection];
        let message = match answer {
            Ok(Opening::Stream { session, from, ends }) => {
                connection.leader = Some(Peer { node: connection.leader_node, life, session });
                connection.next = from;
                connection.told = Some(ends);
                ToFollower::Slice(None, Vec::new(), ends)
            }
            Ok(Opening::Diverging(divergence)) => ToFollower::Diverging(divergence),
            Ok(Opening::BeginAnew { .. }) => panic!("nothing is cleaned here"),
            Ok(Opening::OutOfRange { log_start, log_end }) => {
                ToFollower::OutOfRange(log_start, log_end)
            }
            Err(_) => ToFollower::Closed,
        };
        connection.broken |= connection.leader.is_none();
        connection.to_follower.push_back(message);
    }

    pub fn deliver_to_follower(&mut self, connection: usize) -> Result<(), Violation> {
        let Peer { node, life, session } = self.connections[connection].follower;
        if self.nodes[node].is_paused {
            return Ok(());
        }
        let Some(message) = self.connections[connection].to_follower.pop_front() else {
            return Ok(());
        };
        if self.nodes[node].life != life || self.nodes[node].replica.is_none() {
            return Ok(());
        }
        match message {
            ToFollower::Slice(read_from, batches, ends) => {
                let replica = self.nodes[node].replica.as_ref();
                match replica.map(|replica| replica.check_slice(session, read_from, &batches)) {
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
            ToFollower::Asked(round) => self.drive(node, |replica, _, out| {
                replica.on_asked(session, round, out);
            })?,
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
}

//! A cluster in one thread and from one seed: the machines and the log as they are, on faulty disks in
//! memory, and everything that can go wrong between and under them.
//!
//! - `world`, `queue`: the state of everything and the order of events. `runner`: many seeds over threads.
//! - `network`, `streams`: what is sent, and what becomes of it. `nemesis`: what breaks, `healing`: and then.
//! - `quorum`, `control`: the metadata log as a replicated log, and the controllers that decide on it.
//! - `broker`, `hands`, `appending`, `storage`: what a node does around its replicas. `clients`: who uses it all.
//! - `reassignment`: partitions that get other replicas, and brokers that are forgotten and come back.
//! - `compaction`, `cleaning`: topics of few keys, and what takes the superseded records away.
//! - `decay`, `damage`: what goes bad on disks, and what replicas do about it once it is found.
//! - `deletion`: records that an operator deletes.
//! - `coordination`: what coordinators of groups and of transactions have in common.
//! - `groups`: members of consumer groups and their coordinators, in runs of their own.
//! - `txn`: producers with transactions, their coordinators, and who reads what is committed, in runs of their own.
//! - `ledger`, `truth`: what was promised and decided, as nobody in the run can see it; `checks` and
//!   `invariants`, one promise a file, compare.
//!
//! First faults, then healing: nothing promised is lost, and all becomes well. The same seed gives the same
//! run, byte for byte. Which seeds, is drawn anew each time, unless it is said: more runs, of these seeds, with
//! `TROUPE_SIMULATION_SEEDS=20000 TROUPE_SIMULATION_FIRST=0 cargo test --release -p troupe-simulation
//! no_schedule`, `no_storm` for groups, and `no_failure` for transactions. Seeds that have found something stay, in `seeds`. Nothing here is
//! part of any build but that of its tests.
#![cfg(test)]

mod appending;
mod broker;
mod chance;
mod checks;
mod cleaning;
mod clients;
mod compaction;
mod control;
mod coordination;
mod counts;
mod damage;
mod decay;
mod deletion;
mod groups;
mod hands;
mod healing;
mod invariants;
mod ledger;
mod nemesis;
mod network;
mod queue;
mod quorum;
mod reassignment;
mod refill;
mod runner;
mod seeds;
mod settings;
mod storage;
mod streams;
mod tests;
mod trace;
mod truth;
mod txn;
mod violation;
mod world;

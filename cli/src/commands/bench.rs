//! `troupe bench`: what users feel, measured from outside, with the settings in the output.
//!
//! - [`produce`], [`consume`], [`e2e`]: one figure each, against any node.
//! - [`failover`]: how long faults are felt, on three nodes of its own.
//! - [`group`]: how long groups take to settle, and to get over the loss of their coordinator.
//! - [`replication`]: how fast followers get what a leader has, and what waiting for them costs.
//! - [`clean`]: how fast a log is compacted, and what a producer beside it feels of that.
//! - [`offsets`]: what compaction does for the offsets of groups: their size, and the loss of a coordinator.
//! - [`overload`]: what a small producer feels when others send more than three nodes can carry.
//! - [`transactions`]: what they cost producers and readers.
//! - [`limits`]: all figures against what the machine itself can do, raw and broker in turns.
//!
//! No measurement knows another. What they have in common:
//! - [`workload`] says what is sent; [`payload`] is made before the clock runs; [`load`] and [`reading`] are the loops
//!   that are timed; [`collector`] waits for answers meanwhile; [`throughput`] is what comes of it.
//! - [`coordinator_loss`] is what members feel when a coordinator is killed.
//! - [`server`] and [`nodes`] are processes to measure; [`temporary`] makes topics and directories, and removes them.
//! - [`raw`] is what the machine itself can do; [`cpu`], [`memory`] and [`file_system`] are what the system tells and does.

mod clean;
mod collector;
mod consume;
mod coordinator_loss;
mod cpu;
mod e2e;
mod failover;
mod file_system;
mod group;
mod limits;
mod load;
mod median;
mod memory;
mod nodes;
mod offsets;
mod overload;
mod payload;
mod produce;
mod raw;
mod reading;
mod replication;
mod server;
mod temporary;
mod throughput;
mod transactions;
mod workload;

use crate::failure::Failure;
use crate::global::Global;
use crate::runtime::block_on;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Send records as fast as possible, or at a rate
    #[command(after_help = "Examples:\n  \
        troupe bench produce --size 1KiB\n  \
        troupe bench produce --size 100 --records 10M --partitions 6 --flush-policy os\n  \
        troupe bench produce --rate 50k --records 500k -o json")]
    Produce(produce::BenchProduce),
    /// Read records as fast as possible
    #[command(after_help = "Examples:\n  \
        troupe bench consume --size 100 --records 10M\n  \
        troupe bench consume orders             # what is in the topic already\n  \
        troupe bench consume --group --rounds 5 # beside a group of one, in turns")]
    Consume(consume::BenchConsume),
    /// Time from send to receipt
    #[command(after_help = "Example:\n  troupe bench e2e --rate 1000 --duration 20s")]
    E2e(e2e::BenchE2e),
    /// How long the loss of a leader is felt, on three nodes of its own that are killed
    #[command(after_help = "Examples:\n  \
        troupe bench failover\n  \
        troupe bench failover --kind kill,kill-both --rounds 10\n  \
        troupe bench failover --kind stop --set broker.session.timeout.ms=1s -o json")]
    Failover(failover::BenchFailover),
    /// How long groups take to settle, and how long the loss of their coordinator is felt
    #[command(after_help = "Examples:\n  \
        troupe bench group\n  \
        troupe bench group --members 20 --partitions 200 --failovers 0\n  \
        troupe bench group --nodes -o json      # on three nodes of its own, which are killed too")]
    Group(group::BenchGroup),
    /// How fast a log is compacted, and what a producer feels of it, on a node of its own
    #[command(after_help = "Examples:\n  \
        troupe bench clean\n  \
        troupe bench clean --keys 100k --times 20 --size 1KiB --dir /var/tmp -o json\n  \
        troupe bench clean --set log.cleaner.io.max.bytes.per.second=20MiB")]
    Clean(clean::BenchClean),
    /// Size of `__consumer_offsets` and loss of a coordinator, before and after compaction, on three nodes of its own
    #[command(after_help = "Examples:\n  \
        troupe bench offsets\n  \
        troupe bench offsets --groups 100 --commits 1M --rounds 3 -o json")]
    Offsets(offsets::BenchOffsets),
    /// How fast a follower catches up, and what acks=all costs, on three nodes of its own
    #[command(after_help = "Examples:\n  \
        troupe bench replication\n  \
        troupe bench replication --rounds 7 --bytes 2GiB --dir /var/tmp -o json")]
    Replication(replication::BenchReplication),
    /// What a small producer feels when others send more than three nodes of its own can carry
    #[command(after_help = "Examples:\n  \
        troupe bench overload\n  \
        troupe bench overload --greedy 24 --duration 30s -o json\n  \
        troupe bench overload --binary path/to/another/troupe   # its nodes, measured the same way")]
    Overload(overload::BenchOverload),
    /// What transactions cost: beside plain idempotent sending, from begin to committed, and for readers
    #[command(after_help = "Examples:\n  \
        troupe bench transactions\n  \
        troupe bench transactions --producers 8 --transaction-size 1000,100,10 --rounds 5 -o json\n  \
        troupe bench transactions --open 10k      # on a node of its own, which is killed")]
    Transactions(transactions::BenchTransactions),
    /// Everything, as a share of what this machine's network stack and disk can do
    #[command(after_help = "Examples:\n  \
        troupe bench limits\n  \
        troupe bench limits --rounds 7 --dir /var/tmp -o json > limits.json")]
    Limits(limits::BenchLimits),
    /// The other end of the raw measurements of `limits`
    #[command(hide = true)]
    RawReceiver(raw::RawReceiver),
}

pub fn run(global: &Global, command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Produce(bench) => block_on(produce::run(global, bench)),
        BenchCommand::Consume(bench) => block_on(consume::run(global, bench)),
        BenchCommand::E2e(bench) => block_on(e2e::run(global, bench)),
        BenchCommand::Failover(bench) => block_on(failover::run(global, bench)),
        BenchCommand::Group(bench) => block_on(group::run(global, bench)),
        BenchCommand::Replication(bench) => block_on(replication::run(global, bench)),
        BenchCommand::Clean(bench) => block_on(clean::run(global, bench)),
        BenchCommand::Offsets(bench) => block_on(offsets::run(global, bench)),
        BenchCommand::Overload(bench) => block_on(overload::run(global, bench)),
        BenchCommand::Transactions(bench) => block_on(transactions::run(global, bench)),
        BenchCommand::Limits(bench) => block_on(limits::run(global, bench)),
        BenchCommand::RawReceiver(receiver) => raw::receive(&receiver),
    }
}

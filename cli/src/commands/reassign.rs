//! `troupe reassign`: other replicas for partitions, as kafka-reassign-partitions does it.

mod cancel;
mod execute;
mod list;
mod plan;
mod verify;
mod which;

use crate::failure::Failure;
use crate::global::Global;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum ReassignCommand {
    /// Propose other replicas for topics, as kafka-reassign-partitions --generate does; changes nothing
    #[command(after_help = "Examples:\n  \
        troupe reassign plan --topics orders,audit --to-nodes 1,2,3,4 -o json > plan.json\n  \
        troupe reassign plan --all-topics --exclude-node 4 -o json > plan.json\n  \
        troupe reassign plan --topics orders --replication-factor 3 -o json > plan.json\n  \
        troupe reassign plan --topics-to-move-json-file topics.json --to-nodes 1,2,3,4 --algorithm kafka\n\
        Without -o json both assignments are printed, in Kafka's words; with it the proposed one, for `troupe reassign\n\
        execute`. As little is copied as it takes to be even; Kafka's own algorithm places all anew.")]
    #[command(alias = "generate")]
    Plan(plan::Plan),
    /// Begin what a plan says, and print what there was before
    #[command(after_help = "Examples:\n  \
        troupe reassign execute plan.json > rollback.txt\n  \
        troupe reassign execute plan.json --wait          # until it is complete\n  \
        troupe reassign execute - < plan.json             # from standard input\n  \
        troupe reassign execute plan.json --dry-run       # all checks, nothing done\n  \
        troupe reassign execute plan.json --throttle 50MiB/s\n  \
        troupe reassign execute plan.json --additional --throttle 100MiB/s   # another rate, while it runs\n\
        A plan is Kafka's: {\"version\":1,\"partitions\":[{\"topic\":\"orders\",\"partition\":0,\"replicas\":[1,2,3]}]}.\n\
        The first replica is the preferred leader. Partitions are served all the time: new replicas are filled first,\n\
        and those that go are dropped, with their data, once all others are in sync. A throttle is for replicas that are\n\
        new, never for one that is in sync; it stays until `troupe reassign verify` finds that nothing is under way.")]
    Execute(execute::Execute),
    /// Tell of each partition of a plan whether it is complete; exit code 0 only if all are. Once nothing is under way,
    /// throttles are taken away
    #[command(after_help = "Examples:\n  \
        until troupe reassign verify plan.json; do sleep 5; done\n  \
        troupe reassign verify --all    # of all that is under way, and the throttles of all topics")]
    Verify(verify::Verify),
    /// Give up what is under way: the replicas are again as they were before
    #[command(after_help = "Examples:\n  \
        troupe reassign cancel plan.json\n  \
        troupe reassign cancel --all")]
    Cancel(cancel::Cancel),
    /// Show what is under way, how far it is, and how long the rest takes
    #[command(after_help = "Examples:\n  \
        troupe reassign list\n  \
        troupe reassign list --watch\n  \
        troupe reassign list -o json | jq '.reassignments[].bytesLeft'")]
    #[command(visible_aliases = ["ls", "describe"])]
    List(list::List),
}

pub async fn run(global: &Global, command: ReassignCommand) -> Result<(), Failure> {
    match command {
        ReassignCommand::Plan(plan) => plan::run(global, plan).await,
        ReassignCommand::Execute(execute) => execute::run(global, execute).await,
        ReassignCommand::Verify(verify) => verify::run(global, verify).await,
        ReassignCommand::Cancel(cancel) => cancel::run(global, cancel).await,
        ReassignCommand::List(list) => list::run(global, list).await,
    }
}

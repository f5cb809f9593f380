//! `troupe chaos`: faults, on purpose, and what they cost.
//!
//! [`series`]: faults drawn from a seed, one after the other, over the actors that match, on all nodes; [`sampler`] picks,
//! [`report`] counts. [`nodes`] are what suffers as a whole. [`feeling`]: what clients feel meanwhile. [`scenario`]: a
//! whole run from a file, and its [`verdict`]. What is drawn follows from the seed and from the actors that are there.

mod fault;
mod feeling;
mod nodes;
mod report;
mod sampler;
mod scenario;
mod series;
mod verdict;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::node_faults::NodeFaultCommand;
use crate::signals::Stop;
use clap::{Args, Subcommand};
use feeling::{Feeling, conclude};
use report::Report;
use sampler::Sampler;
use series::{Running, Series, targets, topics_of};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:\n  \
    troupe chaos kill '*/partition/orders/*' --every 2s --time-limit 1m\n  \
    troupe chaos kill,panic,pause '*' --count 100 --every 200ms --seed 42\n  \
    troupe chaos kill 'node/*/controller'\n  \
    troupe chaos pause --leader orders:0 --for 5s              # whoever leads it then\n  \
    troupe chaos pause --leader orders:0 --for 5s --load-topic orders   # and what clients feel of it\n  \
    troupe chaos kill --coordinator billing --every 5s         # until Ctrl-C\n  \
    troupe chaos drop-replies '*/partition/orders/0' --for 10s --probability 0.1\n  \
    troupe chaos cut 1 2 --for 30s                             # of nodes; see below\n  \
    troupe chaos pause 2 --for 5s                              # a whole node\n  \
    troupe chaos run leaders.toml --junit leaders.xml          # a scenario, with a verdict\n  \
    troupe chaos list                                          # what lasts, and `stop` ends it\n\
    `troupe actor tree` shows the addresses: of partitions, controllers and replication streams, of which the\n\
    last two can only be killed. The nodes must have been started with chaos.enable=true, as by `troupe dev`.")]
pub struct Chaos {
    #[command(subcommand)]
    command: Option<ChaosCommand>,
    #[command(flatten)]
    feeling: Feeling,
    #[command(flatten)]
    series: Option<Series>,
}

#[derive(Debug, Subcommand)]
enum ChaosCommand {
    /// Carry out a scenario file: steady state, steps, expectations; the exit code says whether they held
    Run(scenario::Run),
    #[command(flatten)]
    Node(NodeFaultCommand),
    /// What nodes and actors suffer now, on all nodes
    #[command(visible_alias = "ls")]
    List,
    /// End what nodes suffer before its time: one fault, or all
    #[command(visible_alias = "heal")]
    #[command(after_help = "Examples:\n  troupe chaos stop\n  troupe chaos stop cut-x7k2")]
    Stop {
        /// As `troupe chaos list` shows it [default: all]
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
}

pub async fn run(global: &Global, chaos: Chaos) -> Result<(), Failure> {
    match chaos.command {
        Some(ChaosCommand::Run(run)) => scenario::run(global, &run).await,
        Some(ChaosCommand::Node(command)) => {
            let (kind, duration) = command.into_kind();
            nodes::begin(global, &kind, duration).await
        }
        Some(ChaosCommand::List) => nodes::list(global).await,
        Some(ChaosCommand::Stop { id }) => {
            nodes::stop(global, id.as_deref().unwrap_or_default()).await
        }
        None => {
            let series =
                chaos.series.ok_or_else(|| Failure::usage("there is no fault to inject"))?;
            run_series(global, &series, &chaos.feeling).await
        }
    }
}

async fn run_series(global: &Global, series: &Series, feeling: &Feeling) -> Result<(), Failure> {
    let client = global.connect().await?;
    let paused = series.paused_node()?;
    if let Some((kind, duration)) = &paused
        && feeling.is_silent()
    {
        return nodes::begin(global, kind, *duration).await;
    }
    let seed = series.seed.unwrap_or_else(rand::random);
    let targets = match &paused {
        Some(_) => Vec::new(),
        None => targets(&client, series).await?,
    };
    if paused.is_none() {
        series.check(&targets)?;
    }
    // Not dropped with what it interrupts: the report is worth having, above all then.
    let mut stop = Stop::new()?;
    let starting = feeling::session(global, feeling, topics_of(&targets));
    let session = stop.or(starting).await.map_err(Failure::interrupted)??;
    let report = Report::new(seed, &series.whom());
    let running = Running::new(global, &client, session.as_ref(), report);
    let injecting = async {
        let met = async {
            match &session {
                Some(session) if !feeling.abort_if.is_empty() => {
                    session.met(&feeling.abort_if).await
                }
                _ => std::future::pending().await,
            }
        };
        let inject = async {
            match &paused {
                Some((kind, duration)) => running.afflict(kind, *duration).await,
                None => {
                    running.inject_all(series, Sampler::new(seed)).await;
                    Ok(())
                }
            }
        };
        tokio::select! {
            injected = inject => injected.map(|()| None),
            met = met => Ok(Some(met)),
        }
    };
    let injected = stop.or(injecting).await;
    if paused.is_some() {
        running.heal().await;
    }
    let uninterrupted = injected.is_ok();
    let met = injected.unwrap_or(Ok(None))?;
    let aborted = met.map(|met| format!("aborted, as {} ({})", met.condition.text(), met.actual));
    let mut report = running.report.into_inner();
    report.aborted.clone_from(&aborted);
    if let Some(session) = session {
        report.felt = Some(conclude(session, uninterrupted, &mut stop).await.report);
    }
    report.print(global)?;
    match aborted {
        Some(why) => Err(Failure::new(Exit::Failed, "", why)),
        None => Ok(()),
    }
}

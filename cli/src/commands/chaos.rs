//! `troupe chaos`: faults drawn from a seed, one after the other, over the actors that match, on all nodes.
//!
//! [`sampler`] picks, [`report`] counts; [`nodes`] are what suffers as a whole. What is drawn follows from the seed and from the actors that are there.

mod fault;
mod nodes;
mod report;
mod sampler;

use crate::actors::{node_of, of_all_nodes};
use crate::address_pattern::AddressPattern;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_faults::{NodeFaultKind, parse_node};
use crate::quantity::{parse_count, parse_duration, parse_whole, show_duration};
use crate::roles::{Partition, coordinator_of, leader_of, parse_partition};
use crate::signals::Stop;
use crate::streams::notice;
use clap::{ArgAction, Args};
use fault::{Fault, Target};
use nodes::ChaosCommand;
use report::{Injected, Report};
use sampler::Sampler;
use std::time::{Duration, Instant};
use troupe_client::{Client, ClientError};
use troupe_proto::chaos::v1alpha1::{Fault as WireFault, InjectFaultRequest, KillMode};

/// Between two faults, if nothing else is said.
const EVERY: Duration = Duration::from_secs(1);
/// How long a fault of an actor lasts, alike.
const LASTS: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:\n  \
    troupe chaos kill '*/partition/orders/*' --every 2s --time-limit 1m\n  \
    troupe chaos kill,panic,pause '*' --count 100 --every 200ms --seed 42\n  \
    troupe chaos kill 'node/*/controller'\n  \
    troupe chaos pause --leader orders:0 --for 5s              # whoever leads it then\n  \
    troupe chaos kill --coordinator billing --every 5s         # until Ctrl-C\n  \
    troupe chaos drop-replies '*/partition/orders/0' --for 10s --probability 0.1\n  \
    troupe chaos cut 1 2 --for 30s                             # of nodes; see below\n  \
    troupe chaos pause 2 --for 5s                              # a whole node\n  \
    troupe chaos list                                          # what lasts, and `stop` ends it\n\
    `troupe actor tree` shows the addresses: of partitions, controllers and replication streams, of which the\n\
    last two can only be killed. The nodes must have been started with chaos.enable=true, as by `troupe dev`.")]
pub struct Chaos {
    #[command(subcommand)]
    command: Option<ChaosCommand>,
    /// What to do; with several, each time one of them is drawn
    #[arg(value_enum, value_name = "FAULT", value_delimiter = ',', required = true)]
    #[arg(num_args = 1, action = ArgAction::Set)]
    faults: Vec<Fault>,
    /// Whom to do it to: an address, in which * stands for anything and ? for one character; for pause, also the number
    /// of a node
    #[arg(required_unless_present_any = ["leaders", "coordinators"])]
    pattern: Option<String>,
    /// Whoever leads this partition when the fault comes; may be repeated
    #[arg(long = "leader", value_name = "TOPIC:PARTITION", value_parser = parse_partition)]
    leaders: Vec<Partition>,
    /// Whoever coordinates this group when the fault comes; may be repeated
    #[arg(long = "coordinator", value_name = "GROUP")]
    coordinators: Vec<String>,
    /// How long a pause, a stall or dropping replies lasts [default: 1s, of a whole node 10s]
    #[arg(long = "for", value_parser = parse_duration, value_name = "DURATION")]
    duration: Option<Duration>,
    /// From one fault to the next; a fault that lasts longer is waited for [default: 1s]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    every: Option<Duration>,
    /// How many faults [default: 1; with --every or a time limit, until that or a signal ends it]
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    count: Option<u64>,
    /// No new fault after this time
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    time_limit: Option<Duration>,
    /// What is drawn follows from it [default: a random one, which is printed]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>)]
    seed: Option<u64>,
    /// drop-replies: how likely each reply is to be dropped
    #[arg(long, default_value_t = 1.0, value_parser = parse_probability, value_name = "P")]
    probability: f64,
}

fn parse_probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(probability) if probability > 0.0 && probability <= 1.0 => Ok(probability),
        _ => Err("it is no number above 0 and up to 1".to_owned()),
    }
}

pub async fn run(global: &Global, mut chaos: Chaos) -> Result<(), Failure> {
    if let Some(command) = chaos.command.take() {
        return nodes::run(global, command).await;
    }
    if let Some(node) = chaos.paused_node()? {
        return nodes::begin(global, &NodeFaultKind::Pause { node }, chaos.duration).await;
    }
    let client = global.connect().await?;
    let seed = chaos.seed.unwrap_or_else(rand::random);
    let whom = chaos.whom();
    let mut sampler = Sampler::new(seed);
    let mut report = Report::new(seed, &whom);
    let targets = targets(&client, &chaos).await?;
    if targets.is_empty() {
        let cause = format!("no actor that can fail has an address like `{whom}`");
        return Err(Failure::new(Exit::NotFound, "", cause)
            .with_hint("`troupe actor tree | cut -f1` shows the addresses"));
    }
    let names = || chaos.faults.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ");
    if !targets.iter().any(|target| chaos.faults.iter().any(|fault| target.can_suffer(*fault))) {
        let cause =
            format!("what matches `{whom}` can only be killed: {} is for partitions", names());
        return Err(Failure::new(Exit::Refused, "", cause).with_hint("use kill or panic"));
    }
    // Not dropped with what it interrupts: the report is worth having, above all then.
    let mut stop = Stop::new()?;
    let injected = stop.or(inject_all(global, &client, &chaos, &mut sampler, &mut report)).await;
    if let Ok(outcome) = injected {
        outcome?;
    }
    report.print(global)
}

async fn inject_all(
    global: &Global,
    client: &Client,
    chaos: &Chaos,
    sampler: &mut Sampler,
    report: &mut Report,
) -> Result<(), Failure> {
    let started = Instant::now();
    let count = match (chaos.count, chaos.time_limit.or(chaos.every)) {
        (Some(count), _) => count,
        (None, Some(_)) => u64::MAX,
        (None, None) => 1,
    };
    let every = chaos.every.unwrap_or(EVERY);
    for number in 0..count {
        if chaos.time_limit.is_some_and(|limit| started.elapsed() >= limit) {
            break;
        }
        let begun = Instant::now();
        // Anew each time: leaders move, nodes come and go.
        let targets = targets(client, chaos).await.unwrap_or_default();
        let drawn = sampler.sample(&chaos.faults, &targets);
        let seed = sampler.seed_of_fault();
        if let Some((fault, address)) = drawn {
            let injected = inject(client, chaos, fault, &address, seed).await;
            if global.progress() {
                notice!("{:>8}  {injected}", show_duration(started.elapsed()));
            }
            report.add(injected);
        }
        if number + 1 < count {
            tokio::time::sleep(every.saturating_sub(begun.elapsed())).await;
        }
    }
    Ok(())
}

impl Chaos {
    /// Of a pause that is for a whole node, which is named by its number.
    fn paused_node(&self) -> Result<Option<i32>, Failure> {
        let pattern = self.pattern.as_deref().unwrap_or_default();
        let Ok(node) = parse_node(pattern) else { return Ok(None) };
        if self.faults != [Fault::Pause] {
            return Err(Failure::usage("of a whole node there is `pause` alone here").with_hint(
                "`troupe dev` kills nodes by `kill 2`; `troupe chaos --help` lists what nodes can suffer",
            ));
        }
        if self.every.is_some() || self.count.is_some() || self.time_limit.is_some() {
            return Err(Failure::usage("a whole node is paused once: --for says how long"));
        }
        Ok(Some(node))
    }

    /// In words of the command line.
    fn whom(&self) -> String {
        let leaders = self.leaders.iter();
        let leaders = leaders.map(|at| format!("--leader {}:{}", at.topic, at.number));
        let coordinators = self.coordinators.iter().map(|group| format!("--coordinator {group}"));
        let all: Vec<String> =
            self.pattern.iter().cloned().chain(leaders).chain(coordinators).collect();
        all.join(" ")
    }
}

/// Those that match, or do now what they are named by.
async fn targets(client: &Client, chaos: &Chaos) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    if let Some(pattern) = &chaos.pattern {
        let pattern = AddressPattern::new(pattern);
        let actors = of_all_nodes(client, "").await;
        let actors = actors.with_context(|| "cannot list the actors".to_owned())?;
        let matching = actors.into_iter().filter(|actor| {
            // Nodes and supervisors are what brings the others back.
            !matches!(actor.kind.as_str(), "node" | "supervisor") && pattern.matches(&actor.address)
        });
        targets.extend(
            matching.map(|actor| Target {
                partition: actor.kind == "partition",
                address: actor.address,
            }),
        );
    }
    for partition in &chaos.leaders {
        targets.push(Target { partition: true, address: leader_of(client, partition).await? });
    }
    for group in &chaos.coordinators {
        targets.push(Target { partition: false, address: coordinator_of(client, group).await? });
    }
    Ok(targets)
}

/// Returns when the actor serves again.
async fn inject(
    client: &Client,
    chaos: &Chaos,
    fault: Fault,
    address: &str,
    seed: u64,
) -> Injected {
    let outcome = async {
        let node = node_of(address);
        let admin = match node {
            Some(node) => client.admin_of(node).await?,
            None => client.admin(),
        };
        let wire_fault = match fault {
            Fault::Kill => return kill(&admin, address, KillMode::Stop).await,
            Fault::Panic => return kill(&admin, address, KillMode::Panic).await,
            Fault::Pause => WireFault::Pause,
            Fault::Stall => WireFault::Stall,
            Fault::DropReplies => WireFault::DropReplies,
        };
        let request = InjectFaultRequest {
            address: address.to_owned(),
            fault: wire_fault.into(),
            duration_ms: u32::try_from(chaos.duration.unwrap_or(LASTS).as_millis())
                .unwrap_or(u32::MAX),
            probability: chaos.probability,
            seed,
        };
        admin.inject_fault(request).await.map(|answer| answer.recovery_micros)
    };
    let recovery = outcome.await.map(|micros| Duration::from_micros(micros.unsigned_abs()));
    Injected { fault, address: address.to_owned(), recovery }
}

async fn kill(
    admin: &troupe_client::Admin,
    address: &str,
    mode: KillMode,
) -> Result<i64, ClientError> {
    admin.kill_actor(address, mode).await.map(|answer| answer.recovery_micros)
}

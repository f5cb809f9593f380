//! `troupe chaos`: faults drawn from a seed, one after the other, over the actors that match, on all nodes.
//!
//! [`sampler`] picks, [`report`] counts. What is drawn follows from the seed and from the actors that are there.

mod fault;
mod report;
mod sampler;

use crate::actors::{node_of, of_all_nodes};
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::quantity::{parse_count, parse_duration, parse_whole, show_duration};
use crate::signals::Stop;
use crate::streams::notice;
use clap::Args;
use fault::{Fault, Target};
use report::{Injected, Report};
use sampler::Sampler;
use std::time::{Duration, Instant};
use troupe_client::{Client, ClientError};
use troupe_proto::chaos::v1alpha1::{Fault as WireFault, InjectFaultRequest, KillMode};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe chaos kill '*/partition/orders/*' --every 2s --time-limit 1m\n  \
    troupe chaos kill,panic,pause '*' --count 100 --every 200ms --seed 42\n  \
    troupe chaos kill 'node/*/controller'\n  \
    troupe chaos pause '*/partition/orders/0' --for 5s\n  \
    troupe chaos drop-replies '*/partition/orders/0' --for 10s --probability 0.1\n\
    `troupe actor tree` shows the addresses: of partitions, controllers and replication streams, of which the\n\
    last two can only be killed. The nodes must have been started with chaos.enable=true, as by `troupe dev`.")]
pub struct Chaos {
    /// What to do; with several, each time one of them is drawn
    #[arg(value_enum, value_name = "FAULT", value_delimiter = ',', required = true)]
    faults: Vec<Fault>,
    /// Whom to do it to: an address, in which * stands for anything and ? for one character
    pattern: String,
    /// How long a pause, a stall or dropping replies lasts
    #[arg(long = "for", default_value = "1s", value_parser = parse_duration, value_name = "DURATION")]
    duration: Duration,
    /// From one fault to the next; a fault that lasts longer is waited for
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "DURATION")]
    every: Duration,
    /// How many faults [default: 1, or as many as fit into the time limit]
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

pub async fn run(global: &Global, chaos: Chaos) -> Result<(), Failure> {
    let client = global.connect().await?;
    let seed = chaos.seed.unwrap_or_else(rand::random);
    let mut sampler = Sampler::new(seed, &chaos.pattern);
    let mut report = Report::new(seed, &chaos.pattern);
    let targets = targets(&client, &chaos, &sampler)
        .await
        .with_context(|| "cannot list the actors".to_owned())?;
    if targets.is_empty() {
        let cause = format!("no actor that can fail has an address like `{}`", chaos.pattern);
        return Err(Failure::new(Exit::NotFound, "", cause)
            .with_hint("`troupe actor tree | cut -f1` shows the addresses"));
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
    let count = match (chaos.count, chaos.time_limit) {
        (Some(count), _) => count,
        (None, Some(_)) => u64::MAX,
        (None, None) => 1,
    };
    for number in 0..count {
        if chaos.time_limit.is_some_and(|limit| started.elapsed() >= limit) {
            break;
        }
        let begun = Instant::now();
        // Anew each time: leaders move, nodes come and go.
        let targets = targets(client, chaos, sampler).await.unwrap_or_default();
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
            tokio::time::sleep(chaos.every.saturating_sub(begun.elapsed())).await;
        }
    }
    Ok(())
}

/// Those that match and can suffer one of the faults.
async fn targets(
    client: &Client,
    chaos: &Chaos,
    sampler: &Sampler,
) -> Result<Vec<Target>, ClientError> {
    let actors = of_all_nodes(client, "").await?;
    let matching = actors.into_iter().filter(|actor| {
        // Nodes and supervisors are what brings the others back.
        !matches!(actor.kind.as_str(), "node" | "supervisor") && sampler.matches(&actor.address)
    });
    let targets = matching
        .map(|actor| Target { partition: actor.kind == "partition", address: actor.address });
    Ok(targets
        .filter(|target| chaos.faults.iter().any(|fault| target.can_suffer(*fault)))
        .collect())
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
            duration_ms: u32::try_from(chaos.duration.as_millis()).unwrap_or(u32::MAX),
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

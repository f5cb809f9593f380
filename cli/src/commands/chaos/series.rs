//! Faults of actors, one after the other, and of whole nodes: whom they hit, and carrying them out.

use super::fault::{Fault, Target};
use super::report::{Injected, Report};
use super::sampler::Sampler;
use crate::actors::{node_of, of_all_nodes};
use crate::address_pattern::AddressPattern;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_faults::{self, NodeFaultKind, parse_node};
use crate::quantity::{parse_count, parse_duration, parse_whole, show_duration};
use crate::roles::{Partition, coordinator_of, leader_of, parse_partition};
use crate::streams::{notice, write_notice};
use clap::{ArgAction, Args};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_chaos::Session;
use troupe_client::{Client, ClientError};
use troupe_proto::chaos::v1alpha1::{Fault as WireFault, InjectFaultRequest, KillMode};

/// Between two faults, if nothing else is said.
const EVERY: Duration = Duration::from_secs(1);
/// How long a fault of an actor lasts, alike.
const LASTS: Duration = Duration::from_secs(1);

/// Faults of actors, one after the other.
#[derive(Debug, Args)]
pub struct Series {
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
    pub seed: Option<u64>,
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

/// Those of users, by the addresses of partitions.
pub fn topics_of(targets: &[Target]) -> Vec<String> {
    let topics = targets.iter().filter(|target| target.partition).filter_map(|target| {
        let topic = target.address.rsplit('/').nth(1)?;
        (!topic.starts_with("__")).then(|| topic.to_owned())
    });
    topics.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Faults that are being injected, and who is told of them.
pub struct Running<'a> {
    pub global: &'a Global,
    client: &'a Client,
    session: Option<&'a Session>,
    pub report: RefCell<Report>,
    started: Instant,
    /// Of nodes, those that may last still: their ids.
    lasting: RefCell<BTreeSet<String>>,
}

impl<'a> Running<'a> {
    pub fn new(
        global: &'a Global,
        client: &'a Client,
        session: Option<&'a Session>,
        report: Report,
    ) -> Self {
        let (report, lasting) = (RefCell::new(report), RefCell::default());
        Running { global, client, session, report, started: Instant::now(), lasting }
    }

    pub async fn inject_all(&self, series: &Series, mut sampler: Sampler) {
        let started = Instant::now();
        let count = match (series.count, series.time_limit.or(series.every)) {
            (Some(count), _) => count,
            (None, Some(_)) => u64::MAX,
            (None, None) => 1,
        };
        let every = series.every.unwrap_or(EVERY);
        for number in 0..count {
            if series.time_limit.is_some_and(|limit| started.elapsed() >= limit) {
                break;
            }
            let begun = Instant::now();
            // Anew each time: leaders move, nodes come and go.
            let targets = targets(self.client, series).await.unwrap_or_default();
            let drawn = sampler.sample(&series.faults, &targets);
            let seed = sampler.seed_of_fault();
            if let Some((fault, address)) = drawn {
                let felt = self.session.map(|session| session.fault_begins(fault.name(), &address));
                let injected = inject(self.client, series, fault, &address, seed).await;
                if let (Some(session), Some(number)) = (self.session, felt) {
                    let error = injected.recovery.as_ref().err().map(ToString::to_string);
                    session.fault_ended(number, error);
                }
                if self.global.progress() {
                    notice!("{:>8}  {injected}", show_duration(self.started.elapsed()));
                }
                self.report.borrow_mut().add(injected);
            }
            if number + 1 < count {
                sleep(every.saturating_sub(begun.elapsed())).await;
            }
        }
    }

    /// A fault of whole nodes, to its end.
    pub async fn afflict(
        &self,
        kind: &NodeFaultKind,
        duration: Option<Duration>,
    ) -> Result<(), Failure> {
        let whom = format!("node/{}", kind.victim());
        let felt = self.session.map(|session| session.fault_begins(kind.name(), &whom));
        let begun = node_faults::start(self.client, kind, duration).await;
        if let Ok(begun) = &begun {
            if self.global.progress() {
                write_notice(format_args!("{}", begun.tell()));
            }
            self.lasting.borrow_mut().insert(begun.id.clone());
            sleep(begun.duration).await;
            self.lasting.borrow_mut().remove(&begun.id);
        }
        if let (Some(session), Some(number)) = (self.session, felt) {
            session.fault_ended(number, begun.as_ref().err().map(ToString::to_string));
        }
        begun.map(drop)
    }

    /// Ends what nodes suffer of this run. What actors do ends by itself.
    pub async fn heal(&self) {
        for id in self.lasting.take() {
            if let Err(failure) = node_faults::stop(self.client, &id).await {
                notice!("note: {id} goes on for its time: {failure}");
            }
        }
        if let Some(session) = self.session {
            session.all_faults_ended();
        }
    }
}

impl Series {
    /// Of a pause that is for a whole node, which is named by its number.
    pub fn paused_node(&self) -> Result<Option<(NodeFaultKind, Option<Duration>)>, Failure> {
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
        Ok(Some((NodeFaultKind::Pause { node }, self.duration)))
    }

    /// In words of the command line.
    pub fn whom(&self) -> String {
        let leaders = self.leaders.iter();
        let leaders = leaders.map(|at| format!("--leader {}:{}", at.topic, at.number));
        let coordinators = self.coordinators.iter().map(|group| format!("--coordinator {group}"));
        let all: Vec<String> =
            self.pattern.iter().cloned().chain(leaders).chain(coordinators).collect();
        all.join(" ")
    }

    /// # Errors
    /// None of these can suffer any of it.
    pub fn check(&self, targets: &[Target]) -> Result<(), Failure> {
        let whom = self.whom();
        if targets.is_empty() {
            let cause = format!("no actor that can fail has an address like `{whom}`");
            return Err(Failure::new(Exit::NotFound, "", cause)
                .with_hint("`troupe actor tree | cut -f1` shows the addresses"));
        }
        if !targets.iter().any(|target| self.faults.iter().any(|fault| target.can_suffer(*fault))) {
            let names: Vec<&str> = self.faults.iter().map(|fault| fault.name()).collect();
            let names = names.join(", ");
            let cause =
                format!("what matches `{whom}` can only be killed: {names} is for partitions");
            return Err(Failure::new(Exit::Refused, "", cause).with_hint("use kill or panic"));
        }
        Ok(())
    }
}

/// Those that match, or do now what they are named by.
pub async fn targets(client: &Client, series: &Series) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    if let Some(pattern) = &series.pattern {
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
    for partition in &series.leaders {
        targets.push(Target { partition: true, address: leader_of(client, partition).await? });
    }
    for group in &series.coordinators {
        targets.push(Target { partition: false, address: coordinator_of(client, group).await? });
    }
    Ok(targets)
}

/// Returns when the actor serves again.
async fn inject(
    client: &Client,
    series: &Series,
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
            duration_ms: u32::try_from(series.duration.unwrap_or(LASTS).as_millis())
                .unwrap_or(u32::MAX),
            probability: series.probability,
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

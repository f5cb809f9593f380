//! What clients feel while there are faults: the flags about it, and the two tables.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Output, Table, number, text};
use crate::quantity::{grouped, parse_count, parse_size, parse_whole, plural, show_duration};
use crate::signals::Stop;
use clap::Args;
use std::time::Duration;
use troupe_chaos::condition::{Condition, figures};
use troupe_chaos::report::{FaultReport, GapReport, Report, SideReport};
use troupe_chaos::{Ending, LoadConfig, Session, SessionError, Source, WatchConfig};

/// How long all may take to be there and in sync again when the last fault is over.
const WHOLE_PATIENCE: Duration = Duration::from_secs(60);
/// Without a word about it, more topics than these are not read along.
const MOST_TOPICS: usize = 8;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What clients feel")]
pub struct Feeling {
    /// Send and read records all the time, and look for each of them in the end
    #[arg(long, conflicts_with = "watch")]
    load: bool,
    /// The same to this topic, which is made if it is not there [default: one of its own]
    #[arg(long, value_name = "TOPIC", conflicts_with = "watch")]
    load_topic: Option<String>,
    /// Records per second of the load, over all partitions
    #[arg(long, value_name = "N", value_parser = parse_count, conflicts_with = "watch")]
    rate: Option<u64>,
    /// Partitions of the load's topic, if it is made
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>, conflicts_with = "watch")]
    partitions: Option<u32>,
    /// Bytes of each record of the load
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "watch")]
    record_size: Option<u64>,
    /// Members of the group that reads the load; 0: nobody reads
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>, conflicts_with = "watch")]
    members: Option<u32>,
    /// Read these topics of yours along, which others publish to [default: those that the faults are about]
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    watch: Vec<String>,
    /// And follow what this group of yours commits
    #[arg(long, value_name = "GROUP", requires = "watch")]
    group: Option<String>,
    /// End it when this is so, as 'offline>0 for 10s'; may be repeated
    #[arg(long, value_name = "CONDITION", value_parser = parse_condition)]
    pub abort_if: Vec<Condition>,
}

/// # Errors
/// It is none, or of figures that are known too late.
pub fn parse_condition(text: &str) -> Result<Condition, String> {
    let condition: Condition =
        text.parse().map_err(|error: troupe_chaos::condition::ConditionError| error.to_string())?;
    match condition.known_at_end() {
        Some(figure) => Err(format!("`{figure}` is known only when all is over")),
        None => Ok(condition),
    }
}

/// For help texts: each figure and what it is.
pub fn help_on_figures() -> String {
    let mut help = "Figures of conditions (--abort-if, and scenarios):\n".to_owned();
    for (name, meaning) in figures() {
        help += &format!("  {name:<17} {meaning}\n");
    }
    help
}

impl Feeling {
    /// None of it was asked for.
    pub fn is_silent(&self) -> bool {
        !self.is_asked_for() && self.abort_if.is_empty()
    }

    /// `topics`: those that the faults are about. None: nobody is there to feel anything.
    pub fn source(&self, topics: Vec<String>) -> Option<Source> {
        let default = LoadConfig::default();
        if self.loads() {
            return Some(Source::Load(LoadConfig {
                topic: self.load_topic.clone(),
                partitions: self.partitions.unwrap_or(default.partitions),
                rate: self.rate.map_or(default.rate, |rate| rate.max(1) as f64),
                record_size: self.record_size.map_or(default.record_size, |size| size as usize),
                members: self.members.unwrap_or(default.members),
            }));
        }
        let topics = if self.watch.is_empty() { topics } else { self.watch.clone() };
        let few = (1..=MOST_TOPICS).contains(&topics.len());
        // Conditions are about the cluster, whatever the topics.
        (few || !self.abort_if.is_empty()).then(|| {
            let topics = if few { topics } else { Vec::new() };
            Source::Watch(WatchConfig { topics, group: self.group.clone() })
        })
    }

    /// It was asked for, and not only likely to be wanted.
    pub fn is_asked_for(&self) -> bool {
        self.loads() || !self.watch.is_empty()
    }

    fn loads(&self) -> bool {
        let settings = [self.rate, self.record_size].iter().any(Option::is_some)
            || [self.partitions, self.members].iter().any(Option::is_some);
        self.load || self.load_topic.is_some() || settings
    }
}

/// Who feels what is done: what was asked for, or who reads the topics along that it is about.
pub async fn session(
    global: &Global,
    feeling: &Feeling,
    topics: Vec<String>,
) -> Result<Option<Session>, Failure> {
    let Some(source) = feeling.source(topics) else { return Ok(None) };
    match felt(global, &source).await {
        Ok(session) => Ok(Some(session)),
        Err(failure) if feeling.is_asked_for() => Err(failure),
        // Nobody has asked for it.
        Err(_) => Ok(None),
    }
}

pub async fn felt(global: &Global, source: &Source) -> Result<Session, Failure> {
    let client = global.connect_quietly().await?;
    let started = Session::start(&client, source).await;
    started.map_err(|error| match error {
        SessionError::Client { what, cause } => Failure::client(what, &cause),
        other => Failure::new(Exit::Failed, "", other),
    })
}

/// Waits until all are there again, unless somebody is in a hurry, and ends it.
pub async fn conclude(session: Session, patient: bool, stop: &mut Stop) -> Ending {
    // If it was ill before, it need not get well.
    if patient && session.was_whole() {
        // Whoever interrupts this wants the report now.
        let _ = stop.or(session.whole_again(WHOLE_PATIENCE)).await;
    }
    session.end().await
}

/// Whether anybody was there to feel something.
pub fn was_felt(report: &Report) -> bool {
    let sides = [Some(&report.acknowledgements), report.deliveries.as_ref()];
    report.records.is_some() || sides.into_iter().flatten().any(|side| side.count > 0)
}

/// # Errors
/// Records of the run's own are not as they should be.
pub fn check(report: &Report) -> Result<(), Failure> {
    match report.records {
        None => Ok(()),
        Some(_) => report.nothing_lost().map_err(|why| Failure::new(Exit::Failed, "", why)),
    }
}

fn show(gap: Duration) -> String {
    match gap.as_secs() {
        0 => format!("{:.1} ms", gap.as_secs_f64() * 1e3),
        _ => format!("{:.3} s", gap.as_secs_f64()),
    }
}

/// For people: who waited how long, what it was about, what became of the records.
pub fn told(output: &Output, report: &Report) -> String {
    let mut out = String::new();
    if !report.faults.is_empty() {
        out += &output.table(&faults(report));
        out.push('\n');
    }
    out += &format!("what clients felt in {}:\n", show_duration(report.length));
    let mut table = Table::new(&[
        text("WHAT"),
        number("COUNT"),
        number("LONGEST GAP"),
        text("WHERE"),
        number("NOTHING AT ALL"),
    ]);
    let own = report.records.is_some();
    table.row(side(if own { "acknowledgements" } else { "appended" }, &report.acknowledgements));
    if let Some(deliveries) = &report.deliveries {
        table.row(side(if own { "deliveries" } else { "commits" }, deliveries));
    }
    out += &output.table(&table);
    if let Some(records) = report.records {
        out += &format!(
            "\n{} acknowledged of {}",
            plural(records.acknowledged, "record"),
            grouped(records.sent)
        );
        out += &match report.read_back {
            true => format!(
                ": {} lost, {} duplicated, {} out of order, {} not delivered; {} delivered again\n",
                records.lost,
                records.duplicated,
                records.out_of_order,
                records.undelivered,
                records.redelivered
            ),
            false => "; the log could not be read back\n".to_owned(),
        };
    }
    for error in &report.errors {
        out += &format!("{} told a {}: {}\n", grouped(error.count), error.who, error.kind);
    }
    out
}

fn side(what: &str, side: &SideReport) -> Vec<String> {
    let place = |gap: &GapReport| gap.place.as_ref().map(ToString::to_string).unwrap_or_default();
    vec![
        what.to_owned(),
        grouped(side.count),
        side.longest.as_ref().map(|gap| show(gap.gap.length())).unwrap_or_default(),
        side.longest.as_ref().map(place).unwrap_or_default(),
        show(side.silence.gap.length()),
    ]
}

fn faults(report: &Report) -> Table {
    let mut table = Table::new(&[
        number("AT"),
        text("FAULT"),
        text("WHOM").at_most(34),
        text("ROLE"),
        number("LASTED").roomy(),
        number("NEW LEADER").roomy(),
        number("WHOLE"),
        number("ACK GAP"),
        number("DELIVERY GAP").roomy(),
    ]);
    let gap = |gap: &Option<GapReport>| {
        gap.as_ref().map(|gap| show(gap.gap.length())).unwrap_or_default()
    };
    let span = |span: Option<Duration>| span.map(show).unwrap_or_default();
    for fault in &report.faults {
        let FaultReport { kind, whom, role, at, .. } = fault;
        table.row(vec![
            show_duration(*at),
            kind.clone(),
            whom.clone(),
            role.to_string(),
            span(fault.until.map(|until| until.saturating_sub(*at))),
            span(fault.new_leader_after),
            span(fault.whole_after),
            gap(&fault.ack_gap),
            gap(&fault.delivery_gap),
        ]);
    }
    table
}

//! All that is felt in a run: [`Event`]s go in with their times, a [`Report`] comes out.

use super::{ClusterState, FaultRecord, Gap, Lane, Ledger, Outcome, Place, Verdict, Victim};
use crate::report::{ErrorTally, FaultReport, GapReport, Moment, Report, SideReport};
use std::collections::BTreeMap;
use std::time::Duration;

/// Of what happens to the cluster, more is not kept.
const MOST_MOMENTS: usize = 10_000;
/// Faults that are older get no gap any more, even if nothing was whole since.
const RECENT_FAULTS: usize = 100;

#[derive(Clone, Debug)]
pub enum Event {
    /// Gaps count from now on: the load runs.
    Begun,
    /// A record became readable that somebody else has sent.
    Appended {
        place: Place,
    },
    Answered {
        place: Place,
        sequence: u64,
        outcome: Outcome,
        error: Option<String>,
    },
    /// To a member; without a number it is no record of this run.
    Delivered {
        place: Place,
        sequence: Option<u64>,
    },
    /// A member of the group had something to do, and could not.
    MemberFailed {
        error: String,
    },
    FaultBegan {
        number: u64,
        kind: String,
        whom: String,
    },
    FaultEnded {
        number: u64,
        error: Option<String>,
    },
    /// The cluster, as it was at some moment between the question and its answer, which is now.
    Seen {
        asked_at: Duration,
        state: ClusterState,
    },
    /// Something else that belongs in the report.
    Said {
        what: String,
    },
    /// Gaps count up to now.
    Ended,
    /// Read back from the log.
    Found {
        place: Place,
        sequence: u64,
    },
}

/// What can be said of the run at any moment. While it runs, gaps are those that are open; in the end the longest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    pub offline: u64,
    pub under_replicated: u64,
    pub fenced: u64,
    pub unreachable: u64,
    pub ack_gap: Duration,
    pub delivery_gap: Duration,
    pub errors: u64,
    pub faults: u64,
    pub failed_faults: u64,
    pub new_leader: Duration,
    pub whole: Duration,
    pub verdict: Verdict,
}

pub struct Felt {
    acks: Side,
    deliveries: Side,
    ledgers: BTreeMap<Place, Ledger>,
    /// By whom and by kind.
    errors: BTreeMap<(&'static str, String), (u64, Duration, Duration)>,
    faults: Vec<FaultRecord>,
    numbers: BTreeMap<u64, usize>,
    state: ClusterState,
    moments: Vec<Moment>,
    /// The run sends records of its own, and reads them back.
    sends: bool,
    ended: Option<Duration>,
}

/// Acknowledgements or deliveries, by partition and of all together.
struct Side {
    lanes: BTreeMap<Place, Lane>,
    all: Lane,
    /// There is a load over all partitions: one without a success is an ill one.
    all_are_used: bool,
}

impl Side {
    fn new(places: &[Place], at: Duration, all_are_used: bool) -> Side {
        let lanes = places.iter().map(|place| (place.clone(), Lane::beginning(at)));
        Side { lanes: lanes.collect(), all: Lane::beginning(at), all_are_used }
    }

    fn begin(&mut self, at: Duration) {
        self.lanes.values_mut().for_each(|lane| *lane = Lane::beginning(at));
        self.all = Lane::beginning(at);
    }

    fn success(&mut self, at: Duration, place: &Place) -> Option<Gap> {
        self.all.success(at);
        self.lanes.get_mut(place).map(|lane| lane.success(at))
    }

    /// Of partitions that somebody uses.
    fn used(&self) -> impl Iterator<Item = (&Place, &Lane)> {
        self.lanes.iter().filter(|(_, lane)| self.all_are_used || lane.successes() > 0)
    }

    fn worst(&self, gap: impl Fn(&Lane) -> Gap) -> Option<(Place, Gap)> {
        let gaps = self.used().map(|(place, lane)| (place, gap(lane)));
        let worst = gaps.max_by_key(|(_, gap)| gap.length());
        worst.map(|(place, gap)| (place.clone(), gap))
    }

    fn open(&self, now: Duration) -> Duration {
        self.worst(|lane| lane.open(now)).map(|(_, gap)| gap.length()).unwrap_or_default()
    }

    fn longest(&self, now: Duration) -> Duration {
        self.worst(|lane| lane.longest(now)).map(|(_, gap)| gap.length()).unwrap_or_default()
    }

    fn report(&self, end: Duration) -> SideReport {
        let gap = |place: &Place, gap: Gap| GapReport::new(Some(place), gap);
        SideReport {
            count: self.lanes.values().map(Lane::successes).sum(),
            longest: self.worst(|lane| lane.longest(end)).map(|(place, it)| gap(&place, it)),
            silence: GapReport::new(None, self.all.longest(end)),
            partitions: self.used().map(|(place, lane)| gap(place, lane.longest(end))).collect(),
        }
    }
}

impl Felt {
    /// Over these partitions. `sends`: of records that are its own, as [`Felt::sending`] numbers them.
    pub fn new(places: &[Place], sends: bool) -> Felt {
        let start = Duration::ZERO;
        Felt {
            acks: Side::new(places, start, sends),
            deliveries: Side::new(places, start, sends),
            ledgers: places.iter().map(|place| (place.clone(), Ledger::default())).collect(),
            errors: BTreeMap::new(),
            faults: Vec::new(),
            numbers: BTreeMap::new(),
            state: ClusterState::default(),
            moments: Vec::new(),
            sends,
            ended: None,
        }
    }

    /// The number of the next record to this partition.
    ///
    /// # Panics
    /// If it is no partition of the run.
    pub fn sending(&mut self, place: &Place) -> u64 {
        self.ledgers.get_mut(place).expect("the load sends to partitions of the run").sending()
    }

    pub fn note(&mut self, at: Duration, event: Event) {
        match event {
            Event::Begun => {
                self.acks.begin(at);
                self.deliveries.begin(at);
            }
            Event::Appended { place } => self.succeeded(at, true, &place),
            Event::Answered { place, sequence, outcome, error } => {
                if let Some(ledger) = self.ledgers.get_mut(&place) {
                    ledger.answered(sequence, outcome);
                }
                match error {
                    Some(error) => self.failed(at, "producer", error),
                    None => self.succeeded(at, true, &place),
                }
            }
            Event::Delivered { place, sequence } => {
                let ledger = self.ledgers.get_mut(&place);
                let first = match (sequence, ledger) {
                    (Some(sequence), Some(ledger)) => ledger.delivered(sequence),
                    _ => true,
                };
                if first {
                    self.succeeded(at, false, &place);
                }
            }
            Event::MemberFailed { error } => self.failed(at, "consumer", error),
            Event::FaultBegan { number, kind, whom } => {
                let victim = Victim::of_address(&whom);
                self.numbers.insert(number, self.faults.len());
                self.faults.push(FaultRecord::new(at, kind, whom, &victim, &self.state));
            }
            Event::FaultEnded { number, error } => {
                if let Some(fault) = self.numbers.remove(&number) {
                    self.faults[fault].ended(at, error);
                }
            }
            Event::Seen { asked_at, state } => self.seen(asked_at, at, state),
            Event::Said { what } => self.moment(at, what),
            Event::Ended => {
                self.ended.get_or_insert(at);
            }
            Event::Found { place, sequence } => {
                if let Some(ledger) = self.ledgers.get_mut(&place) {
                    ledger.found(sequence);
                }
            }
        }
    }

    fn succeeded(&mut self, at: Duration, is_ack: bool, place: &Place) {
        if self.ended.is_some() {
            return;
        }
        let side = if is_ack { &mut self.acks } else { &mut self.deliveries };
        let Some(gap) = side.success(at, place) else { return };
        let recent = self.faults.iter_mut().rev().take(RECENT_FAULTS);
        recent.for_each(|fault| fault.gap(is_ack, place, gap));
    }

    fn failed(&mut self, at: Duration, who: &'static str, error: String) {
        let (count, _, last) = self.errors.entry((who, error)).or_insert((0, at, at));
        *count += 1;
        *last = at;
    }

    fn seen(&mut self, asked_at: Duration, at: Duration, state: ClusterState) {
        if self.ended.is_none() {
            self.tell_changes(at, &state);
        }
        let waiting = self.faults.iter_mut().filter(|fault| !fault.is_over(at));
        waiting.for_each(|fault| fault.seen(asked_at, at, &state));
        self.state = state;
    }

    fn tell_changes(&mut self, at: Duration, state: &ClusterState) {
        let before = std::mem::take(&mut self.state);
        if before == ClusterState::default() {
            return;
        }
        if before.controller != state.controller {
            self.moment(
                at,
                match state.controller {
                    Some(node) => format!("node {node} is the controller"),
                    None => "there is no controller".to_owned(),
                },
            );
        }
        for (place, now) in &state.partitions {
            let Some(was) = before.partitions.get(place) else { continue };
            if (was.leader, was.epoch) != (now.leader, now.epoch) {
                self.moment(
                    at,
                    match now.leader {
                        Some(node) => format!("node {node} leads {place} in epoch {}", now.epoch),
                        None => format!("nobody leads {place}"),
                    },
                );
            }
        }
        if before.is_whole() != state.is_whole() {
            self.moment(
                at,
                match state.is_whole() {
                    true => "all nodes are there and all replicas in sync".to_owned(),
                    false => format!(
                        "{} offline, {} under-replicated, {} nodes fenced, {} unreachable",
                        state.offline, state.under_replicated, state.fenced, state.unreachable
                    ),
                },
            );
        }
    }

    fn moment(&mut self, at: Duration, what: String) {
        if self.moments.len() < MOST_MOMENTS {
            self.moments.push(Moment { at, what });
        }
    }

    /// The cluster, as it was seen last.
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// What was acknowledged of the run's own.
    pub fn acknowledged(&self) -> impl Iterator<Item = (&Place, u64)> {
        let ledgers = self.ledgers.iter();
        ledgers.flat_map(|(place, ledger)| ledger.acknowledged().map(move |number| (place, number)))
    }

    /// Whether each partition has had an acknowledgement, and one a delivery.
    pub fn flows(&self, delivers: bool) -> bool {
        let all = |side: &Side| side.lanes.values().all(|lane| lane.successes() > 0);
        all(&self.acks) && (!delivers || all(&self.deliveries))
    }

    /// What is true of the run now; after its end, of all of it.
    pub fn figures(&self, now: Duration, delivers: bool) -> Figures {
        let end = self.ended.unwrap_or(now);
        let gap =
            |side: &Side| if self.ended.is_some() { side.longest(end) } else { side.open(now) };
        let longest = |of: fn(&FaultRecord) -> Option<Duration>| {
            self.faults.iter().filter_map(of).max().unwrap_or_default()
        };
        Figures {
            offline: self.state.offline,
            under_replicated: self.state.under_replicated,
            fenced: self.state.fenced,
            unreachable: self.state.unreachable,
            ack_gap: gap(&self.acks),
            delivery_gap: if delivers { gap(&self.deliveries) } else { Duration::ZERO },
            errors: self.errors.values().map(|(count, ..)| count).sum(),
            faults: self.faults.len() as u64,
            failed_faults: self.faults.iter().filter(|fault| fault.error.is_some()).count() as u64,
            new_leader: longest(|fault| fault.new_leader_after),
            whole: longest(|fault| fault.whole_after),
            verdict: self.verdict(self.ended.is_some(), delivers),
        }
    }

    fn verdict(&self, read_back: bool, delivers: bool) -> Verdict {
        let ledgers = self.ledgers.values();
        ledgers.fold(Verdict::default(), |sum, one| sum.plus(one.verdict(read_back, delivers)))
    }

    /// Of a run that began at this time, in milliseconds since 1970. `read_back`: all that the partitions hold was told.
    pub fn report(&self, now: Duration, began_ms: u64, read_back: bool, delivers: bool) -> Report {
        let end = self.ended.unwrap_or(now);
        let mut faults = self.faults.clone();
        let recent = faults.len().saturating_sub(RECENT_FAULTS);
        for (is_ack, side) in [(true, &self.acks), (false, &self.deliveries)] {
            for (place, lane) in side.used() {
                let open = lane.open(end);
                faults[recent..].iter_mut().for_each(|fault| fault.gap(is_ack, place, open));
            }
        }
        let error = |(&(who, ref kind), &(count, first, last)): (&(&'static str, String), &_)| {
            ErrorTally { who, kind: kind.clone(), count, first, last }
        };
        Report {
            began_ms,
            length: end,
            acknowledgements: self.acks.report(end),
            deliveries: delivers.then(|| self.deliveries.report(end)),
            errors: self.errors.iter().map(error).collect(),
            records: self.sends.then(|| self.verdict(read_back, delivers)),
            read_back,
            faults: faults.iter().map(|fault| FaultReport::new(fault, delivers)).collect(),
            moments: self.moments.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{PartitionState, Role};

    const LEADER: &str = "node/1/shard/0/partition/orders/0";

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn place(partition: u32) -> Place {
        Place::new("orders", partition)
    }

    /// Two partitions, led by these nodes in this epoch.
    fn led(leaders: [i32; 2], epoch: u32, in_sync: u32) -> ClusterState {
        let state = |leader| PartitionState { leader: Some(leader), epoch, replicas: 3, in_sync };
        let partitions = (0..).zip(leaders).map(|(n, leader)| (place(n), state(leader)));
        let under_replicated = if in_sync < 3 { 2 } else { 0 };
        ClusterState {
            controller: Some(2),
            under_replicated,
            partitions: partitions.collect(),
            ..ClusterState::default()
        }
    }

    struct Run(Felt);

    impl Run {
        fn new() -> Run {
            let mut run = Run(Felt::new(&[place(0), place(1)], true));
            run.seen(0, led([1, 2], 1, 3));
            run.0.note(ms(0), Event::Begun);
            run
        }

        fn acked(&mut self, at: u64, partition: u32) -> u64 {
            let place = place(partition);
            let sequence = self.0.sending(&place);
            let answered = Event::Answered {
                place: place.clone(),
                sequence,
                outcome: Outcome::Acknowledged,
                error: None,
            };
            self.0.note(ms(at), answered);
            self.0.note(ms(at + 1), Event::Delivered { place, sequence: Some(sequence) });
            sequence
        }

        fn seen(&mut self, at: u64, state: ClusterState) {
            self.0.note(ms(at), Event::Seen { asked_at: ms(at), state });
        }

        fn fault(&mut self, from: u64, to: u64, whom: &str) {
            let (kind, whom) = ("pause".to_owned(), whom.to_owned());
            self.0.note(ms(from), Event::FaultBegan { number: from, kind, whom });
            self.0.note(ms(to), Event::FaultEnded { number: from, error: None });
        }
    }

    /// What was reported as a recovery of 1.6 ms.
    #[test]
    fn a_leader_paused_for_4_s_is_reported_as_the_4_s_that_its_publisher_waited() {
        let mut run = Run::new();
        for n in 0..100 {
            run.acked(10 * n, 0);
        }
        run.fault(1_000, 5_000, LEADER);
        // Partition 1 goes on all the time.
        for n in 0..500 {
            run.acked(1_000 + 10 * n, 1);
        }
        run.acked(4_988, 0);
        run.seen(5_002, led([1, 2], 1, 3));
        for n in 500..550 {
            run.acked(10 * n, 0);
            run.acked(10 * n, 1);
        }
        run.0.note(ms(5_500), Event::Ended);
        let report = run.0.report(ms(9_000), 0, true, true);
        let longest = report.acknowledgements.longest.unwrap();
        assert_eq!((longest.place, longest.gap.length()), (Some(place(0)), ms(3_998)));
        assert!(report.acknowledgements.silence.gap.length() <= ms(10), "others were served");
        let fault = &report.faults[0];
        assert_eq!(fault.role, Role::Leader);
        assert_eq!(fault.ack_gap.as_ref().unwrap().gap.length(), ms(3_998));
        assert_eq!(fault.delivery_gap.as_ref().unwrap().gap.length(), ms(3_998));
        assert_eq!((fault.new_leader_after, fault.whole_after), (None, Some(ms(4_002))));
        assert_eq!(run.0.figures(ms(9_000), true).ack_gap, ms(3_998));
    }

    #[test]
    fn of_a_node_that_goes_the_time_to_new_leaders_and_until_whole_is_told() {
        let mut run = Run::new();
        run.acked(10, 0);
        run.acked(10, 1);
        run.fault(100, 3_000, "node/1");
        run.seen(150, led([1, 2], 1, 3));
        let mut nobody = led([1, 2], 1, 2);
        nobody.partitions.entry(place(0)).and_modify(|one| one.leader = None);
        run.seen(1_000, nobody);
        run.seen(2_100, led([3, 2], 2, 2));
        run.acked(2_150, 0);
        run.seen(3_500, led([3, 2], 2, 3));
        let report = run.0.report(ms(4_000), 1_000_000, false, true);
        let fault = &report.faults[0];
        assert_eq!(fault.role, Role::Node { controller: false, coordinator: false, leads: 1 });
        assert_eq!(fault.new_leader_after, Some(ms(2_000)));
        assert_eq!(fault.whole_after, Some(ms(3_400)));
        // The one that is open counts: nothing came for partition 1 since.
        let gap = fault.ack_gap.as_ref().unwrap();
        assert_eq!((gap.place.clone(), gap.gap.length()), (Some(place(1)), ms(3_990)));
        let moments: Vec<&str> = report.moments.iter().map(|one| one.what.as_str()).collect();
        assert!(moments.contains(&"nobody leads orders:0"), "{moments:?}");
        assert!(moments.contains(&"node 3 leads orders:0 in epoch 2"), "{moments:?}");
        let view = report.view();
        assert_eq!(view["faults"][0]["atTimestampMs"], 1_000_100);
        assert_eq!(view["faults"][0]["wholeMs"], 3_400.0);
    }

    #[test]
    fn a_gap_before_or_after_a_fault_is_not_its_own() {
        let mut run = Run::new();
        run.acked(10, 0);
        run.acked(2_000, 0);
        run.acked(2_990, 0);
        run.acked(2_995, 1);
        run.fault(3_000, 3_000, LEADER);
        run.acked(3_015, 1);
        run.acked(3_020, 0);
        run.seen(3_050, led([1, 2], 1, 3));
        run.acked(3_052, 1);
        run.acked(3_060, 0);
        run.acked(9_000, 0);
        let report = run.0.report(ms(9_000), 0, true, true);
        assert_eq!(report.faults[0].ack_gap.as_ref().unwrap().gap.length(), ms(40));
        assert_eq!(report.acknowledgements.longest.unwrap().gap.length(), ms(5_948));
    }

    #[test]
    fn errors_are_told_by_kind_and_end_no_gap() {
        let mut run = Run::new();
        run.acked(10, 0);
        let sequence = run.0.sending(&place(0));
        let error = Some("REQUEST_TIMED_OUT".to_owned());
        let outcome = Outcome::Unknown;
        run.0.note(ms(500), Event::Answered { place: place(0), sequence, outcome, error });
        run.0.note(ms(600), Event::MemberFailed { error: "NOT_COORDINATOR".to_owned() });
        run.0.note(ms(700), Event::MemberFailed { error: "NOT_COORDINATOR".to_owned() });
        let found = run.acked(800, 0);
        for sequence in [0, found] {
            run.0.note(ms(900), Event::Found { place: place(0), sequence });
        }
        let report = run.0.report(ms(900), 0, true, true);
        let errors: Vec<_> = report.errors.iter().map(|one| (one.who, one.count)).collect();
        assert_eq!(errors, [("consumer", 2), ("producer", 1)]);
        assert_eq!(run.0.figures(ms(900), true).errors, 3);
        assert!(report.nothing_lost().is_ok());
        assert_eq!(report.records.unwrap().unknown, 1);
        let lane = &report.acknowledgements.partitions[0];
        assert_eq!(lane.gap.length(), ms(790));
    }
}

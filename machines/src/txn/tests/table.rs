//! X3, cell by cell: as it is written, and as the machine goes by it.

use super::*;
use crate::txn::state::{follows, path};

const EVENTS: [Event; 7] = [
    Event::Init,
    Event::Add,
    Event::End(Outcome::Commit),
    Event::End(Outcome::Abort),
    Event::Fence,
    Event::MarkersWritten,
    Event::Expire,
];

/// By state: where each event leads, `-` for nowhere, and before `>` through what.
#[rustfmt::skip]
const CELLS: [(Option<State>, [&str; 7]); 9] = [
    // init, add, commit, abort, fence, markers written, expire
    (None, ["Empty", "-", "-", "-", "-", "-", "-"]),
    (Some(State::Empty), ["Empty", "Ongoing", "-", "-", "-", "-", "Dead"]),
    (
        Some(State::Ongoing),
        ["-", "Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence>PrepareAbort", "-", "-"],
    ),
    (Some(State::PrepareCommit), ["-", "-", "-", "-", "-", "CompleteCommit", "-"]),
    (Some(State::PrepareAbort), ["-", "-", "-", "-", "-", "CompleteAbort", "-"]),
    (Some(State::CompleteCommit), ["Empty", "Ongoing", "-", "-", "-", "-", "Dead"]),
    (Some(State::CompleteAbort), ["Empty", "Ongoing", "-", "-", "-", "-", "Dead"]),
    (Some(State::Dead), ["-", "-", "-", "-", "-", "-", "-"]),
    (Some(State::PrepareEpochFence), ["-", "-", "-", "-", "-", "-", "-"]),
];

#[test]
fn each_event_leads_where_the_table_says() {
    for (from, cells) in CELLS {
        for (event, expected) in EVENTS.into_iter().zip(cells) {
            let through = path(from, event)
                .map(|path| path.iter().map(State::to_string).collect::<Vec<_>>().join(">"));
            let expected = Some(expected.to_owned()).filter(|cell| cell != "-");
            assert_eq!(through, expected, "{from:?}, {event:?}");
        }
    }
}

#[test]
fn states_have_kafkas_numbers() {
    let states = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
        State::PrepareEpochFence,
    ];
    for (id, state) in (0..).zip(states) {
        assert_eq!(state.id(), id);
        let is_written = !matches!(state, State::Dead | State::PrepareEpochFence);
        assert_eq!(State::from_id(id), is_written.then_some(state));
    }
}

#[test]
fn one_record_follows_another_only_by_an_event() {
    for (from, cells) in CELLS {
        for (to, _) in CELLS {
            let Some(to) = to else { continue };
            let leads = |cell: &&str| cell.split('>').next_back() == Some(&to.to_string());
            assert_eq!(follows(from, to), cells.iter().any(leads), "{from:?}, {to}");
        }
    }
}

/// A coordinator whose id `x` is in that state.
fn in_state(version: ClientVersion, state: Option<State>) -> Coordinator {
    let Some(state) = state else { return Coordinator::new(version) };
    let is_open = state == State::Ongoing || state.prepared().is_some();
    let now = Time(1_000_000);
    let empty = Transaction::empty(now, producer(100, 5), None, (60_000, version));
    let transaction = Transaction {
        state,
        started: is_open.then_some(now),
        partitions: is_open.then(|| partition("t", 1, 0)).into_iter().collect(),
        ..empty
    };
    Coordinator::at(version, &transaction)
}

/// Has the event happen, as far as anybody can.
fn happen(coordinator: &mut Coordinator, event: Event) {
    let held = producer(100, 5);
    // Whether it happens is what is tested.
    match event {
        Event::Init | Event::Fence => drop(coordinator.init(None)),
        Event::Add => drop(coordinator.add(held, "t", 1)),
        Event::End(outcome) => drop(coordinator.end(held, outcome)),
        Event::MarkersWritten => {
            let markers = coordinator.pass(0);
            coordinator.write(&markers);
        }
        Event::Expire => drop(coordinator.pass(8 * 86_400_000)),
    }
}

/// An instance that comes while a transaction is open is the event that fences; one that is open for days has lasted
/// too long.
#[test]
fn the_machine_goes_by_the_table() {
    for version in [ClientVersion::First, ClientVersion::Second] {
        for (from, cells) in CELLS {
            if matches!(from, Some(State::Dead | State::PrepareEpochFence)) {
                continue;
            }
            for (event, expected) in EVENTS.into_iter().zip(cells) {
                let fences = from == Some(State::Ongoing)
                    && matches!(event, Event::Init | Event::Fence | Event::Expire);
                let initialises = event == Event::Fence && from != Some(State::Ongoing);
                if initialises {
                    continue;
                }
                let mut coordinator = in_state(version, from);
                happen(&mut coordinator, event);
                let expected = match expected {
                    _ if fences => Some(State::PrepareAbort),
                    "-" => from,
                    "Dead" => None,
                    cell => CELLS
                        .iter()
                        .map(|(state, _)| *state)
                        .find(|state| state.is_some_and(|state| state.to_string() == cell))
                        .unwrap(),
                };
                assert_eq!(coordinator.state(), expected, "{version:?}, {from:?}, {event:?}");
            }
        }
    }
}

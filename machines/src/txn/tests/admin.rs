//! X21.

use super::*;

fn listed(coordinator: &Coordinator) -> Vec<(String, u64, State)> {
    let one = |it: Listing| (it.transactional_id.to_string(), it.producer.id.0, it.state);
    coordinator.txns.list().into_iter().map(one).collect()
}

#[test]
fn transactions_are_listed_and_described() {
    let mut coordinator = Coordinator::second();
    assert_eq!(coordinator.txns.list(), []);
    let unknown = coordinator.txns.describe("x").unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::TransactionalIdNotFound);
    let held = coordinator.init(None).unwrap();
    let other = InitRequest { transactional_id: "a", ..coordinator.request(None) };
    let now = coordinator.now;
    coordinator.init_as(other, now).unwrap();
    coordinator.add(held, "t", 2).unwrap();
    assert_eq!(
        listed(&coordinator),
        [("a".to_owned(), 2, State::Empty), ("x".to_owned(), 1, State::Ongoing)]
    );
    assert_eq!(
        coordinator.txns.describe("x"),
        Ok(Description {
            producer: held,
            state: State::Ongoing,
            timeout_ms: 60_000,
            started: Some(now),
            partitions: vec![partition("t", 1, 2)],
        })
    );
}

#[test]
fn an_operator_aborts_what_is_open_and_fences_its_producer() {
    let mut coordinator = Coordinator::second();
    let abort = |coordinator: &mut Coordinator| {
        let decision = coordinator.txns.abort(coordinator.now, "x");
        decision.map(|decision| coordinator.run(decision).1).map_err(|error| error.code())
    };
    assert_eq!(abort(&mut coordinator), Err(ErrorCode::TransactionalIdNotFound));
    let held = coordinator.init(None).unwrap();
    assert_eq!(abort(&mut coordinator), Err(ErrorCode::InvalidTransactionState));
    coordinator.add(held, "t", 0).unwrap();
    let markers = abort(&mut coordinator).unwrap();
    assert_eq!(told(&markers), [(Outcome::Abort, 1, names(&["t0"]))]);
    assert_eq!(abort(&mut coordinator), Ok(vec![]), "it is being aborted");
    coordinator.write(&markers);
    assert_eq!(abort(&mut coordinator), Err(ErrorCode::InvalidTransactionState));
    assert_eq!(coordinator.end(held, Outcome::Commit), Err(ErrorCode::ProducerFenced));

    let next = coordinator.init(None).unwrap();
    coordinator.add(next, "t", 0).unwrap();
    coordinator.end(next, Outcome::Commit).unwrap();
    assert_eq!(abort(&mut coordinator), Err(ErrorCode::InvalidTransactionState), "X6");
}

#[test]
fn what_a_partition_holds_open_and_nobody_knows_hangs() {
    let mut coordinator = Coordinator::second();
    let held = coordinator.init(None).unwrap();
    coordinator.add(held, "t", 0).unwrap();
    let at =
        |producer, number| OpenAtPartition { producer, partition: partition("t", 1, number).key() };
    let open = [at(held, 0), at(held, 1), at(producer(9, 0), 0), at(producer(1, 7), 0)];
    assert_eq!(coordinator.txns.find_hanging(&open), open[1..]);
    let described = coordinator.txns.describe("x").unwrap();
    assert_eq!(open.map(|it| described.answers_for(&it)), [true, false, false, false]);
    assert_eq!(coordinator.txns.counts(), Counts { ids: 1, open: 1, markers: 0 });
    coordinator.end(held, Outcome::Commit).unwrap();
    assert_eq!(coordinator.txns.find_hanging(&[at(held, 0)]), [], "it is being completed");
    assert_eq!(coordinator.txns.counts(), Counts { ids: 1, open: 0, markers: 1 });
    let markers = coordinator.pass(1_000);
    coordinator.write(&markers);
    assert_eq!(coordinator.txns.find_hanging(&[at(held, 0)]), [at(held, 0)]);
}

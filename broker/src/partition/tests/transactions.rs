//! Transactions at a partition's actor: what waits for the coordinator, what readers are given, how they end.

use super::*;
use std::sync::Mutex;
use troupe_machines::txn::{ClientVersion, Producer};
use troupe_proto::batch::Marker;

type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Keeps what it is asked, until a test answers.
#[derive(Default)]
struct Gate {
    asked: Mutex<Vec<(Arc<str>, Producer, Reply)>>,
}

impl TransactionGate for Gate {
    fn add_partition(
        &self,
        transactional_id: Arc<str>,
        producer: Producer,
        _: (Arc<str>, PartitionKey),
        reply: Reply,
    ) {
        self.asked.lock().unwrap().push((transactional_id, producer, reply));
    }
}

impl Gate {
    fn take(&self) -> (Producer, Reply) {
        let mut asked = self.asked.lock().unwrap();
        assert_eq!(asked.len(), 1, "one question is under way");
        let (id, producer, reply) = asked.remove(0);
        assert_eq!(&*id, "tx");
        (producer, reply)
    }

    fn answer(&self, answer: Result<(), Error>) {
        self.take().1(answer);
    }
}

const VERSION: ClientVersion = ClientVersion::Second;

fn stamp(id: u64, epoch: u32, sequence: u32) -> ProducerStamp {
    let (id, epoch, base_sequence) = (ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    ProducerStamp { id, epoch, base_sequence }
}

/// One record, as part of a transaction.
async fn send(
    handle: &PartitionHandle,
    producer: ProducerStamp,
    timeout_ms: u32,
) -> oneshot::Receiver<Result<Appended, Error>> {
    let mut request = request(Some(producer), Compression::None, &[(0, b"value")]);
    request.batch.attributes = request.batch.attributes.with_transactional(true);
    request.transactional_id = Some("tx".into());
    request.timeout_ms = timeout_ms;
    let (responder, answer) = Responder::channel();
    handle.append(request, responder).await;
    // The actor has seen it.
    handle.describe().await.unwrap();
    answer
}

async fn end(handle: &PartitionHandle, id: u64, epoch: u32, committed: bool) -> Result<(), Error> {
    handle.write_marker(marker(id, epoch, committed)).await
}

fn marker(id: u64, epoch: u32, committed: bool) -> MarkerRequest {
    MarkerRequest {
        producer: Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) },
        marker: Marker { committed, coordinator_epoch: LeaderEpoch(3) },
        client_version: VERSION,
        timeout_ms: 30_000,
        until: None,
    }
}

fn with_gate() -> (Shard, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let (shard, _) = Shard::with_gate(1, Arc::new(Unreachable), gate.clone());
    (shard, gate)
}

async fn offset(answer: oneshot::Receiver<Result<Appended, Error>>) -> u64 {
    answer.await.unwrap().unwrap().base_offset.unwrap().0
}

async fn refusal(answer: oneshot::Receiver<Result<Appended, Error>>) -> ErrorCode {
    answer.await.unwrap().unwrap_err().code
}

async fn read(handle: &PartitionHandle, from: u64, isolation: Isolation) -> ReadAnswer {
    let (from, max_bytes) = (Offset(from), 1 << 20);
    handle.read(ReadFrom { from, max_bytes, isolation, ..ReadFrom::default() }).await.unwrap()
}

#[test]
fn a_transaction_opens_with_the_coordinators_word_and_its_batches_stay_in_order() {
    System::new().block_on(async {
        let (shard, gate) = with_gate();
        let handle = shard.open("opening");
        let first = send(&handle, stamp(7, 0, 0), 30_000).await;
        let second = send(&handle, stamp(7, 0, 1), 30_000).await;
        append(&handle, b"of another").await.unwrap();
        let (producer, reply) = gate.take();
        assert_eq!(producer, Producer { id: ProducerId(7), epoch: ProducerEpoch(0) });
        reply(Ok(()));
        assert_eq!((offset(first).await, offset(second).await), (1, 2));
        assert_eq!(offset(send(&handle, stamp(7, 0, 2), 30_000).await).await, 3);
        assert!(gate.asked.lock().unwrap().is_empty(), "it is open");
    });
}

#[test]
fn a_refusal_is_for_all_that_wait_and_the_next_is_asked_for_again() {
    System::new().block_on(async {
        let (shard, gate) = with_gate();
        let handle = shard.open("refused");
        let first = send(&handle, stamp(7, 0, 0), 30_000).await;
        let second = send(&handle, stamp(7, 0, 1), 30_000).await;
        gate.answer(Err(Error::new(ErrorCode::ProducerFenced, "it is fenced")));
        assert_eq!(refusal(first).await, ErrorCode::ProducerFenced);
        assert_eq!(refusal(second).await, ErrorCode::ProducerFenced);
        let forgotten = send(&handle, stamp(7, 0, 0), 30_000).await;
        drop(gate.take());
        let error = forgotten.await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::CoordinatorNotAvailable);
        assert!(error.surely_not_done());
        let late = send(&handle, stamp(7, 0, 0), 20).await;
        assert_eq!(refusal(late).await, ErrorCode::CoordinatorNotAvailable);
        let (_, too_late) = gate.take();
        let again = send(&handle, stamp(7, 0, 0), 30_000).await;
        too_late(Ok(()));
        handle.describe().await.unwrap();
        assert_eq!(handle.describe().await.unwrap().log_end, Offset(0), "it was given up");
        gate.answer(Ok(()));
        assert_eq!(offset(again).await, 0);
    });
}

#[test]
fn a_batch_that_was_verified_before_a_marker_is_not_part_of_what_comes_after() {
    System::new().block_on(async {
        let (shard, gate) = with_gate();
        let handle = shard.open("late");
        let late = send(&handle, stamp(7, 0, 0), 30_000).await;
        let first = ClientVersion::First;
        let request = MarkerRequest { client_version: first, ..marker(7, 0, false) };
        handle.write_marker(request).await.unwrap();
        gate.answer(Ok(()));
        assert_eq!(refusal(late).await, ErrorCode::TransactionAbortable);
        assert_eq!(handle.describe().await.unwrap().log_end, Offset(1), "the marker alone");
    });
}

#[test]
fn readers_of_committed_records_wait_for_the_end_and_hear_what_was_aborted() {
    System::new().block_on(async {
        let (shard, gate) = with_gate();
        let handle = shard.open("isolation");
        append(&handle, b"before").await.unwrap();
        let first = send(&handle, stamp(7, 0, 0), 30_000).await;
        gate.answer(Ok(()));
        first.await.unwrap().unwrap();
        let other = send(&handle, stamp(8, 0, 0), 30_000).await;
        gate.answer(Ok(()));
        other.await.unwrap().unwrap();
        append(&handle, b"after").await.unwrap();

        let all = read(&handle, 0, Isolation::Uncommitted).await;
        assert_eq!(
            (all.next, all.high_watermark, all.last_stable),
            (Offset(4), Offset(4), Offset(1))
        );
        assert!(all.aborted.is_empty());
        let stable = read(&handle, 0, Isolation::Committed).await;
        assert_eq!((stable.next, stable.is_at_end(Isolation::Committed)), (Offset(1), true));
        for from in 1..=4 {
            let nothing = read(&handle, from, Isolation::Committed).await;
            assert_eq!((nothing.bytes.len(), nothing.next), (0, Offset(from)));
        }
        let latest = async |isolation| {
            let at = OffsetQuery::Latest;
            find_here(&Unpacker::new(1 << 20), &handle, at, isolation, None).await.unwrap().offset
        };
        assert_eq!(latest(Isolation::Committed).await, Some(Offset(1)));
        assert_eq!(latest(Isolation::Uncommitted).await, Some(Offset(4)));

        let readable = handle.readable(Offset(1), &Reader::OfLeader, Isolation::Committed);
        let mut readable = Box::pin(readable);
        assert!(futures::poll!(&mut readable).is_pending());
        end(&handle, 7, 1, false).await.unwrap();
        readable.await;
        let stable = read(&handle, 1, Isolation::Committed).await;
        assert_eq!((stable.next, stable.last_stable), (Offset(2), Offset(2)));
        let aborted = AbortedTransaction {
            producer_id: ProducerId(7),
            first_offset: Offset(1),
            last_offset: Offset(4),
        };
        assert_eq!(stable.aborted, [aborted]);
        end(&handle, 8, 1, true).await.unwrap();
        let stable = read(&handle, 2, Isolation::Committed).await;
        assert_eq!((stable.next, stable.aborted), (Offset(6), vec![aborted]));
        assert!(read(&handle, 5, Isolation::Committed).await.aborted.is_empty(), "it is over");
    });
}

#[test]
fn open_transactions_are_known_to_the_next_actor_and_told_to_operators() {
    System::new().block_on(async {
        let (shard, gate) = with_gate();
        let handle = shard.open("restarted");
        let first = send(&handle, stamp(7, 2, 0), 30_000).await;
        gate.answer(Ok(()));
        first.await.unwrap().unwrap();
        handle.kill(Die::Stop, Duration::from_secs(10)).await.unwrap();
        assert_eq!(read(&handle, 0, Isolation::Committed).await.last_stable, Offset(0));
        let known = handle.describe_producers().await.unwrap();
        let [known] = known[..] else { panic!("{known:?}") };
        assert_eq!((known.id, known.epoch), (ProducerId(7), ProducerEpoch(2)));
        assert_eq!(known.transaction_first_offset, Some(Offset(0)));
        assert_eq!((known.last_sequence, known.coordinator_epoch), (Some(Sequence(0)), None));
        let error = append_as(&handle, Some(stamp(7, 2, 1)), 0, b"of none").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidTransactionState);
        end(&handle, 7, 3, true).await.unwrap();
        end(&handle, 7, 3, true).await.unwrap();
        assert_eq!(handle.describe().await.unwrap().log_end, Offset(2), "written once");
        let known = handle.describe_producers().await.unwrap();
        assert_eq!(known[0].coordinator_epoch, Some(LeaderEpoch(3)));
        let old = Marker { committed: false, coordinator_epoch: LeaderEpoch(2) };
        let error = handle.write_marker(MarkerRequest { marker: old, ..marker(7, 4, false) }).await;
        assert_eq!(error.unwrap_err().code, ErrorCode::CoordinatorFenced);
    });
}

#[test]
fn what_waits_is_refused_when_the_replica_leads_no_more() {
    System::new().block_on(async {
        let (shard, gate) = with_gate();
        let handle = shard.open("replaced");
        let waits = send(&handle, stamp(7, 0, 0), 30_000).await;
        shard.follow(&handle, 1, &[1, 2]);
        assert_eq!(refusal(waits).await, ErrorCode::NotLeader);
        gate.answer(Ok(()));
        assert_eq!(handle.describe().await.unwrap().log_end, Offset(0));
    });
}

#[test]
fn a_node_without_coordinators_opens_no_transactions() {
    System::new().block_on(async {
        let shard = Shard::start(1);
        let handle = shard.open("without");
        let refused = send(&handle, stamp(7, 0, 0), 30_000).await;
        assert_eq!(refusal(refused).await, ErrorCode::CoordinatorNotAvailable);
    });
}

/// The commit's answer and the marker race, and the next transaction begins with the former.
#[test]
fn what_comes_before_the_marker_of_the_transaction_before_waits_for_it() {
    System::new().block_on(async {
        let (shard, gate) = with_gate();
        let handle = shard.open("early");
        let first = send(&handle, stamp(7, 0, 0), 30_000).await;
        gate.answer(Ok(()));
        assert_eq!(offset(first).await, 0);
        let next = send(&handle, stamp(7, 1, 0), 30_000).await;
        let behind = send(&handle, stamp(7, 1, 1), 30_000).await;
        assert!(gate.asked.lock().unwrap().is_empty());
        end(&handle, 7, 1, true).await.unwrap();
        gate.answer(Ok(()));
        assert_eq!((offset(next).await, offset(behind).await), (2, 3));
        let given_up = send(&handle, stamp(7, 2, 0), 20).await;
        assert_eq!(refusal(given_up).await, ErrorCode::ConcurrentTransactions);
        end(&handle, 7, 2, true).await.unwrap();
        let again = send(&handle, stamp(7, 2, 0), 30_000).await;
        gate.answer(Ok(()));
        assert_eq!(offset(again).await, 5);
    });
}

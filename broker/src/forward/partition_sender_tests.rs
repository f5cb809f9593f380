use super::*;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use troupe_machines::cluster::ClusterImage;
use troupe_proto::batch::{Compression, RecordSetBuilder};
use troupe_proto::ids::{NodeId, Offset, PartitionId, PartitionKey, TopicId};
use troupe_proto::internal::v1 as records;
use troupe_proto::internal::v1::metadata_record::Record;

const EPOCH: LeaderEpoch = LeaderEpoch(4);
const LONG: Duration = Duration::from_secs(30);
/// More than any node lets in at once.
const EVERYTHING: usize = 1 << 30;

/// A caller and its way to a leader that takes connections and says nothing.
struct Fixture {
    leaders: Arc<Leaders>,
    target: Target,
    caller: Caller,
    _silent: TcpListener,
}

impl Fixture {
    async fn new() -> Self {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let topic_id = TopicId::random();
        let mut image = ClusterImage::default();
        let broker = records::BrokerRecord {
            node_id: 2,
            incarnation_id: vec![1; 16].into(),
            endpoint: silent.local_addr().unwrap().to_string(),
            ..Default::default()
        };
        let topic = records::TopicRecord { topic_id: topic_id.to_wire(), name: "t".to_owned() };
        let partition = records::PartitionRecord {
            topic_id: topic_id.to_wire(),
            replicas: vec![2],
            in_sync_replicas: vec![2],
            leader_id: Some(2),
            leader_epoch: EPOCH.0,
            partition_epoch: 1,
            ..Default::default()
        };
        let all = [Record::Broker(broker), Record::Topic(topic), Record::Partition(partition)];
        let all = all.map(|record| records::MetadataRecord { record: Some(record) });
        image.replay_all(&all).unwrap();
        let leaders = Leaders::of(NodeId(1), image);
        let key = PartitionKey { topic_id, partition: PartitionId(0) };
        let target = Target { topic: "t".into(), key };
        let caller = Caller::new(FlowId(1), CancellationToken::new());
        Self { leaders, target, caller, _silent: silent }
    }

    fn sender(&self) -> PartitionSender {
        let leaders = Arc::clone(&self.leaders);
        PartitionSender::new(leaders, self.target.clone(), Acks::All, self.caller.clone())
    }

    /// Nobody else is let in as long as this is held, and young.
    async fn overload(&self) -> Share {
        self.leaders.admission.admit(FlowId(2), EVERYTHING).await
    }
}

fn entry(deadline: Instant) -> (Entry, oneshot::Receiver<Result<Appended, Error>>) {
    let mut builder = RecordSetBuilder::new();
    builder.push(5, Some(b"k"), Some(b"v"), &[]);
    let batch = Batch::new(builder.finish(Compression::None, None).unwrap(), false);
    let (answer, answered) = oneshot::channel();
    let time = Allotted { deadline, answer_by: deadline };
    (Entry { batch, time, answer, budget: None }, answered)
}

fn started(sender: PartitionSender) -> JoinHandle<()> {
    tokio::spawn(sender.run())
}

fn appended() -> Appended {
    Appended {
        base_offset: Some(Offset(7)),
        log_append_time_ms: None,
        log_start: Offset(0),
        duplicate: false,
    }
}

#[tokio::test]
async fn a_batch_whose_turn_does_not_come_is_told_of_the_overload() {
    let fixture = Fixture::new().await;
    let _all = fixture.overload().await;
    let mut sender = fixture.sender();
    let (entry, answered) = entry(Instant::now() + Duration::from_millis(20));
    sender.push(entry);
    sender.run().await;
    let error = answered.await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::Throttled, "{error}");
    assert!(error.surely_not_done());
    let behind = fixture.caller.refusal().unwrap();
    assert_eq!(behind.code, ErrorCode::Throttled, "nor is what waits behind it repeated unseen");
}

/// The turn comes later, and then it is too late.
#[tokio::test]
async fn what_waits_for_its_turn_is_not_sent_once_something_beside_it_failed() {
    let fixture = Fixture::new().await;
    let all = fixture.overload().await;
    let mut sender = fixture.sender();
    let (entry, answered) = entry(Instant::now() + LONG);
    sender.push(entry);
    let running = started(sender);
    tokio::task::yield_now().await;
    fixture.caller.halt(&Error::new(ErrorCode::OutcomeUnknown, "why"));
    let error = answered.await.unwrap().unwrap_err();
    assert!(error.surely_not_done() && error.message.ends_with("why"), "{error}");
    running.await.unwrap();
    drop(all);
    assert_eq!(fixture.leaders.produce_streams.count(), 0, "nothing was sent");
}

#[tokio::test]
async fn an_answer_is_handed_on_while_the_next_batch_waits_for_its_turn() {
    let fixture = Fixture::new().await;
    let all = fixture.overload().await;
    let mut sender = fixture.sender();
    let (first, answered) = entry(Instant::now() + LONG);
    let (next, _waits) = entry(Instant::now() + LONG);
    let (leader, outcome) = oneshot::channel();
    sender.sent_to = fixture.target.led(&fixture.leaders.metadata.image.borrow());
    sender.accepted_epoch = Some(EPOCH);
    sender.sent.push_back(Sent { entry: first, outcome: Outcome::Awaited(outcome) });
    sender.push(next);
    let running = started(sender);
    tokio::task::yield_now().await;
    leader.send(Ok(appended())).unwrap();
    let answer = answered.await.unwrap().unwrap();
    assert_eq!(answer.base_offset, Some(Offset(7)));
    assert_eq!(fixture.leaders.produce_streams.count(), 0, "the next one still waits");
    running.abort();
    drop(all);
}

#[tokio::test]
async fn what_was_sent_is_not_appended_any_more_when_its_caller_has_gone() {
    let fixture = Fixture::new().await;
    let sender = fixture.sender();
    let chain = Arc::clone(&sender.chain);
    assert!(!chain.is_broken());
    drop(sender);
    assert!(chain.is_broken());
}

/// The leader holds up what is handed over; the caller is answered, and what did not leave never does.
#[tokio::test]
async fn a_leader_that_hangs_is_waited_for_no_longer_than_the_call_lasts() {
    let fixture = Fixture::new().await;
    let mut sender = fixture.sender();
    let chain = Arc::clone(&sender.chain);
    let (entry, answered) = entry(Instant::now() + Duration::from_millis(50));
    sender.push(entry);
    sender.run().await;
    let error = answered.await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::RequestTimedOut, "{error}");
    assert!(chain.is_broken());
}

//! What follows from being heard, and from silence, with the time in hand.

use super::*;
use troupe_machines::cluster::{Arrival, CreateTopic, RegisterBroker};

const TIMINGS: SessionTimings = SessionTimings {
    heartbeat: Duration::from_millis(300),
    timeout: Duration::from_millis(2000),
    reconnect_grace: Duration::from_millis(1000),
};
const SESSION: SessionId = SessionId(1);

/// An image, heartbeats, and a clock that goes when it is told to.
struct Play {
    image: ClusterImage,
    heartbeats: BrokerHeartbeats,
    now: Instant,
    missed: Duration,
}

impl Play {
    /// Brokers that are registered, and unfenced by somebody else.
    fn with(brokers: i32) -> Play {
        let mut image = ClusterImage::default();
        let bootstrap = image.initialize("cluster").unwrap();
        image.replay_all(&bootstrap.records).unwrap();
        let now = Instant::now();
        let mut play = Play {
            image,
            heartbeats: BrokerHeartbeats::new(now, TIMINGS, None),
            now,
            missed: Duration::ZERO,
        };
        for id in 0..brokers {
            play.register(id, 1);
            let unfenced = play.image.unfence_broker(NodeId(id), play.epoch(id)).unwrap();
            play.image.replay_all(&unfenced.records).unwrap();
        }
        play
    }

    fn register(&mut self, id: i32, incarnation: u8) {
        let request = RegisterBroker {
            node_id: NodeId(id),
            incarnation: [incarnation; 16],
            endpoint: format!("node{id}:9092"),
            ..RegisterBroker::default()
        };
        let registered = self.image.register_broker(&request, Arrival::default()).unwrap();
        self.image.replay_all(&registered.records).unwrap();
    }

    fn epoch(&self, id: i32) -> BrokerEpoch {
        self.image.broker(NodeId(id)).unwrap().epoch
    }

    fn knows(&self, id: i32) -> Heartbeat {
        let metadata_offset = MetadataOffset(self.epoch(id).0 + 1);
        Heartbeat { metadata_offset, ..Heartbeat::default() }
    }

    fn open(&mut self, id: i32, session: u64) {
        let (broker, heartbeat) = ((NodeId(id), self.epoch(id)), self.knows(id));
        self.heartbeats.open(self.now, broker, SessionId(session), heartbeat);
    }

    /// Time passes, and the machine runs as often as it should.
    fn pass(&mut self, milliseconds: u64) -> Vec<Step> {
        let mut steps = self.heartbeats.run(self.now, self.missed, &self.image);
        let until = self.now + Duration::from_millis(milliseconds);
        while self.now < until {
            self.now = until.min(self.now + RUN_INTERVAL);
            steps.extend(self.heartbeats.run(self.now, self.missed, &self.image));
        }
        steps
    }

    /// This process stands still.
    fn sleep(&mut self, milliseconds: u64) -> Vec<Step> {
        self.now += Duration::from_millis(milliseconds);
        self.heartbeats.run(self.now, self.missed, &self.image)
    }

    fn fence(&self, id: i32) -> Step {
        Step::Fence(NodeId(id), self.epoch(id))
    }

    fn done(&mut self, id: i32, done: Result<Option<MetadataOffset>, ()>) {
        self.heartbeats.settled(self.now, (NodeId(id), self.epoch(id)), done);
    }
}

/// K20: after the session timeout, not before; and once, as long as it is under way.
#[test]
fn silence_fences_and_a_heartbeat_puts_it_off() {
    let mut play = Play::with(1);
    play.open(0, 1);
    assert_eq!(play.pass(1950), []);
    play.heartbeats.heard(play.now, NodeId(0), SESSION, play.knows(0));
    assert_eq!(play.pass(1950), []);
    assert_eq!(play.pass(5000), [play.fence(0)]);
    play.done(0, Err(()));
    assert_eq!(play.pass(50), [], "it rests");
    assert_eq!(play.pass(100), [play.fence(0)], "and tries again");
}

/// The controller's own pause says nothing about the brokers, however long it was.
#[test]
fn nobody_is_fenced_for_a_pause_of_this_process() {
    let mut play = Play::with(2);
    play.open(0, 1);
    play.open(1, 2);
    assert_eq!(play.pass(1000), []);
    assert_eq!(play.sleep(60_000), []);
    play.heartbeats.heard(play.now, NodeId(0), SESSION, play.knows(0));
    assert_eq!(play.sleep(3_000), []);
    assert_eq!(play.pass(850), []);
    assert_eq!(play.pass(300), [play.fence(1)], "what it heard before the pause counts");
    assert_eq!(play.pass(1_000), [play.fence(0)]);
}

/// A machine that is busy stops us for a moment again and again: the same as one pause of that length.
#[test]
fn nobody_is_fenced_for_many_short_pauses_of_this_process() {
    let mut play = Play::with(1);
    play.open(0, 1);
    for _ in 0..100 {
        // Of each 150 ms it has run 50, and what was said meanwhile has not come through.
        assert_eq!(play.sleep(150), []);
        if play.heartbeats.brokers[&NodeId(0)].deadline <= play.now + Duration::from_millis(300) {
            play.heartbeats.heard(play.now, NodeId(0), SESSION, play.knows(0));
        }
    }
    let heard = play.now;
    play.heartbeats.heard(play.now, NodeId(0), SESSION, play.knows(0));
    let fenced = (0..1_000).find(|_| play.sleep(150) == [play.fence(0)]);
    let silence = play.now - heard;
    assert!(fenced.is_some() && silence >= Duration::from_millis(3 * 1_900), "{silence:?}");
}

/// Heartbeats come in on another thread than the one that looks at deadlines.
#[test]
fn nobody_is_fenced_while_the_thread_that_hears_them_does_not_run() {
    let mut play = Play::with(1);
    play.open(0, 1);
    assert_eq!(play.pass(1_000), []);
    for _ in 0..100 {
        play.missed += RUN_INTERVAL;
        assert_eq!(play.pass(50), []);
    }
    assert_eq!(play.pass(1_100), [play.fence(0)], "once it runs, silence is silence");
}

/// What was heard after a pause, but before the machine knew of it, is not put off twice.
#[test]
fn no_deadline_is_later_than_a_session_timeout_from_now() {
    let mut play = Play::with(1);
    play.open(0, 1);
    play.now += Duration::from_secs(60);
    play.heartbeats.heard(play.now, NodeId(0), SESSION, play.knows(0));
    assert_eq!(play.sleep(0), []);
    assert_eq!(play.pass(1950), []);
    assert_eq!(play.pass(50), [play.fence(0)]);
}

/// K20: probed at once, and fenced after the grace unless another session begins.
#[test]
fn a_broken_stream_has_a_shorter_time() {
    let mut play = Play::with(1);
    play.open(0, 1);
    assert_eq!(play.pass(300), []);
    play.heartbeats.broke(play.now, NodeId(0), SESSION);
    let probe = Step::Probe(NodeId(0), Some(SESSION), "node0:9092".into());
    assert_eq!(play.pass(950), [probe]);
    play.open(0, 2);
    assert_eq!(play.pass(1950), []);
    play.heartbeats.broke(play.now, NodeId(0), SESSION);
    assert_eq!(play.pass(0), [], "that was the one before");
    play.heartbeats.broke(play.now, NodeId(0), SessionId(2));
    assert_eq!(play.pass(50).len(), 2, "probed, and its time was up anyway");
}

#[test]
fn a_refused_probe_fences_unless_somebody_has_connected_meanwhile() {
    let mut play = Play::with(1);
    play.open(0, 1);
    play.pass(0);
    play.heartbeats.broke(play.now, NodeId(0), SESSION);
    play.pass(0);
    play.open(0, 2);
    play.heartbeats.refused(play.now, NodeId(0), Some(SESSION));
    assert_eq!(play.pass(1000), []);
    play.heartbeats.broke(play.now, NodeId(0), SessionId(2));
    play.pass(0);
    play.heartbeats.refused(play.now, NodeId(0), Some(SessionId(2)));
    assert_eq!(play.heartbeats.run_one(play.now, &play.image, NodeId(0)), Some(play.fence(0)));
}

/// A process that is dying may still listen when it is first probed.
#[test]
fn a_broker_that_is_not_heard_is_probed_until_its_time_is_up() {
    let mut play = Play::with(1);
    play.open(0, 1);
    play.pass(0);
    play.heartbeats.broke(play.now, NodeId(0), SESSION);
    let probe = || Step::Probe(NodeId(0), Some(SESSION), "node0:9092".into());
    assert_eq!(play.pass(0), [probe()]);
    play.heartbeats.not_refused(play.now, NodeId(0), Some(SESSION));
    assert_eq!(play.pass(100), [probe()]);
    play.heartbeats.not_refused(play.now, NodeId(0), Some(SESSION));
    play.open(0, 2);
    assert_eq!(play.pass(900), []);
}

/// A new controller has heard nobody: all have their time, and those that do not connect are probed once.
#[test]
fn a_take_over_gives_everybody_a_session_timeout() {
    let mut play = Play::with(2);
    play.open(1, 1);
    assert_eq!(play.pass(150), []);
    let probe = Step::Probe(NodeId(0), None, "node0:9092".into());
    assert_eq!(play.pass(1800), [probe]);
    play.heartbeats.heard(play.now, NodeId(1), SESSION, play.knows(1));
    assert_eq!(play.pass(50), [play.fence(0)]);
    let mut play = Play::with(1);
    play.pass(200);
    play.heartbeats.refused(play.now, NodeId(0), None);
    assert_eq!(play.pass(0), [play.fence(0)], "its process is gone");
}

/// That this controller is active now may be because it is gone.
#[test]
fn who_led_before_a_take_over_is_probed_at_once() {
    let mut play = Play::with(2);
    play.heartbeats = BrokerHeartbeats::new(play.now, TIMINGS, Some(NodeId(1)));
    let probe = |id: i32| Step::Probe(NodeId(id), None, format!("node{id}:9092"));
    assert_eq!(play.pass(0), [probe(1)]);
    assert_eq!(play.pass(200), [probe(0)]);
}

/// K13.
/// It was let in by a controller of an earlier version, which dropped that.
#[test]
fn what_a_brokers_logs_can_take_and_its_listeners_tell_is_noted_when_it_is_heard() {
    let mut play = Play::with(3);
    play.open(0, 1);
    let listeners = BTreeMap::from([("OUTSIDE".to_owned(), "a.example.org:9094".to_owned())]);
    let says = Heartbeat { log_version: 1, listeners: listeners.clone(), ..play.knows(0) };
    play.heartbeats.heard(play.now, NodeId(0), SessionId(1), says.clone());
    let (node_id, epoch) = (NodeId(0), play.epoch(0));
    assert_eq!(play.pass(0), [Step::NoteVersions(node_id, epoch, says)]);
    assert_eq!(play.pass(0), [], "it is under way");
    let noted = play.image.note_versions(node_id, epoch, 1, 0, &listeners).unwrap();
    play.image.replay_all(&noted.records).unwrap();
    play.heartbeats.settled(play.now, (node_id, epoch), Ok(None));
    assert_eq!(play.pass(0), []);
    assert_eq!((play.epoch(0), play.image.behind_log_version(1).count()), (epoch, 2));
}

#[test]
fn only_who_is_heard_and_knows_of_its_registration_is_unfenced() {
    let mut play = Play::with(0);
    play.register(0, 1);
    assert_eq!(play.pass(5000), [], "not heard");
    let broker = (NodeId(0), play.epoch(0));
    let early = Heartbeat { metadata_offset: MetadataOffset(broker.1.0), ..Heartbeat::default() };
    play.heartbeats.open(play.now, broker, SESSION, early);
    assert_eq!(play.pass(300), [], "it does not know yet");
    let leaving = Heartbeat { wants_shutdown: true, ..play.knows(0) };
    play.heartbeats.heard(play.now, NodeId(0), SESSION, leaving);
    assert_eq!(play.pass(0), [Step::BeginShutdown(NodeId(0), broker.1)]);
    play.done(0, Err(()));
    play.heartbeats.heard(play.now, NodeId(0), SESSION, play.knows(0));
    assert_eq!(play.pass(300), [Step::Unfence(NodeId(0), broker.1)]);
    play.done(0, Err(()));
    play.heartbeats.broke(play.now, NodeId(0), SESSION);
    assert_eq!(play.pass(300), [], "heard no more");
}

/// K12, K21: the new epoch has nothing of the old one.
#[test]
fn a_broker_that_registers_anew_begins_anew() {
    let mut play = Play::with(1);
    play.open(0, 1);
    assert!(play.heartbeats.is_alive(play.now, NodeId(0)));
    assert!(play.heartbeats.standing(&play.image, NodeId(0), SESSION).is_some());
    play.register(0, 2);
    assert_eq!(play.heartbeats.standing(&play.image, NodeId(0), SESSION), None);
    assert_eq!(play.pass(0), []);
    assert!(!play.heartbeats.is_alive(play.now, NodeId(0)));
    play.open(0, 2);
    assert_eq!(play.pass(0), [Step::Unfence(NodeId(0), play.epoch(0))]);
}

/// K17: not before it leads nothing and everybody who is active knows; who is not, need not.
#[test]
fn a_broker_may_stop_when_everybody_knows() {
    let mut play = Play::with(3);
    let assignments = vec![vec![NodeId(0), NodeId(1)]];
    let request = CreateTopic { name: "orders".into(), assignments, ..CreateTopic::default() };
    let id = troupe_proto::ids::TopicId::from_wire(&[1; 16]).unwrap();
    let created = play.image.create_topic(&Default::default(), &request, id, 0).unwrap();
    play.image.replay_all(&created.records).unwrap();
    (0..3).for_each(|node| play.open(node, node as u64 + 1));
    let leaving = Heartbeat { wants_shutdown: true, ..play.knows(0) };
    play.heartbeats.heard(play.now, NodeId(0), SESSION, leaving);
    assert_eq!(play.pass(0), [Step::BeginShutdown(NodeId(0), play.epoch(0))]);
    let begun = play.image.begin_shutdown(NodeId(0), play.epoch(0)).unwrap();
    play.image.replay_all(&begun.records).unwrap();
    play.done(0, Ok(Some(begun.answer)));
    let may_stop =
        |play: &Play| play.heartbeats.standing(&play.image, NodeId(0), SESSION).unwrap().may_stop;
    assert!(!may_stop(&play));
    let knows = Heartbeat { metadata_offset: begun.answer, ..Heartbeat::default() };
    play.heartbeats.heard(play.now, NodeId(1), SessionId(2), knows);
    assert!(!may_stop(&play), "2 does not know yet");
    let fenced = play.image.fence_broker(NodeId(2), play.epoch(2), None).unwrap();
    play.image.replay_all(&fenced.records).unwrap();
    assert!(may_stop(&play));
    play.heartbeats.broke(play.now, NodeId(2), SessionId(3));
    assert_eq!(play.pass(100), [], "begun once");
    let resumed = play.image.resume_broker(NodeId(0)).unwrap();
    play.image.replay_all(&resumed.records).unwrap();
    assert_eq!(play.pass(0), [Step::BeginShutdown(NodeId(0), play.epoch(0))], "it still wants to");
    assert!(!may_stop(&play));
}

/// A drained broker is let back in when its drain ends, not before.
#[test]
fn a_drained_broker_that_was_fenced_waits_for_the_end_of_the_drain() {
    let mut play = Play::with(1);
    play.open(0, 1);
    let drained = play.image.begin_shutdown(NodeId(0), play.epoch(0)).unwrap();
    play.image.replay_all(&drained.records).unwrap();
    let fenced = play.image.fence_broker(NodeId(0), play.epoch(0), None).unwrap();
    play.image.replay_all(&fenced.records).unwrap();
    assert_eq!(play.pass(300), []);
    let resumed = play.image.resume_broker(NodeId(0)).unwrap();
    play.image.replay_all(&resumed.records).unwrap();
    assert_eq!(play.pass(0), [Step::Unfence(NodeId(0), play.epoch(0))]);
}

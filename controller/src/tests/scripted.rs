//! The actor on a log that the test leads by the hand: decisions that are lost, other leaders, other terms.

use super::*;
use crate::metadata_log::{Base, Leadership, MetadataLog, Proposal, ProposeError, Proposed};
use crate::settings::Settings;
use futures::future::BoxFuture;
use tokio::sync::{oneshot, watch};

/// A log that the test leads by the hand.
pub struct ScriptedLog {
    state: Mutex<Script>,
    image: watch::Sender<Arc<ClusterImage>>,
    leadership: watch::Sender<Leadership>,
}

#[derive(Default)]
struct Script {
    held: Vec<(Proposal, oneshot::Sender<Result<(), ProposeError>>)>,
    holding: bool,
}

impl ScriptedLog {
    pub fn new() -> Arc<ScriptedLog> {
        Arc::new(ScriptedLog {
            state: Mutex::default(),
            image: watch::Sender::default(),
            leadership: watch::Sender::default(),
        })
    }

    pub fn lead(&self, here: bool, term: u64) {
        self.lead_by(Some(if here { NODE } else { NodeId(2) }), term);
    }

    pub fn lead_by(&self, leader: Option<NodeId>, term: u64) {
        let here = leader == Some(NODE);
        self.leadership.send_replace(Leadership { leader, term, here });
    }

    pub fn apply(&self, proposal: &Proposal) -> Result<(), ProposeError> {
        let mut image = ClusterImage::clone(&self.image.borrow());
        let term = self.leadership.borrow().term;
        let known = Base { term, offset: image.next_offset() };
        if proposal.base.is_some_and(|base| base != known) {
            return Err(ProposeError::Superseded);
        }
        let batch = MetadataBatch::decode(proposal.batch.clone()).unwrap();
        image.replay_all(&batch.records).unwrap();
        self.image.send_replace(Arc::new(image));
        Ok(())
    }

    pub fn hold(&self) {
        self.state.lock().unwrap().holding = true;
    }

    /// Ends what is held; the first `lost` proposals never reach the log.
    pub fn release(&self, lost: usize) {
        let held = {
            let mut state = self.state.lock().unwrap();
            state.holding = false;
            std::mem::take(&mut state.held)
        };
        for (at, (proposal, reply)) in held.into_iter().enumerate() {
            let result = if at < lost {
                Err(ProposeError::NotLeader { leader: None })
            } else {
                self.apply(&proposal)
            };
            let _ = reply.send(result);
        }
    }

    async fn held(&self, count: usize) {
        while self.state.lock().unwrap().held.len() < count {
            tokio::task::yield_now().await;
        }
    }
}

impl MetadataLog for ScriptedLog {
    fn propose(&self, proposal: Proposal) -> Proposed {
        let (reply, proposed) = oneshot::channel();
        let mut state = self.state.lock().unwrap();
        if state.holding {
            state.held.push((proposal, reply));
        } else {
            let _ = reply.send(self.apply(&proposal));
        }
        proposed
    }

    fn image(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.image.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn on(log: &Arc<ScriptedLog>) -> ControllerHandle {
    Controller::on(log.clone(), Settings::default(), "cluster".into())
}

#[actix::test]
async fn decisions_that_rest_on_a_lost_one_are_refused_and_the_picture_is_the_committed_one() {
    let log = ScriptedLog::new();
    log.lead(true, 1);
    let handle = on(&log);
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    log.hold();
    let release = async {
        log.held(3).await;
        log.release(1);
    };
    let (first, second, third, ()) = futures::join!(
        handle.create_topic(topic("first")),
        handle.create_topic(topic("second")),
        handle.create_topic(topic("third")),
        release
    );
    for lost in [first, second, third] {
        let error = lost.unwrap_err();
        assert_eq!(error.code, ErrorCode::NotController);
        assert!(error.surely_not_done());
    }
    assert_eq!(image(&handle).topic_count(), 0);
    handle.create_topic(topic("first")).await.unwrap();
    assert_eq!(image(&handle).topic_count(), 1);
    handle.shutdown().await.unwrap();
}

/// K7.
#[actix::test]
async fn a_standby_refuses_and_names_the_leader() {
    let log = ScriptedLog::new();
    log.lead(false, 1);
    let handle = on(&log);
    let refused = handle.create_topic(topic("orders")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotController);
    assert_eq!(refused.leader.unwrap().node_id, 2);
    log.lead(true, 2);
    handle.await_active_at_last().await;
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    handle.shutdown().await.unwrap();
}

#[actix::test]
async fn a_new_leader_decides_on_what_the_old_one_committed() {
    let log = ScriptedLog::new();
    log.lead(true, 1);
    let handle = on(&log);
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    log.hold();
    let other_leader = async {
        log.held(1).await;
        log.lead(false, 2);
        let request = topic("elsewhere");
        let id = troupe_proto::ids::TopicId::random();
        let committed = image(&handle);
        let decision = committed.create_topic(&ClusterPolicy::default(), &request, id, 0).unwrap();
        let base = Base { term: 2, offset: committed.next_offset() };
        let proposal = Proposal::new(base, decision.records);
        log.apply(&proposal).unwrap();
        log.lead(true, 3);
        log.held(2).await;
        log.release(0);
    };
    let (lost, ()) = futures::join!(handle.create_topic(topic("here")), other_leader);
    assert_eq!(lost.unwrap_err().code, ErrorCode::NotController);
    let refused = handle.create_topic(topic("elsewhere")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TopicExists);
    handle.shutdown().await.unwrap();
}

/// Others may have decided something else of the same length.
#[actix::test]
async fn a_decision_of_an_earlier_term_is_not_applied_even_where_it_fits() {
    let log = ScriptedLog::new();
    log.lead(true, 1);
    let handle = on(&log);
    handle.register_unfenced_broker(registration(1)).await.unwrap();
    log.hold();
    let again = async {
        log.held(1).await;
        log.lead(true, 2);
        log.release(0);
    };
    let (lost, ()) = futures::join!(handle.create_topic(topic("orders")), again);
    assert_eq!(lost.unwrap_err().code, ErrorCode::NotController);
    assert_eq!(image(&handle).topic_count(), 0);
    handle.create_topic(topic("orders")).await.unwrap();
    handle.shutdown().await.unwrap();
}

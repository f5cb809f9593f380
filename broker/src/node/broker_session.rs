//! This broker in the eyes of the controller: registration, heartbeats, leave to stop.
//!
//! Promises: there is a session with the active controller whenever one can be had; metadata that is pushed
//! is applied in order; nobody leads here before the logs are recovered.
//! Never here: who leads what; that comes with the metadata.

use super::controllers::ControlThread;
use super::handles::Handles;
use super::progress::Addresses;
use super::start_error::StartError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use troupe_controller::MAX_MESSAGE_BYTES;
use troupe_log::LogDirectories;
use troupe_machines::cluster::{ClusterImage, Delta, LOG_VERSION, METADATA_VERSION};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, MetadataOffset, NodeId};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::controller_service_client::ControllerServiceClient;

/// Before another controller is tried, or the same again.
const RETRY: Duration = Duration::from_millis(50);
/// Longest wait for one answer of a controller.
const CALL_PATIENCE: Duration = Duration::from_secs(3);
/// Whoever has this broker's id may be its own past life, whose end the controller has not noticed yet.
const PAST_LIFE: Duration = Duration::from_secs(5);
/// At a stop, a controller that is not heard for so long is not waited for.
const UNHEARD: Duration = Duration::from_secs(3);
/// A heartbeat that is later than this says that this thread did not run.
const BEAT_SLACK: Duration = Duration::from_millis(50);
/// Where a clean stop is noted: the broker epoch that ended in it.
const CLEAN_STOP: &str = "clean-shutdown";
/// Where the broker epoch of the last start is noted.
const LAST_EPOCH: &str = "broker-epoch";

/// What a broker's disk says of its past when it starts.
#[derive(Clone, Copy, Default)]
struct Found {
    stopped_cleanly: Option<u64>,
    holds_nothing: bool,
}

/// Shared between the node and its session's task.
pub(super) struct BrokerSession {
    state: Arc<State>,
}

struct State {
    incarnation: [u8; 16],
    http_endpoint: String,
    /// What is told by each listener.
    listeners: BTreeMap<String, String>,
    /// All logs have been recovered.
    ready: watch::Sender<bool>,
    /// The node wants to stop.
    leaving: watch::Sender<bool>,
    may_stop: watch::Sender<bool>,
    /// When a controller was last heard.
    heard: watch::Sender<Instant>,
    pushed: Option<watch::Sender<Arc<ClusterImage>>>,
    /// What was pushed does not fit: the next session asks for everything.
    from_nothing: AtomicBool,
    heartbeat_ms: AtomicU32,
}

impl BrokerSession {
    /// Registers, and keeps a session from now on; returns when the metadata here holds the registration.
    pub async fn begin(
        handles: &Arc<Handles>,
        directories: &LogDirectories,
        thread: &ControlThread,
        pushed: Option<watch::Sender<Arc<ClusterImage>>>,
        addresses: &Addresses,
    ) -> Result<BrokerSession, StartError> {
        let own_controller = handles.controller.local().is_some();
        let state = Arc::new(State {
            incarnation: *uuid::Uuid::new_v4().as_bytes(),
            http_endpoint: addresses.http.to_string(),
            listeners: addresses.advertised(),
            ready: watch::Sender::new(false),
            leaving: watch::Sender::new(false),
            may_stop: watch::Sender::new(false),
            heard: watch::Sender::new(Instant::now()),
            pushed: pushed.filter(|_| !own_controller),
            from_nothing: AtomicBool::new(false),
            heartbeat_ms: AtomicU32::new(
                u32::try_from(handles.config.heartbeat_interval.0).unwrap_or(u32::MAX),
            ),
        });
        let found = Found {
            stopped_cleanly: clean_stop(directories.metadata()),
            holds_nothing: directories.partitions().is_empty() && !directories.any_offline(),
        };
        let registered = register(handles, &state, found).await.map_err(StartError::Register)?;
        check_metadata(handles, directories)?;
        forget_clean_stop(directories.metadata());
        let kept = Arc::clone(&state);
        let keeping = Arc::clone(handles);
        thread.spawn(async move { keep(keeping, kept).await });
        let mut images = handles.metadata.image.clone();
        let has_it = |image: &Arc<ClusterImage>| image.next_offset() >= registered;
        if images.wait_for(has_it).await.is_err() {
            return Err(StartError::Stopped);
        }
        Ok(BrokerSession { state })
    }

    /// The broker may lead as soon as all its logs are open, or known to be broken.
    pub fn ready_when_recovered(&self, handles: &Arc<Handles>) {
        let (handles, state) = (Arc::clone(handles), Arc::clone(&self.state));
        actix_rt::spawn(async move {
            let topics = handles.metadata.registry.topics();
            for handle in topics.values().flat_map(|topic| topic.replicas()) {
                while !handle.answers_now() {
                    // An error is an answer too; the board has it.
                    let _ = handle.serves(Duration::from_secs(1)).await;
                }
                // And nobody leads by a log that lacks what it had acknowledged.
                handle.board.reported().await;
            }
            state.ready.send_replace(true);
        });
    }

    /// K17: others take over what is led here. Returns when they have, when the time is over, or when there
    /// is no controller who could see to it.
    pub async fn leave(&self, patience: Duration) {
        let mut may_stop = self.state.may_stop.subscribe();
        self.state.heard.send_replace(Instant::now());
        self.state.leaving.send_replace(true);
        let allowed = may_stop.wait_for(|may_stop| *may_stop);
        tokio::select! {
            _ = allowed => {}
            () = self.unheard() => tracing::warn!("no controller is there; stopping without a goodbye"),
            () = tokio::time::sleep(patience) => {
                tracing::warn!("nobody has taken over everything in time; stopping nevertheless");
            }
        }
    }

    /// Returns when no controller has been heard for a while.
    async fn unheard(&self) {
        loop {
            let heard = *self.state.heard.borrow();
            if heard.elapsed() > UNHEARD {
                return;
            }
            tokio::time::sleep_until(heard + UNHEARD + RETRY).await;
        }
    }

    /// K18.
    pub fn note_clean_stop(&self, handles: &Handles, directories: &LogDirectories) {
        let epoch = handles.controller.identity().broker_epoch;
        let path = clean_stop_path(directories.metadata());
        if let Err(error) = std::fs::write(&path, format!("{epoch}\n")) {
            tracing::warn!(%error, "the clean stop could not be noted");
        }
    }
}

fn clean_stop_path(directory: &Path) -> PathBuf {
    directory.join(CLEAN_STOP)
}

/// As noted by the past life. Only the controller can tell whether that was the last one: then the epoch is the
/// one that it knows.
fn clean_stop(directory: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(clean_stop_path(directory)).ok()?;
    text.trim().parse().ok()
}

/// Once this life is registered. Whoever is told to stop before that has changed nothing, and stopped cleanly.
fn forget_clean_stop(directory: &Path) {
    // If it cannot be removed, it names an epoch that is over.
    let _ = std::fs::remove_file(clean_stop_path(directory));
}

/// Topics that the metadata does not have count as deleted, and so would all partitions here if the metadata was
/// lost and begun anew. Broker epochs are its offsets: they never go back in the same metadata.
fn check_metadata(handles: &Handles, directories: &LogDirectories) -> Result<(), StartError> {
    let path = directories.metadata().join(LAST_EPOCH);
    let current = handles.controller.identity().broker_epoch;
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let before = text.trim().parse().ok().map(BrokerEpoch);
    let count = directories.partitions().len();
    if let Some(before) = before.filter(|before| current < *before && count > 0) {
        return Err(StartError::NewMetadata { count, before, current });
    }
    if let Err(error) = std::fs::write(&path, format!("{current}\n")) {
        tracing::warn!(%error, "the broker epoch could not be noted");
    }
    Ok(())
}

fn client(channel: Channel) -> ControllerServiceClient<Channel> {
    ControllerServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Whom to ask: the active controller if it is known, else every voter in turn.
fn candidates(handles: &Handles) -> Vec<NodeId> {
    match handles.controller.controller_id() {
        Some(controller) => vec![controller],
        None if handles.controller.local().is_some() => Vec::new(),
        None => handles.controller.voters().iter().map(|voter| voter.node_id).collect(),
    }
}

/// A broker without a controller of its own learns from refusals who decides.
fn learn(handles: &Handles, asked: NodeId, error: &Error) {
    if handles.controller.local().is_none() {
        let hinted = error.leader.as_ref().map(|hint| NodeId(hint.node_id));
        let known = handles.controller.controller_id();
        if error.code == ErrorCode::NotController || known == Some(asked) {
            handles.controller.hear(hinted.filter(|hinted| *hinted != asked));
        }
    }
}

/// Until it is registered, or never can be. Returns the metadata offset behind the registration.
async fn register(handles: &Handles, state: &State, found: Found) -> Result<MetadataOffset, Error> {
    let begun = Instant::now();
    loop {
        for candidate in candidates(handles) {
            let mut caller = handles.controller.identity().caller();
            if let Some(caller) = &mut caller {
                caller.broker_epoch = 0;
            }
            let request = pb::RegisterBrokerRequest {
                caller,
                incarnation_id: bytes::Bytes::copy_from_slice(&state.incarnation),
                endpoint: handles.endpoint.clone(),
                http_endpoint: state.http_endpoint.clone(),
                listeners: state.listeners.clone(),
                rack: handles.config.rack.clone(),
                stopped_cleanly: found.stopped_cleanly,
                holds_nothing: found.holds_nothing,
                log_version: LOG_VERSION,
                metadata_version: METADATA_VERSION,
            };
            let mut client = client(handles.controller.channel(candidate)?);
            let call = client.register_broker(request);
            let error = match tokio::time::timeout(CALL_PATIENCE, call).await {
                Ok(Ok(answer)) => {
                    let answer = answer.into_inner();
                    if handles.controller.local().is_none() {
                        handles.controller.hear(Some(candidate));
                    }
                    handles.controller.set_broker_epoch(BrokerEpoch(answer.broker_epoch));
                    handles.controller.heard.note(false);
                    return Ok(MetadataOffset(answer.metadata_offset));
                }
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::new(ErrorCode::RequestTimedOut, "no answer in time"),
            };
            learn(handles, candidate, &error);
            match error.code {
                ErrorCode::InconsistentClusterId | ErrorCode::InvalidRequest => return Err(error),
                ErrorCode::DuplicateBroker if begun.elapsed() > PAST_LIFE => return Err(error),
                _ => tracing::debug!(%candidate, %error, "not registered yet"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = handles.gone.cancelled() => {
                return Err(Error::new(ErrorCode::ShuttingDown, "the node stops"));
            }
        }
    }
}

/// One session after the other, until the node is gone.
async fn keep(handles: Arc<Handles>, state: Arc<State>) {
    loop {
        for candidate in candidates(&handles) {
            let ended = tokio::select! {
                ended = hold(&handles, &state, candidate) => ended,
                () = handles.gone.cancelled() => return,
            };
            let error = ended.err().unwrap_or_else(|| {
                Error::new(ErrorCode::NotController, "the controller ended the session")
            });
            tracing::debug!(%candidate, %error, "no session");
            learn(&handles, candidate, &error);
            if matches!(error.code, ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerNotRegistered) {
                tracing::warn!(%error, "registering anew");
                match register(&handles, &state, Found::default()).await {
                    // Leaders know this broker by its epoch.
                    Ok(_) => handles.replicators.iter().for_each(|replicator| replicator.renew()),
                    Err(error) => {
                        tracing::error!(%error, "this broker cannot be registered any more");
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = handles.gone.cancelled() => return,
        }
    }
}

/// A session, as long as it lasts.
async fn hold(handles: &Handles, state: &State, controller: NodeId) -> Result<(), Error> {
    let (sender, requests) = mpsc::channel(4);
    let message = |metadata_offset| pb::BrokerSessionRequest {
        caller: handles.controller.identity().caller(),
        metadata_offset,
        wants_metadata: state.pushed.is_some(),
        wants_shutdown: *state.leaving.borrow(),
        log_version: LOG_VERSION,
        metadata_version: METADATA_VERSION,
        listeners: state.listeners.clone(),
    };
    let applied = handles.metadata.registry.applied();
    let heartbeat = || {
        // Nobody leads before its logs are recovered.
        let ready = *state.ready.borrow();
        let applied = applied.borrow().filter(|_| ready).unwrap_or_default();
        message(applied.0)
    };
    let failed = |_| Error::new(ErrorCode::NotController, "the session broke");
    // Pushed metadata goes on from what is here. It counts as a heartbeat too: who is not ready names nothing.
    let goes_on = *state.ready.borrow() && !state.from_nothing.load(Ordering::Relaxed);
    let first = match &state.pushed {
        Some(pushed) if goes_on => message(pushed.borrow().next_offset().0),
        Some(_) => message(0),
        None => heartbeat(),
    };
    sender.send(first).await.map_err(failed)?;
    let mut client = client(handles.controller.session_channel(controller)?);
    let call = client.broker_session(ReceiverStream::new(requests));
    let opened = tokio::time::timeout(CALL_PATIENCE, call)
        .await
        .map_err(|_| Error::new(ErrorCode::RequestTimedOut, "the controller does not answer"))?;
    let mut answers = opened?.into_inner();
    tracing::debug!(%controller, "a session begins");
    let interval =
        Duration::from_millis(u64::from(state.heartbeat_ms.load(Ordering::Relaxed).max(10)));
    let mut beats = tokio::time::interval(interval);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut ready, mut leaving) = (state.ready.subscribe(), state.leaving.subscribe());
    let mut news = handles.metadata.registry.applied();
    let mut silence = Instant::now();
    let silence_limit = handles.config.session_timeout.duration();
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            answer = answers.message() => match answer? {
                Some(answer) => {
                    silence = Instant::now();
                    take_answer(handles, state, answer)?;
                }
                None => return Ok(()),
            },
            _ = beats.tick() => {
                // What this thread has slept through, nobody was silent in.
                silence += looked.elapsed().saturating_sub(interval + BEAT_SLACK);
                looked = Instant::now();
                if silence.elapsed() > silence_limit {
                    let message = "the controller has fallen silent";
                    return Err(Error::new(ErrorCode::NotController, message));
                }
                if handles.controller.local().is_some()
                    && handles.controller.controller_id() != Some(controller)
                {
                    let message = "another controller decides";
                    return Err(Error::new(ErrorCode::NotController, message));
                }
                sender.send(heartbeat()).await.map_err(failed)?;
            }
            Ok(()) = ready.changed() => sender.send(heartbeat()).await.map_err(failed)?,
            Ok(()) = leaving.changed() => sender.send(heartbeat()).await.map_err(failed)?,
            // Whoever waits for everybody to have applied something waits for this.
            Ok(()) = news.changed() => sender.send(heartbeat()).await.map_err(failed)?,
        }
    }
}

fn take_answer(
    handles: &Handles,
    state: &State,
    answer: pb::BrokerSessionResponse,
) -> Result<(), Error> {
    if let (Some(delta), Some(pushed)) = (answer.metadata, &state.pushed) {
        let taken = take_delta(pushed, &Delta::from(delta));
        if taken.is_err() != state.from_nothing.swap(taken.is_err(), Ordering::Relaxed)
            && let Err(error) = &taken
        {
            tracing::error!(%error, "the metadata that was pushed is not taken");
        }
        taken?;
    }
    state.heard.send_replace(Instant::now());
    let knows_all = handles.metadata.image.borrow().next_offset().0 >= answer.metadata_offset;
    handles.controller.heard.note(knows_all);
    if !answer.fenced && knows_all {
        handles.stall_detector.resume();
    }
    if answer.may_stop && *state.leaving.borrow() {
        state.may_stop.send_replace(true);
    }
    Ok(())
}

/// All of it or nothing. Never a step back: what is not in the metadata is deleted here.
fn take_delta(pushed: &watch::Sender<Arc<ClusterImage>>, delta: &Delta) -> Result<(), Error> {
    let mut image = ClusterImage::clone(&pushed.borrow());
    let before = image.next_offset();
    image.apply_delta(delta).map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    let after = image.next_offset();
    if after < before {
        let message = format!(
            "the controller's metadata ends at {after}, and this broker knows it up to {before}: it was lost \
             and begun anew"
        );
        return Err(Error::new(ErrorCode::Internal, message));
    }
    pushed.send_replace(Arc::new(image));
    Ok(())
}

impl From<Status> for StartError {
    fn from(status: Status) -> Self {
        StartError::Register(status.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noop(since: u64, next: u64) -> Delta {
        let records = Vec::new();
        Delta::from(pb::MetadataDelta { since_offset: since, next_offset: next, records })
    }

    /// Of an image without them, the reconciler deletes all topics.
    #[test]
    fn pushed_metadata_that_does_not_fit_leaves_what_is_here() {
        let pushed = watch::Sender::new(Arc::new(ClusterImage::default()));
        take_delta(&pushed, &noop(0, 7)).unwrap();
        assert!(take_delta(&pushed, &noop(9, 12)).is_err(), "a gap");
        assert!(take_delta(&pushed, &noop(0, 3)).is_err(), "begun anew");
        assert_eq!(pushed.borrow().next_offset(), MetadataOffset(7));
        take_delta(&pushed, &noop(7, 8)).unwrap();
        assert_eq!(pushed.borrow().next_offset(), MetadataOffset(8));
    }
}

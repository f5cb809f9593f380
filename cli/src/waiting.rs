//! What a command waits for, told on standard error once it has waited for two seconds: a silent command looks like
//! a broken one.
//!
//! Calls are told of by the client ([`WaitObserver`]); what has no call of its own, by [`Waiting::until_progress`].

use crate::health::gather;
use crate::quantity::show_duration;
use crate::streams::notice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use troupe_client::{Client, ClientConfig, Wait, WaitObserver};

/// After so long it is told what for, and again after [`REPEAT_INTERVAL`] if that has changed.
const FIRST_NOTICE: Duration = Duration::from_secs(2);
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Whoever does not tell in this time why it takes so long is a reason itself.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Reasons that are told at once.
const REASONS: usize = 3;

/// Tells why it takes long.
#[derive(Clone)]
pub struct Waiting {
    servers: Vec<String>,
}

/// A process is one command: whatever it waits for, it is one person who is told.
static LAST_CHECK: Mutex<LastCheck> = Mutex::new(LastCheck { at: None, told: String::new() });

struct LastCheck {
    /// When it was last looked for a reason.
    at: Option<Instant>,
    /// The reason that was told last.
    told: String,
}

/// What is waited for, and how far it is.
pub struct Pending {
    pub what: String,
    /// Another number: something goes on.
    pub progress: u64,
    /// Nothing need come for long, though all is well.
    pub may_idle: bool,
}

/// How far something is, for whoever looks on.
#[derive(Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    pub fn set(&self, progress: u64) {
        self.0.store(progress, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Somebody looks for progress as long as this lives.
pub struct ProgressWatch(JoinHandle<()>);

impl Drop for ProgressWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Waiting {
    pub fn new(servers: Vec<String>) -> Waiting {
        Waiting { servers }
    }

    /// Is told of calls.
    pub fn observer(&self) -> WaitObserver {
        let (waiting, runtime) = (self.clone(), tokio::runtime::Handle::current());
        WaitObserver::new(move |Wait { server, waited }| {
            let waiting = waiting.clone();
            runtime.spawn(async move {
                waiting.report(&format!("{server} to answer"), waited, false).await;
            });
        })
    }

    /// Looks whether something goes on, as `pending` says. What stays as it is for long is told of.
    pub fn until_progress(
        &self,
        pending: impl Fn() -> Option<Pending> + Send + 'static,
    ) -> ProgressWatch {
        let waiting = self.clone();
        ProgressWatch(tokio::spawn(async move {
            let (mut seen, mut since) = (None, Instant::now());
            loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                let now = pending();
                let progress = now.as_ref().map(|now| now.progress);
                if progress != seen {
                    (seen, since) = (progress, Instant::now());
                }
                if let Some(Pending { what, may_idle, .. }) = now
                    && since.elapsed() >= FIRST_NOTICE
                {
                    waiting.report(&what, since.elapsed(), may_idle).await;
                }
            }
        }))
    }

    /// Tells what is waited for and why that takes long. Not all the time, and nothing twice: whoever asks again
    /// and again makes it worse. `may_idle`: that it takes long is worth telling only if something is wrong.
    async fn report(&self, what: &str, waited: Duration, may_idle: bool) {
        {
            let mut last = self.lock();
            if last.at.is_some_and(|at| at.elapsed() < REPEAT_INTERVAL) {
                return;
            }
            last.at = Some(Instant::now());
        }
        let (is_ill, why) = self.why().await;
        let mut last = self.lock();
        if last.told == why || (may_idle && !is_ill) {
            return;
        }
        notice!("note: waiting for {what} for {} now: {why}", show_duration(waited));
        last.told = why;
    }

    fn lock(&self) -> MutexGuard<'static, LastCheck> {
        LAST_CHECK.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the cluster says, by connections of its own: those that are waited for may be the reason. And whether
    /// something that clients ask for is refused or waits.
    async fn why(&self) -> (bool, String) {
        let config = ClientConfig {
            connect_timeout: TIMEOUT / 3,
            request_timeout: TIMEOUT / 3,
            ..ClientConfig::new(self.servers.clone())
        };
        let asked = async { gather(&Client::connect(config).await?).await };
        let health = match tokio::time::timeout(TIMEOUT, asked).await {
            Err(_) => return (true, format!("{} does not answer", self.servers.join(", "))),
            Ok(Err(error)) => return (true, error.to_string()),
            Ok(Ok(health)) => health,
        };
        if health.reasons.is_empty() {
            return (false, "the cluster says that it is well".to_owned());
        }
        let reasons = health.reasons.iter().take(REASONS).map(|reason| reason.message.as_str());
        let more = health.reasons.len().saturating_sub(REASONS);
        let more = if more > 0 { "; `troupe cluster health` tells more" } else { "" };
        (health.is_unhealthy(), format!("{}{more}", reasons.collect::<Vec<_>>().join("; ")))
    }
}

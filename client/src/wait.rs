//! Calls that take long, told to whoever wants to know: a person at a terminal should not have to guess.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tokio::time::{Duration, sleep};

/// After so long a call is told of for the first time, and again after each [`AGAIN`].
const LONG: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(10);

/// A call that has not been answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The node that was asked.
    pub server: String,
    pub waited: Duration,
}

/// Is told of calls that have waited for two seconds, and every ten seconds after that.
#[derive(Clone)]
pub struct WaitObserver(Arc<dyn Fn(Wait) + Send + Sync>);

impl WaitObserver {
    /// `tell` must not block: it is called where the call waits.
    pub fn new(tell: impl Fn(Wait) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for WaitObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaitObserver")
    }
}

/// What the future comes to; meanwhile the observer is told. `server`: which node is asked at the moment.
pub(crate) async fn observed<F: Future>(
    observer: Option<&WaitObserver>,
    server: impl Fn() -> String,
    future: F,
) -> F::Output {
    let Some(WaitObserver(tell)) = observer else { return future.await };
    tokio::pin!(future);
    let (mut waited, mut next) = (Duration::ZERO, LONG);
    loop {
        tokio::select! {
            biased;
            output = &mut future => return output,
            () = sleep(next) => {
                waited += next;
                tell(Wait { server: server(), waited });
                next = AGAIN;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_told_of_after_two_seconds_and_then_every_ten() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = told.clone();
            move |wait: Wait| told.lock().push(wait.waited.as_secs())
        };
        let observer = WaitObserver::new(tell);
        let call = |seconds| {
            observed(Some(&observer), || "a:1".to_owned(), sleep(Duration::from_secs(seconds)))
        };
        call(1).await;
        assert!(told.lock().is_empty());
        call(30).await;
        assert_eq!(*told.lock(), [2, 12, 22]);
    }
}

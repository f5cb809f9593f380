//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Longer than anything takes that works, on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer; panics with `what` if there is none in time.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_or_why(what, async || ask().await.ok_or_else(String::new)).await
}

/// The same; each refusal says why, and the last of them is told.
pub async fn eventually_or_why<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    const PAUSE: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) => {
                assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}; {why}");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

//! Until a log is clean and its old files are removed, and what the passes over it were.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use troupe_client::Client;
use troupe_proto::admin::v1::{CleaningState, ReplicaCleaning};

/// Between two looks: a pass that is shorter is seen all the same, unless another one follows at once. Every look is work
/// for the node beside the cleaning, and there is none of it while the producer is alone.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_secs(3600);

/// All passes together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cleaned {
    pub passes: i64,
    pub took: Duration,
    /// Of the first pass, and of the last one.
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Cleaned {
    fn note(&mut self, cleaning: &ReplicaCleaning) {
        let Some(pass) = cleaning.last_pass.filter(|_| cleaning.pass_count > self.passes) else {
            return;
        };
        if self.passes == 0 {
            self.bytes_before = pass.bytes_before.unsigned_abs();
        }
        self.passes = cleaning.pass_count;
        self.took += Duration::from_millis(pass.took_ms.unsigned_abs());
        self.bytes_after = pass.bytes_after.unsigned_abs();
    }
}

/// Returns when there is nothing to clean any more, nor to remove among its `files`: both belong to a pass.
pub async fn until_cleaned(
    client: Client,
    topic: String,
    files: PathBuf,
) -> Result<Cleaned, Failure> {
    let what = || format!("{topic} is not cleaned");
    let (started, mut cleaned) = (Instant::now(), Cleaned::default());
    loop {
        let replicas = client.admin().list_replicas(Some(&topic)).await.with_context(what)?;
        let cleaning = replicas.first().and_then(|replica| replica.cleaning.as_ref());
        if let Some(cleaning) = cleaning {
            cleaned.note(cleaning);
            match cleaning.state() {
                CleaningState::Idle
                    if cleaned.passes > 0
                        && cleaning.dirty_ratio == 0.0
                        && !is_any_left(&files)? =>
                {
                    return Ok(cleaned);
                }
                CleaningState::Uncleanable => {
                    return Err(Failure::new(Exit::Failed, what(), &cleaning.reason));
                }
                _ => {}
            }
        }
        if started.elapsed() > TIMEOUT {
            let cause = format!("it takes more than {} s", TIMEOUT.as_secs());
            return Err(Failure::new(Exit::Failed, what(), cause));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Of those that were replaced.
fn is_any_left(files: &Path) -> Result<bool, Failure> {
    let what = || format!("cannot read {}", files.display());
    for entry in files.read_dir().with_context(what)? {
        if Path::new(&entry.with_context(what)?.file_name()).extension() == Some("deleted".as_ref())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

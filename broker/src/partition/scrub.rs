//! A scrub of one replica: every batch that is flushed, the indexes, and the small files.
//!
//! It reads on a thread of its own, of the lowest priority, and at the rate that it is given; the replica goes on
//! meanwhile. What it finds the replica looks at again itself. Never here: which replicas, and when.

use super::handle::PartitionHandle;
use std::time::{Duration, Instant};
use std::{io, thread};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use troupe_controller::priority;
use troupe_log::disk::FileDisk;
use troupe_log::{LogError, Scrub, Scrubbed};
use troupe_machines::cleaning::Rate;
use troupe_proto::error::{Error, ErrorCode};

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct ScrubResult {
    pub segments: u64,
    pub batches: u64,
    pub bytes: u64,
    /// Damaged batches that were confirmed: of one segment the first.
    pub damages: u64,
    /// Indexes, checkpoints and snapshots that were made again.
    pub mended: Vec<String>,
}

/// Looks at all of a replica that is here. `bytes_per_second`: 0 for as fast as it goes.
///
/// # Errors
/// The replica's, as of any question; `STORAGE_FAILURE` if a file cannot be read.
pub async fn scrub(
    handle: &PartitionHandle,
    bytes_per_second: u64,
    stop: CancellationToken,
) -> Result<ScrubResult, Error> {
    let scrub = handle.begin_scrub().await?;
    let found = read(scrub, bytes_per_second, stop).await?;
    let mut result = ScrubResult {
        segments: found.segments,
        batches: found.batches,
        bytes: found.bytes,
        ..ScrubResult::default()
    };
    if !found.stopped {
        result.mended = handle.mend_files(found.wrong_indexes).await?.mended;
    }
    for suspect in found.suspects {
        // with the first one that is confirmed the replica is to be filled again, and lacks what is behind
        if handle.suspect(suspect.at).await?.is_some() {
            result.damages += 1;
            break;
        }
    }
    Ok(result)
}

async fn read(
    scrub: Scrub<FileDisk>,
    bytes_per_second: u64,
    stop: CancellationToken,
) -> Result<Scrubbed, Error> {
    let (done, found) = oneshot::channel();
    let pass = move || {
        // Whoever asked may be gone.
        let _ = done.send(run(scrub, bytes_per_second, &stop));
    };
    let started: io::Result<_> = thread::Builder::new().name("scrub".to_owned()).spawn(pass);
    started.map_err(|error| {
        let message = format!("no thread can be started to look through the log: {error}");
        Error::new(ErrorCode::StorageUnavailable, message)
    })?;
    match found.await {
        Ok(found) => found.map_err(Error::from),
        Err(_) => {
            Err(Error::new(ErrorCode::Internal, "the thread that looked through the log died"))
        }
    }
}

fn run(
    scrub: Scrub<FileDisk>,
    bytes_per_second: u64,
    stop: &CancellationToken,
) -> Result<Scrubbed, LogError> {
    priority::after_all();
    let started = Instant::now();
    let mut rate = (bytes_per_second > 0).then(|| Rate::new(bytes_per_second));
    scrub.run(|bytes| {
        let ahead = rate.as_mut().map_or(Duration::ZERO, |it| it.take(started.elapsed(), bytes));
        if !ahead.is_zero() && !stop.is_cancelled() {
            thread::sleep(ahead);
        }
        !stop.is_cancelled()
    })
}

//! `troupe topic copy`: the records of a topic in another cluster, or under another name.
//!
//! - [`route`]: from where to where. [`positions`]: how far it is, kept in the target cluster. [`start`]: where it begins;
//!   [`alignment`] decides that of a copy that was stopped.
//! - [`transfer`] moves the records; [`track`] is how far a partition is; [`report`] tells.
//!
//! Promises: all that is in the source, from where an earlier copy stopped, comes to the target in order, with key, value,
//! headers, timestamp and partition. No record comes twice, however a copy ended, as long as nobody else writes to the
//! target and nothing of a copy that was killed is under way for longer than the next one waits for it; compaction and
//! retention on either side are no hindrance. What the source has deleted before it could be copied is told.

mod alignment;
mod arguments;
mod positions;
mod report;
mod route;
mod start;
mod track;
mod transfer;

use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::signals::Stop;
pub use arguments::Copy;
use positions::Positions;
use report::Report;
use route::Route;
use std::time::Duration;
use transfer::Transfer;
use troupe_client::ProducerConfig;

/// What is on its way when a copy ends is given so long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn run(global: &Global, copy: Copy) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let route = Route::find(global, &copy).await?;
    let positions = Positions::new(route.target.clone(), &route.to, route.from_id);
    let starts = start::start(&route, &positions, copy.append).await?;
    let mut config = ProducerConfig { compression: copy.compression, ..ProducerConfig::default() };
    config.enable_idempotence = Some(true);
    config.max_request_size = config.max_request_size.max(route.max_message_bytes);
    // A full buffer is a reason to wait; how long at most, the deliveries decide.
    config.max_block = config.delivery_timeout;
    let producer = route.target.producer(config).await.with_context(|| route.what())?;
    let transfer = Transfer::open(
        &route,
        &positions,
        producer.clone(),
        &starts,
        copy.follow,
        copy.rate,
        Report::new(global),
    );
    let mut transfer = transfer.await?;
    let answers = transfer.answers();
    let _watched = route.waiting.until_progress(move || answers.pending());
    let ran = stop.or(transfer.run()).await;
    let finished = match &ran {
        Ok(Err(_)) => Ok(()),
        // What was read is delivered or given up, whatever ended the reading.
        Ok(Ok(())) | Err(_) => transfer.finish().await,
    };
    let tracks = transfer.tracks().clone();
    transfer.report.finish(global, &route, &positions.group, &tracks)?;
    drop(transfer);
    let _ = producer.close(CLOSE_TIMEOUT).await;
    match ran {
        Ok(ran) => ran.and(finished),
        Err(signal) => finished.and(Err(Failure::interrupted(signal))),
    }
}

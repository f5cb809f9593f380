//! Reading: a topic along, while others write it; a group's commits; and, in the end, what the run has written.

use crate::load::{Run, kind_of};
use crate::measure::{Event, Place};
use crate::recorder::Recorder;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use troupe_client::{Client, ClientError, ConsumerRecord, ReaderConfig, Start};

const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at what a group has committed.
const COMMITS_INTERVAL: Duration = Duration::from_millis(200);
const CALL: Duration = Duration::from_secs(2);
/// Clocks may differ by as much, and the first records are a little older than the run.
const LOOK_BACK_MS: u64 = 60_000;

/// Topics, and a group, of somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchConfig {
    pub topics: Vec<String>,
    pub group: Option<String>,
}

/// Says of each record that becomes readable that it did, for ever.
pub async fn follow(client: Client, topic: String, recorder: Arc<Recorder>) {
    let mut start = Start::Latest;
    loop {
        let config = ReaderConfig { start: start.clone(), ..ReaderConfig::default() };
        let error = match client.reader(&topic, config).await {
            Ok(reader) => {
                let mut records = reader.records();
                loop {
                    match records.next().await {
                        Some(Ok(record)) => {
                            let place = Place::new(record.topic.clone(), record.partition.0);
                            recorder.note(Event::Appended { place });
                        }
                        Some(Err(error)) => break Some(error),
                        None => break None,
                    }
                }
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            recorder.note(Event::MemberFailed { error: kind_of(&error) });
        }
        // From here on: what came meanwhile is not looked for, and nothing is counted twice.
        start = Start::Latest;
        sleep(PAUSE).await;
    }
}

/// Says of each partition of which the group has committed more that it did, for ever.
pub async fn follow_commits(client: Client, group: String, recorder: Arc<Recorder>) {
    let mut known: BTreeMap<Place, i64> = BTreeMap::new();
    loop {
        let asked = timeout(CALL, client.admin().list_group_offsets(&group, Vec::new())).await;
        if let Ok(Ok(offsets)) = asked {
            for committed in offsets {
                let (Some(at), Some(offset)) = (committed.partition, committed.offset) else {
                    continue;
                };
                let place = Place::new(at.topic, u32::try_from(at.partition).unwrap_or_default());
                let before = known.insert(place.clone(), offset.offset);
                if before.is_some_and(|before| before != offset.offset) {
                    recorder.note(Event::Delivered { place, sequence: None });
                }
            }
        }
        sleep(COMMITS_INTERVAL).await;
    }
}

/// All that the topic holds of the run.
///
/// # Errors
/// It cannot be read to its end.
pub async fn read_back(
    client: &Client,
    topic: &str,
    run: Run,
    recorder: &Recorder,
) -> Result<(), ClientError> {
    let since = recorder.began_ms().saturating_sub(LOOK_BACK_MS);
    let config = ReaderConfig {
        start: Start::Timestamp(i64::try_from(since).unwrap_or(i64::MAX)),
        until_end: true,
        ..ReaderConfig::default()
    };
    let mut batches = Box::pin(client.reader(topic, config).await?.batches());
    while let Some(batch) = batches.next().await {
        let records: Vec<ConsumerRecord> = batch?.records().collect::<Result<_, _>>()?;
        recorder.note_all(records.iter().filter_map(|record| {
            let sequence = run.sequence_of(record)?;
            let place = Place::new(record.topic.clone(), record.partition.0);
            Some(Event::Found { place, sequence })
        }));
    }
    Ok(())
}

//! The members of the run's group: they read, and say what they got.

use crate::load::{Run, kind_of, told};
use crate::measure::{Event, Place};
use crate::recorder::Recorder;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use troupe_client::{AutoOffsetReset, Client, ClientError, Consumer, ConsumerConfig};

const POLL: Duration = Duration::from_millis(500);
/// Before it is polled again after an error, and before another takes the place of a member that cannot go on.
const PAUSE: Duration = Duration::from_millis(100);
const CLOSE: Duration = Duration::from_secs(5);

/// What a member needs to know.
#[derive(Clone)]
pub struct Membership {
    pub client: Client,
    pub group: String,
    pub topic: String,
    pub run: Run,
}

/// Reads until it is told to stop, then leaves.
pub async fn read(
    membership: Membership,
    recorder: Arc<Recorder>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let failed = |error: &ClientError| {
            recorder.note(Event::MemberFailed { error: kind_of(error) });
        };
        match consumer(&membership) {
            Ok(mut consumer) => {
                let failure = tokio::select! {
                    failure = poll(&membership, &mut consumer, &recorder) => failure,
                    () = told(&mut stop) => {
                        // Whatever it could not commit, nobody goes on from there.
                        let _ = consumer.close(CLOSE).await;
                        return;
                    }
                };
                failed(&failure);
            }
            Err(error) => failed(&error),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = told(&mut stop) => return,
        }
    }
}

fn consumer(membership: &Membership) -> Result<Consumer, ClientError> {
    let mut consumer = membership.client.consumer(ConsumerConfig {
        client_id: "troupe-chaos".to_owned(),
        // What others sent before is not its own; what this run sends before it has joined is.
        auto_offset_reset: AutoOffsetReset::ByDuration(Duration::from_secs(60)),
        auto_commit_interval: Duration::from_secs(1),
        ..ConsumerConfig::new(&membership.group)
    })?;
    consumer.subscribe([membership.topic.as_str()])?;
    Ok(consumer)
}

/// Until this member cannot go on.
async fn poll(
    membership: &Membership,
    consumer: &mut Consumer,
    recorder: &Recorder,
) -> ClientError {
    loop {
        match consumer.poll(POLL).await {
            Ok(records) => recorder.note_all(records.iter().map(|record| Event::Delivered {
                place: Place::new(record.topic.clone(), record.partition.0),
                sequence: membership.run.sequence_of(record),
            })),
            Err(error) if error.is_retriable() => {
                recorder.note(Event::MemberFailed { error: kind_of(&error) });
                sleep(PAUSE).await;
            }
            Err(error) => return error,
        }
    }
}

//! Reading as a member of a group, for clients that have nothing but generated stubs.
//!
//! ```text
//!  Subscribe ══ stream ─┐            ┌─ Membership ══ the group's coordinator
//!  Pull ─── pull ───────┼─► Session ─┼─ Intake ◄── TopicReader ◄── leaders
//!  Settle ─ settle ─────┘            └─ Deliveries: a Ledger for each partition, and the Window
//! ```
//!
//! [`deliveries::Deliveries`], [`ledger::Ledger`] and [`window::Window`] decide, without time, log or network of their own.
//!
//! Promises: a record is committed only after it and all before it in its partition were acknowledged; one that was
//! acknowledged is not delivered again by the session; one that takes long never costs the membership; every id that
//! is settled gets a true answer, wherever it was given out.
//! Never here: who is assigned what (the group's coordinator), or where a partition is led.

mod ack_id;
mod deliveries;
mod intake;
mod jobs;
mod ledger;
mod membership;
mod options;
mod pull;
mod receipts;
mod session;
mod sessions;
mod settle;
mod stream;
mod window;

pub use sessions::Subscriptions;

use super::event_bus::{find_topic, known_topic};
use crate::context::Context;
use crate::grpc::{Connection, DemandSender, Requests};
use options::Options;
use pull::Caller;
pub(super) use sessions::Answer;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::{Request, Status};
use troupe_proto::error::Error;
use troupe_proto::v1 as pb;

/// Opens a session on the stream. What is wrong with it, the stream says.
pub(super) fn subscribe(context: &Arc<Context>, request: Request<Requests>, out: DemandSender) {
    let host = host_of(&request);
    tokio::spawn(stream::run(Arc::clone(context), host, request.into_inner(), out));
}

/// Deliveries of a session that is held between calls.
///
/// # Errors
/// As for a stream.
pub(super) async fn pull(
    context: &Arc<Context>,
    mut request: Request<Requests>,
) -> Result<Answer, Status> {
    let caller = Caller::of(&request, Instant::now());
    let asked = request.get_mut().only().await?;
    Ok(pull::pull(context, caller, asked).await?)
}

/// Settles ids, whoever gave them out.
///
/// # Errors
/// `INVALID_REQUEST`.
pub(super) async fn settle(
    context: &Arc<Context>,
    request: Request<pb::SettleRequest>,
) -> Result<pb::SettleResponse, Error> {
    settle::settle(context, request).await
}

pub(super) fn host_of<T>(request: &Request<T>) -> String {
    let connection = Connection::of(request.extensions());
    connection.and_then(Connection::remote_ip).map(|ip| ip.to_string()).unwrap_or_default()
}

/// The options, if they make sense and their topics are there.
async fn checked(context: &Context, asked: pb::SubscriptionOptions) -> Result<Options, Error> {
    let options = Options::parse(asked)?;
    for topic in &options.subscription.topics {
        // One that may not be written may be read.
        if known_topic(context, topic).await.is_err() {
            find_topic(context, topic).await?;
        }
    }
    Ok(options)
}

//! The gRPC services. They speak to partitions through handles and never see a log; errors become
//! `tonic::Status` in `troupe_proto::error` alone.

mod chaos;
mod cluster;
mod commits;
mod delivery;
mod distress;
mod event_bus;
mod fetch;
mod groups;
mod health;
mod log;
mod metadata;
mod partitions;
mod produce;
mod publish;
mod replicas;
mod subscription;
mod tail;
mod thin;
mod topics;

pub use chaos::Chaos;
pub use cluster::Cluster;
pub use commits::Commits;
pub use delivery::DeliveryPool;
pub use event_bus::EventBus;
pub use groups::Groups;
pub use health::{health, is_ready};
pub use log::LogService;
pub use metadata::{Metadata, active_controller};
pub use subscription::Subscriptions;
pub use thin::ThinService;
pub use topics::{Topics, create as create_topic};

use troupe_machines::cluster::is_internal_name;
use troupe_proto::error::{Error, ErrorCode};

/// What clients may not write to: the node alone keeps its topics.
///
/// # Errors
/// `INVALID_TOPIC`.
fn check_writable(topic: &str) -> Result<(), Error> {
    if !is_internal_name(topic) {
        return Ok(());
    }
    let message = format!(
        "topic `{topic}` is the cluster's own, as all are whose names begin with `__`: it can be read, and only \
         brokers make it and write to it"
    );
    Err(Error::new(ErrorCode::InvalidTopic, message).with("topic", topic))
}

/// Page size and token of a listing.
struct Page<'a> {
    size: usize,
    token: &'a str,
}

impl<'a> Page<'a> {
    fn new(size: i32, token: &'a str) -> Result<Self, Error> {
        const DEFAULT: usize = 1_000;
        match usize::try_from(size) {
            Ok(0) => Ok(Self { size: DEFAULT, token }),
            Ok(size) => Ok(Self { size: size.min(10 * DEFAULT), token }),
            Err(_) => {
                let message = format!("page_size {size} is negative");
                Err(Error::new(ErrorCode::InvalidRequest, message))
            }
        }
    }

    /// One page of `items`, which are sorted by `key`, and the token of the next.
    fn cut<T>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, String) {
        let mut items =
            items.filter(|item| self.token.is_empty() || key(item).as_str() > self.token);
        let page: Vec<T> = items.by_ref().take(self.size).collect();
        let more = items.next().is_some();
        let token = page.last().filter(|_| more).map(&key).unwrap_or_default();
        (page, token)
    }
}

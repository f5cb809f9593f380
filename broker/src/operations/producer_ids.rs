//! Producer ids from the controller, a block at a time.

use super::produce::DEFAULT_REQUEST_TIMEOUT;
use crate::forward::{ActiveController, until_active};
use crate::txn::Ids;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;
use troupe_machines::cluster::ProducerIdBlock;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::ProducerId;

pub struct ProducerIds {
    controller: Arc<ActiveController>,
    block: Mutex<Option<ProducerIdBlock>>,
}

impl ProducerIds {
    pub fn new(controller: Arc<ActiveController>) -> Self {
        Self { controller, block: Mutex::default() }
    }

    /// An id that nobody has had. Two callers that find the block empty at once fetch two; one block's
    /// ids are then never given out.
    pub async fn next(&self) -> Result<ProducerId, Error> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            // A block that was given out and did not arrive is lost, and that is all.
            let allocate = || async {
                self.controller.channel.allocate_producer_ids().await.map_err(|error| {
                    match error.code {
                        ErrorCode::OutcomeUnknown => {
                            Error { code: ErrorCode::NotController, ..error }
                        }
                        _ => error,
                    }
                })
            };
            let deadline = Instant::now() + DEFAULT_REQUEST_TIMEOUT;
            let block = until_active(&self.controller.metadata, deadline, allocate).await?;
            *self.block.lock().unwrap_or_else(PoisonError::into_inner) = Some(block);
        }
    }

    /// So many, as [`ProducerIds::next`].
    async fn several(&self, count: usize) -> Result<Vec<ProducerId>, Error> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            ids.push(self.next().await?);
        }
        Ok(ids)
    }

    fn take(&self) -> Option<ProducerId> {
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let left = block.as_mut().filter(|left| left.len > 0)?;
        let id = left.first;
        left.first = ProducerId(id.0 + 1);
        left.len -= 1;
        Some(id)
    }
}

impl Ids for ProducerIds {
    fn fresh(&self, count: usize) -> BoxFuture<'_, Result<Vec<ProducerId>, Error>> {
        Box::pin(self.several(count))
    }
}

//! `troupe.internal.v1.TransactionService` over [`Transactions`].

use crate::forward::Call;
use crate::operations::Transactions;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use troupe_proto::internal::v1 as pb;
use troupe_proto::internal::v1::transaction_service_server::TransactionService;

pub struct MarkerDoor(pub Arc<Transactions>);

#[tonic::async_trait]
impl TransactionService for MarkerDoor {
    async fn write_markers(
        &self,
        request: Request<pb::WriteMarkersRequest>,
    ) -> Result<Response<pb::WriteMarkersResponse>, Status> {
        let Call { deadline, .. } = Call::of(&request)?;
        Ok(Response::new(self.0.write_markers(request.into_inner(), deadline).await))
    }

    async fn add_for_producer(
        &self,
        request: Request<pb::AddForProducerRequest>,
    ) -> Result<Response<pb::AddForProducerResponse>, Status> {
        let call = Call::of(&request)?;
        self.0.add_for_producer(request.into_inner(), call).await?;
        Ok(Response::new(pb::AddForProducerResponse {}))
    }
}

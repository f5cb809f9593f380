//! Records with keys and values of the application's own, on their way in.

use super::{Delivery, Producer, ProducerRecord, RecordMetadata};
use crate::error::ClientError;
use crate::formats::{RecordField, Serializer};
use bytes::Bytes;
use std::sync::Arc;
use troupe_proto::ids::PartitionId;

/// A record with a key and a value of the application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedProducerRecord<K, V> {
    pub topic: String,
    /// Unset: the partitioner decides.
    pub partition: Option<PartitionId>,
    /// Milliseconds since 1970. Unset: now.
    pub timestamp_ms: Option<i64>,
    /// None is no key.
    pub key: Option<K>,
    /// None is a tombstone.
    pub value: Option<V>,
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl<K, V> TypedProducerRecord<K, V> {
    /// A record without key, value and headers.
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    #[must_use]
    pub fn key(mut self, key: K) -> Self {
        self.key = Some(key);
        self
    }

    #[must_use]
    pub fn value(mut self, value: V) -> Self {
        self.value = Some(value);
        self
    }

    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(PartitionId(partition));
        self
    }

    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

/// A producer whose records have keys and values of the application's. Cheap to clone, as [`Producer`] is.
///
/// ```no_run
/// use troupe_client::formats::{Int64, Json};
/// use troupe_client::{ClientError, Producer, TypedProducerRecord};
///
/// #[derive(serde::Serialize)]
/// struct Order {
///     article: String,
///     pieces: u32,
/// }
///
/// # async fn example(producer: Producer) -> Result<(), ClientError> {
/// let orders = producer.typed(Int64, Json::new());
/// let order = Order { article: "chair".to_owned(), pieces: 4 };
/// let record = TypedProducerRecord::new("orders").key(17).value(order);
/// let placed = orders.send(record).await?.await?;
/// # Ok(())
/// # }
/// ```
pub struct TypedProducer<K, V> {
    producer: Producer,
    key: Arc<dyn Serializer<K>>,
    value: Arc<dyn Serializer<V>>,
}

impl<K, V> Clone for TypedProducer<K, V> {
    fn clone(&self) -> Self {
        Self { producer: self.producer.clone(), key: self.key.clone(), value: self.value.clone() }
    }
}

impl Producer {
    /// This producer with typed records.
    pub fn typed<K, V>(
        &self,
        key: impl Serializer<K> + 'static,
        value: impl Serializer<V> + 'static,
    ) -> TypedProducer<K, V> {
        TypedProducer { producer: self.clone(), key: Arc::new(key), value: Arc::new(value) }
    }
}

impl<K, V> TypedProducer<K, V> {
    /// As [`Producer::send`].
    ///
    /// # Errors
    /// [`ClientError::Serialization`], and those of [`Producer::send`]. The record surely was not sent.
    pub async fn send(&self, record: TypedProducerRecord<K, V>) -> Result<Delivery, ClientError> {
        self.producer.send(self.serialize(record)?).await
    }

    /// As [`Producer::send_with`].
    ///
    /// # Errors
    /// As [`TypedProducer::send`].
    pub async fn send_with(
        &self,
        record: TypedProducerRecord<K, V>,
        callback: impl FnOnce(Result<RecordMetadata, ClientError>) + Send + 'static,
    ) -> Result<(), ClientError> {
        self.producer.send_with(self.serialize(record)?, callback).await
    }

    /// The record as bytes, for a transaction, or to be sent elsewhere.
    ///
    /// # Errors
    /// [`ClientError::Serialization`].
    pub fn serialize(
        &self,
        record: TypedProducerRecord<K, V>,
    ) -> Result<ProducerRecord, ClientError> {
        let TypedProducerRecord { topic, partition, timestamp_ms, key, value, headers } = record;
        let key = field(&*self.key, RecordField::Key, &topic, key.as_ref())?;
        let value = field(&*self.value, RecordField::Value, &topic, value.as_ref())?;
        Ok(ProducerRecord { topic, partition, timestamp_ms, key, value, headers })
    }

    /// The producer, for everything else.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }
}

fn field<T>(
    format: &dyn Serializer<T>,
    field: RecordField,
    topic: &str,
    value: Option<&T>,
) -> Result<Option<Bytes>, ClientError> {
    let bytes = value.map(|value| format.serialize(topic, value)).transpose();
    bytes.map_err(|error| ClientError::Serialization {
        topic: topic.to_owned(),
        field,
        what: error.to_string(),
    })
}

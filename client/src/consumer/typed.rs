//! Records as values of the application's own.

use super::Consumer;
use crate::error::ClientError;
use crate::exclusive::Exclusive;
use crate::fetcher::ConsumerRecord;
use crate::formats::{BoxError, Deserializer, RecordField};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::time::Duration;
use troupe_proto::ids::{Offset, PartitionId};

/// A record with a key and a value of the application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedRecord<K, V> {
    pub topic: Arc<str>,
    pub partition: PartitionId,
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    pub key: K,
    pub value: V,
    pub headers: Vec<(String, Option<bytes::Bytes>)>,
}

impl ConsumerRecord {
    /// With its key and value made into something.
    ///
    /// # Errors
    /// [`ClientError::Deserialization`].
    pub fn deserialize<K, V>(
        self,
        key: &(impl Deserializer<K> + ?Sized),
        value: &(impl Deserializer<V> + ?Sized),
    ) -> Result<TypedRecord<K, V>, ClientError> {
        let failed = |field, error: BoxError| ClientError::Deserialization {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: self.offset,
            field,
            what: error.to_string(),
        };
        let typed_key = key
            .deserialize(&self.topic, self.key.as_ref())
            .map_err(|error| failed(RecordField::Key, error))?;
        let typed_value = value
            .deserialize(&self.topic, self.value.as_ref())
            .map_err(|error| failed(RecordField::Value, error))?;
        Ok(TypedRecord {
            topic: self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: typed_key,
            value: typed_value,
            headers: self.headers,
        })
    }
}

/// A consumer whose records have keys and values of the application's.
///
/// ```no_run
/// use troupe_client::formats::Text;
/// use std::time::Duration;
///
/// # async fn example(consumer: troupe_client::Consumer) -> Result<(), troupe_client::ClientError> {
/// let mut consumer = consumer.typed(Text, Text);
/// for record in consumer.poll(Duration::from_secs(1)).await? {
///     println!("{:?} = {:?}", record.key, record.value);
/// }
/// # Ok(())
/// # }
/// ```
pub struct TypedConsumer<K, V> {
    consumer: Consumer,
    key: Exclusive<Box<dyn Deserializer<K>>>,
    value: Exclusive<Box<dyn Deserializer<V>>>,
    /// Records were returned instead of it.
    failed: Option<ClientError>,
}

impl Consumer {
    /// This consumer with typed records.
    pub fn typed<K, V>(
        self,
        key: impl Deserializer<K> + 'static,
        value: impl Deserializer<V> + 'static,
    ) -> TypedConsumer<K, V> {
        TypedConsumer {
            consumer: self,
            key: Exclusive::new(Box::new(key)),
            value: Exclusive::new(Box::new(value)),
            failed: None,
        }
    }
}

impl<K, V> TypedConsumer<K, V> {
    /// As [`Consumer::poll`]. A record that cannot be deserialised is an error; the position of its partition
    /// stays there (C19), and what was polled of others is not lost.
    ///
    /// # Errors
    /// [`ClientError::Deserialization`], and those of [`Consumer::poll`].
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<TypedRecord<K, V>>, ClientError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let polled = self.consumer.poll(timeout).await?;
        let mut records = Vec::with_capacity(polled.len());
        let mut stopped = BTreeSet::new();
        for record in polled {
            let (at, offset) = (record.topic_partition(), record.offset);
            if stopped.contains(&at) {
                continue;
            }
            match record.deserialize(&**self.key.get_mut(), &**self.value.get_mut()) {
                Ok(record) => records.push(record),
                Err(error) => {
                    self.consumer.seek(&at, offset)?;
                    self.failed.get_or_insert(error);
                    stopped.insert(at);
                }
            }
        }
        match self.failed.take_if(|_| records.is_empty()) {
            Some(error) => Err(error),
            None => Ok(records),
        }
    }

    /// As [`Consumer::next`].
    ///
    /// # Errors
    /// As [`TypedConsumer::poll`].
    pub async fn next(&mut self) -> Result<TypedRecord<K, V>, ClientError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let record = self.consumer.next().await?;
        let (at, offset) = (record.topic_partition(), record.offset);
        match record.deserialize(&**self.key.get_mut(), &**self.value.get_mut()) {
            Ok(record) => Ok(record),
            Err(error) => {
                self.consumer.seek(&at, offset)?;
                Err(error)
            }
        }
    }

    /// The consumer, for everything else.
    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    pub fn into_inner(self) -> Consumer {
        self.consumer
    }
}

//! Keys and values of the application's own types as bytes, and back: what [`Producer::typed`](crate::Producer::typed) and
//! [`Consumer::typed`](crate::Consumer::typed) take. The bytes are those of Kafka's serialisers of the same names, so
//! that clients of both read each other's topics.
//!
//! | here | in Kafka | the bytes |
//! |---|---|---|
//! | [`Bytes`] | ByteArray, Bytes | as they are |
//! | [`Text`] | String | UTF-8 |
//! | [`Int16`], [`Int32`], [`Int64`] | Short, Integer, Long | 2, 4, 8, the highest first |
//! | [`Float32`], [`Float64`] | Float, Double | IEEE 754, the highest first |
//! | [`Uuid`] | UUID | its text, 36 characters |
//! | [`Json`] | – | JSON, by serde |
//! | [`Protobuf`] | – | a message of prost's, without any framing |
//!
//! Each reads `Option`s: None is no key, or a tombstone; [`Required`] refuses those. A closure is a format too.

mod numbers;

pub use numbers::{Float32, Float64, Int16, Int32, Int64};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;

/// Whatever a serialiser or deserialiser says is wrong.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Which part of a record it is that something is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordField {
    Key,
    Value,
}

impl fmt::Display for RecordField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}

/// Makes bytes of values. Closures do too.
pub trait Serializer<T>: Send + Sync {
    /// Keys and values that there are; those that there are not need no bytes.
    ///
    /// # Errors
    /// The value has no such form.
    fn serialize(&self, topic: &str, value: &T) -> Result<bytes::Bytes, BoxError>;
}

impl<T, F> Serializer<T> for F
where
    F: Fn(&str, &T) -> Result<bytes::Bytes, BoxError> + Send + Sync,
{
    fn serialize(&self, topic: &str, value: &T) -> Result<bytes::Bytes, BoxError> {
        self(topic, value)
    }
}

/// Makes values of bytes. Closures do too.
pub trait Deserializer<T>: Send + Sync {
    /// `data`: None is no key, or a tombstone.
    ///
    /// # Errors
    /// The bytes are no such value.
    fn deserialize(&self, topic: &str, data: Option<&bytes::Bytes>) -> Result<T, BoxError>;
}

impl<T, F> Deserializer<T> for F
where
    F: Fn(&str, Option<&bytes::Bytes>) -> Result<T, BoxError> + Send + Sync,
{
    fn deserialize(&self, topic: &str, data: Option<&bytes::Bytes>) -> Result<T, BoxError> {
        self(topic, data)
    }
}

/// The bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes;

impl<T: AsRef<[u8]>> Serializer<T> for Bytes {
    fn serialize(&self, _: &str, value: &T) -> Result<bytes::Bytes, BoxError> {
        Ok(bytes::Bytes::copy_from_slice(value.as_ref()))
    }
}

impl Deserializer<Option<bytes::Bytes>> for Bytes {
    fn deserialize(
        &self,
        _: &str,
        data: Option<&bytes::Bytes>,
    ) -> Result<Option<bytes::Bytes>, BoxError> {
        Ok(data.cloned())
    }
}

/// UTF-8.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl<T: AsRef<str>> Serializer<T> for Text {
    fn serialize(&self, _: &str, value: &T) -> Result<bytes::Bytes, BoxError> {
        Ok(bytes::Bytes::copy_from_slice(value.as_ref().as_bytes()))
    }
}

impl Deserializer<Option<String>> for Text {
    fn deserialize(
        &self,
        _: &str,
        data: Option<&bytes::Bytes>,
    ) -> Result<Option<String>, BoxError> {
        Ok(data.map(|data| str::from_utf8(data).map(str::to_owned)).transpose()?)
    }
}

/// The text of a UUID, `f81d4fae-7dec-11d0-a765-00a0c91e6bf6`; read in any of its usual forms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uuid;

impl Serializer<uuid::Uuid> for Uuid {
    fn serialize(&self, _: &str, value: &uuid::Uuid) -> Result<bytes::Bytes, BoxError> {
        Ok(value.hyphenated().to_string().into())
    }
}

impl Deserializer<Option<uuid::Uuid>> for Uuid {
    fn deserialize(
        &self,
        _: &str,
        data: Option<&bytes::Bytes>,
    ) -> Result<Option<uuid::Uuid>, BoxError> {
        Ok(data.map(|data| uuid::Uuid::try_parse_ascii(data)).transpose()?)
    }
}

/// JSON of whatever serde can.
pub struct Json<T>(PhantomData<fn(T) -> T>);

impl<T> Json<T> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Json<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Serialize> Serializer<T> for Json<T> {
    fn serialize(&self, _: &str, value: &T) -> Result<bytes::Bytes, BoxError> {
        Ok(serde_json::to_vec(value)?.into())
    }
}

impl<T: DeserializeOwned> Deserializer<Option<T>> for Json<T> {
    fn deserialize(&self, _: &str, data: Option<&bytes::Bytes>) -> Result<Option<T>, BoxError> {
        Ok(data.map(|data| serde_json::from_slice(data)).transpose()?)
    }
}

/// A message that prost generates.
pub struct Protobuf<M>(PhantomData<fn(M) -> M>);

impl<M> Protobuf<M> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<M> Default for Protobuf<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: prost::Message> Serializer<M> for Protobuf<M> {
    fn serialize(&self, _: &str, value: &M) -> Result<bytes::Bytes, BoxError> {
        Ok(value.encode_to_vec().into())
    }
}

impl<M: prost::Message + Default> Deserializer<Option<M>> for Protobuf<M> {
    fn deserialize(&self, _: &str, data: Option<&bytes::Bytes>) -> Result<Option<M>, BoxError> {
        Ok(data.map(|data| M::decode(data.clone())).transpose()?)
    }
}

/// Of records that always have this field: none is an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Required<F>(pub F);

impl<T, F: Deserializer<Option<T>>> Deserializer<T> for Required<F> {
    fn deserialize(&self, topic: &str, data: Option<&bytes::Bytes>) -> Result<T, BoxError> {
        self.0.deserialize(topic, data)?.ok_or_else(|| "there is none".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use troupe_proto::log::v1::TopicPartition;

    fn bytes_of<T>(format: impl Serializer<T>, value: T) -> Vec<u8> {
        format.serialize("t", &value).unwrap().to_vec()
    }

    fn there_and_back<T, F>(format: F, value: T)
    where
        T: PartialEq + Debug + Clone,
        F: Serializer<T> + Deserializer<Option<T>>,
    {
        let bytes = format.serialize("t", &value).unwrap();
        assert_eq!(format.deserialize("t", Some(&bytes)).unwrap(), Some(value.clone()));
        assert_eq!(format.deserialize("t", None).unwrap(), None, "a tombstone");
        let required = Required(format);
        assert_eq!(required.deserialize("t", Some(&bytes)).unwrap(), value);
        assert_eq!(required.deserialize("t", None).unwrap_err().to_string(), "there is none");
    }

    #[test]
    fn what_is_written_is_read() {
        there_and_back(Bytes, bytes::Bytes::from_static(b"\0\xff"));
        there_and_back(Text, "größer".to_owned());
        there_and_back(Int16, i16::MIN);
        there_and_back(Int32, -2);
        there_and_back(Int64, i64::MAX);
        there_and_back(Float32, 0.5);
        there_and_back(Float64, -0.25);
        there_and_back(Uuid, uuid::Uuid::from_u128(7));
        there_and_back(Json::new(), BTreeMap::from([("a".to_owned(), vec![1, 2])]));
        let message = TopicPartition { topic: "t".to_owned(), partition: 3, ..Default::default() };
        there_and_back(Protobuf::new(), message);
    }

    /// As ShortSerializer, IntegerSerializer, LongSerializer, FloatSerializer, DoubleSerializer, UUIDSerializer have them.
    #[test]
    fn the_bytes_are_kafka_s() {
        assert_eq!(bytes_of(Int16, 258), [1, 2]);
        assert_eq!(bytes_of(Int32, -2), [255, 255, 255, 254]);
        assert_eq!(bytes_of(Int64, 1), [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes_of(Float32, 1.0), [0x3f, 0x80, 0, 0]);
        assert_eq!(bytes_of(Float64, 1.0), [0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        let text = b"00000000-0000-0000-0000-000000000007";
        assert_eq!(bytes_of(Uuid, uuid::Uuid::from_u128(7)), text);
        assert_eq!(bytes_of(Text, "a"), b"a");
        assert_eq!(bytes_of(Bytes, [1, 2]), [1, 2]);
    }

    #[test]
    fn bytes_of_another_form_are_refused_with_the_reason() {
        fn wrong<T: Debug>(format: impl Deserializer<Option<T>>, bytes: &'static [u8]) -> String {
            let bytes = bytes::Bytes::from_static(bytes);
            format.deserialize("t", Some(&bytes)).unwrap_err().to_string()
        }
        assert_eq!(wrong(Int32, b"123"), "3 bytes, where 4 were expected");
        assert_eq!(wrong(Int64, b""), "0 bytes, where 8 were expected");
        assert!(wrong(Text, b"\xff").contains("utf-8"));
        assert!(wrong(Uuid, b"1234").contains("UUID"), "{}", wrong(Uuid, b"1234"));
        assert!(wrong(Json::<u8>::new(), b"300").contains("line 1"));
        assert!(!wrong(Protobuf::<TopicPartition>::new(), b"\x0a\x05a").is_empty());
    }
}

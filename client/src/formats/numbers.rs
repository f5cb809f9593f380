//! Numbers, the highest byte first.

use super::{BoxError, Deserializer, Serializer};

macro_rules! numbers {
    ($($(#[$about:meta])* $name:ident: $number:ty;)+) => {
        $(
            $(#[$about])*
            #[derive(Clone, Copy, Debug, Default)]
            pub struct $name;

            impl Serializer<$number> for $name {
                fn serialize(&self, _: &str, value: &$number) -> Result<bytes::Bytes, BoxError> {
                    Ok(bytes::Bytes::copy_from_slice(&value.to_be_bytes()))
                }
            }

            impl Deserializer<Option<$number>> for $name {
                fn deserialize(
                    &self,
                    _: &str,
                    data: Option<&bytes::Bytes>,
                ) -> Result<Option<$number>, BoxError> {
                    data.map(|data| Ok(<$number>::from_be_bytes(exactly(data)?))).transpose()
                }
            }
        )+
    };
}

numbers! {
    /// Two bytes: Kafka's Short.
    Int16: i16;
    /// Four bytes: Kafka's Integer.
    Int32: i32;
    /// Eight bytes: Kafka's Long.
    Int64: i64;
    /// Four bytes: Kafka's Float.
    Float32: f32;
    /// Eight bytes: Kafka's Double.
    Float64: f64;
}

fn exactly<const LEN: usize>(data: &bytes::Bytes) -> Result<[u8; LEN], BoxError> {
    let actual = data.len();
    data[..].try_into().map_err(|_| format!("{actual} bytes, where {LEN} were expected").into())
}

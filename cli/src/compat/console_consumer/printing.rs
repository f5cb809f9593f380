//! How a record is printed: Kafka's formatters and deserializers that need no Java.

use crate::compat::ended::Ended;
use crate::compat::options::Given;
use crate::compat::properties::Properties;
use crate::decoder::Decoder;
use crate::streams::notice;
use troupe_client::ConsumerRecord;

/// How it is printed.
#[derive(Debug)]
pub enum Formatter {
    Plain(Box<Plain>),
    Nothing,
    Decoded(Decoder),
}

/// What stands in a line, in this order.
#[derive(Debug)]
pub struct Plain {
    timestamp: bool,
    partition: bool,
    offset: bool,
    headers: bool,
    key: bool,
    value: bool,
    separator: String,
    end: String,
    headers_separator: String,
    null: String,
    keys: Kind,
    values: Kind,
}

/// What bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Long,
    Short,
    Float,
    Double,
    Uuid,
}

const KNOWN: [&str; 14] = [
    "print.timestamp",
    "print.partition",
    "print.offset",
    "print.headers",
    "print.key",
    "print.value",
    "key.separator",
    "line.separator",
    "headers.separator",
    "null.literal",
    "key.deserializer",
    "value.deserializer",
    "headers.deserializer",
    "print.epoch",
];

impl Formatter {
    /// # Errors
    /// A class that there is not.
    pub fn new(given: &Given) -> Result<Formatter, Ended> {
        let class = given.value("formatter")?.unwrap_or("DefaultMessageFormatter");
        let package = "org.apache.kafka.tools.consumer.";
        match class.strip_prefix(package).unwrap_or(class) {
            "DefaultMessageFormatter" | "LoggingMessageFormatter" => {
                Ok(Formatter::Plain(Box::new(Plain::new(given)?)))
            }
            "NoOpMessageFormatter" => Ok(Formatter::Nothing),
            "OffsetsMessageFormatter" | "GroupMetadataMessageFormatter" => {
                Ok(Formatter::Decoded(Decoder::Offsets))
            }
            "TransactionLogMessageFormatter" => Ok(Formatter::Decoded(Decoder::Transactions)),
            _ => Err(given.usage(class)),
        }
    }

    /// # Errors
    /// It is none of what it was said to be.
    pub fn print(
        &self,
        record: &ConsumerRecord,
        is_append_time: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self {
            Formatter::Plain(plain) => plain.print(record, is_append_time, out),
            Formatter::Nothing => Ok(()),
            Formatter::Decoded(decoder) => {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let decoded = decoder.decode_parts(record.offset, key, value)?;
                out.extend_from_slice(decoded.to_string().as_bytes());
                out.push(b'\n');
                Ok(())
            }
        }
    }
}

impl Plain {
    fn new(given: &Given) -> Result<Plain, Ended> {
        let properties = Properties::read(given.value("formatter-config")?)?;
        let properties = properties.and(&given.values("property"))?;
        for (key, _) in properties.pairs() {
            if !KNOWN.contains(&key.as_str()) {
                notice!("WARN: {key} has no effect here");
            }
        }
        let is_on = |key, default| {
            properties.get(key).map_or(default, |text| text.trim().eq_ignore_ascii_case("true"))
        };
        let text = |key, default: &str| properties.get(key).unwrap_or(default).to_owned();
        let kind = |option, key| {
            let class = given.value(option)?.or(properties.get(key));
            class.map_or(Ok(Kind::Text), kind)
        };
        Ok(Plain {
            timestamp: is_on("print.timestamp", false),
            partition: is_on("print.partition", false),
            offset: is_on("print.offset", false),
            headers: is_on("print.headers", false),
            key: is_on("print.key", false),
            value: is_on("print.value", true),
            separator: text("key.separator", "\t"),
            end: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null: text("null.literal", "null"),
            keys: kind("key-deserializer", "key.deserializer")?,
            values: kind("value-deserializer", "value.deserializer")?,
        })
    }

    fn print(
        &self,
        record: &ConsumerRecord,
        is_append_time: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let begin = out.len();
        let mut is_first = true;
        let mut field = |out: &mut Vec<u8>| {
            if !std::mem::take(&mut is_first) {
                out.extend_from_slice(self.separator.as_bytes());
            }
        };
        if self.timestamp {
            field(out);
            let kind = if is_append_time { "LogAppendTime" } else { "CreateTime" };
            out.extend_from_slice(format!("{kind}:{}", record.timestamp_ms).as_bytes());
        }
        if self.partition {
            field(out);
            out.extend_from_slice(format!("Partition:{}", record.partition.0).as_bytes());
        }
        if self.offset {
            field(out);
            out.extend_from_slice(format!("Offset:{}", record.offset.0).as_bytes());
        }
        if self.headers {
            field(out);
            if record.headers.is_empty() {
                out.extend_from_slice(b"NO_HEADERS");
            }
            for (at, (name, value)) in record.headers.iter().enumerate() {
                if at > 0 {
                    out.extend_from_slice(self.headers_separator.as_bytes());
                }
                out.extend_from_slice(format!("{name}:").as_bytes());
                self.write(Kind::Text, value.as_deref(), out)?;
            }
        }
        let mut told = Ok(());
        if self.key {
            field(out);
            told = self.write(self.keys, record.key.as_deref(), out);
        }
        if self.value {
            field(out);
            told = told.and(self.write(self.values, record.value.as_deref(), out));
        }
        out.extend_from_slice(self.end.as_bytes());
        if told.is_err() {
            out.truncate(begin);
        }
        told
    }

    fn write(&self, kind: Kind, bytes: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), String> {
        let Some(bytes) = bytes else {
            out.extend_from_slice(self.null.as_bytes());
            return Ok(());
        };
        let text = match kind {
            Kind::Text => {
                out.extend_from_slice(bytes);
                return Ok(());
            }
            Kind::Integer => i32::from_be_bytes(of_size(bytes, "IntegerDeserializer")?).to_string(),
            Kind::Long => i64::from_be_bytes(of_size(bytes, "LongDeserializer")?).to_string(),
            Kind::Short => i16::from_be_bytes(of_size(bytes, "ShortDeserializer")?).to_string(),
            Kind::Float => {
                format!("{:?}", f32::from_be_bytes(of_size(bytes, "FloatDeserializer")?))
            }
            Kind::Double => {
                format!("{:?}", f64::from_be_bytes(of_size(bytes, "DoubleDeserializer")?))
            }
            Kind::Uuid => String::from_utf8_lossy(bytes).into_owned(),
        };
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn of_size<const SIZE: usize>(bytes: &[u8], class: &str) -> Result<[u8; SIZE], String> {
    bytes.try_into().map_err(|_| {
        format!(
            "org.apache.kafka.common.errors.SerializationException: Size of data received by {class} is not {SIZE}"
        )
    })
}

fn kind(class: &str) -> Result<Kind, Ended> {
    let name = class.rsplit('.').next().unwrap_or(class);
    match name.strip_suffix("Deserializer").unwrap_or(name) {
        "String" | "ByteArray" | "Bytes" | "ByteBuffer" => Ok(Kind::Text),
        "Integer" => Ok(Kind::Integer),
        "Long" => Ok(Kind::Long),
        "Short" => Ok(Kind::Short),
        "Float" => Ok(Kind::Float),
        "Double" => Ok(Kind::Double),
        "UUID" => Ok(Kind::Uuid),
        _ => Err(Ended::cannot(
            class,
            "there is no Java to load it with; String, ByteArray, Integer, Long, Short, Float, Double and UUID are there",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::options::{Options, value};
    use troupe_proto::ids::{LeaderEpoch, Offset, PartitionId};

    static OPTIONS: Options = Options {
        about: "",
        options: &[
            value("property", "", ""),
            value("formatter", "", ""),
            value("formatter-config", "", ""),
            value("key-deserializer", "", ""),
            value("value-deserializer", "", ""),
        ],
        lead: "",
    };

    fn printed(line: &str, record: &ConsumerRecord) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let formatter = Formatter::new(&OPTIONS.read(&words).unwrap()).unwrap();
        let mut out = Vec::new();
        if let Err(told) = formatter.print(record, false, &mut out) {
            return told;
        }
        String::from_utf8(out).unwrap()
    }

    fn record(key: Option<&'static [u8]>, value: &'static [u8]) -> ConsumerRecord {
        ConsumerRecord {
            topic: "t".into(),
            partition: PartitionId(3),
            offset: Offset(7),
            timestamp_ms: 42,
            key: key.map(Into::into),
            value: Some(value.into()),
            headers: Vec::new(),
            leader_epoch: LeaderEpoch(0),
        }
    }

    /// A6.
    #[test]
    fn fields_stand_in_kafka_s_order() {
        let all = "--property print.timestamp=true --property print.partition=true --property print.offset=true \
                   --property print.headers=true --property print.key=true";
        let mut with = record(Some(b"k"), b"v");
        assert_eq!(printed(all, &with), "CreateTime:42\tPartition:3\tOffset:7\tNO_HEADERS\tk\tv\n");
        with.headers = vec![("a".to_owned(), Some("1".into())), ("b".to_owned(), None)];
        assert!(printed(all, &with).contains("\ta:1,b:null\t"));
        assert_eq!(printed("--property print.key=true", &record(None, b"v")), "null\tv\n");
        let line =
            "--property print.key=true --property key.separator=: --property print.value=false";
        assert_eq!(printed(line, &record(Some(b"k"), b"v")), "k\n");
        assert_eq!(printed("--formatter NoOpMessageFormatter", &record(None, b"v")), "");
    }

    #[test]
    fn numbers_are_told_as_numbers() {
        let long = "--value-deserializer org.apache.kafka.common.serialization.LongDeserializer";
        assert_eq!(printed(long, &record(None, &[0, 0, 0, 0, 0, 0, 1, 0])), "256\n");
        let told = printed(long, &record(None, b"abc"));
        assert!(told.ends_with("Size of data received by LongDeserializer is not 8"), "{told}");
        assert!(kind("com.example.Avro").unwrap_err().notices.contains("no Java"));
    }
}

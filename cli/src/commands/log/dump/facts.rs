//! What a line says: names and values in order, as `kafka-dump-log` writes them and as JSON.

use serde_json::Value;
use std::borrow::Cow;

/// The facts of a line, in order.
pub type Facts = Vec<Fact>;

/// One of them.
pub struct Fact {
    pub name: Cow<'static, str>,
    pub json: Value,
    /// `None`: not in text.
    pub text: Option<String>,
}

/// A value that looks the same in both.
pub fn fact(name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Fact {
    let json = value.into();
    let text = match &json {
        Value::Null => "-".to_owned(),
        Value::String(word) => word.clone(),
        other => other.to_string(),
    };
    Fact { name: name.into(), json, text: Some(text) }
}

/// What is not there is -1 in text.
pub fn or_minus_one(name: &'static str, value: Option<impl Into<Value>>) -> Fact {
    match value {
        Some(value) => fact(name, value),
        None => Fact { name: name.into(), json: Value::Null, text: Some("-1".to_owned()) },
    }
}

/// As Java shows one.
pub fn optional_long(name: &'static str, value: Option<i64>) -> Fact {
    let text = match value {
        Some(value) => format!("OptionalLong[{value}]"),
        None => "OptionalLong.empty".to_owned(),
    };
    Fact { name: name.into(), json: value.into(), text: Some(text) }
}

/// What is not there is not in text either.
pub fn if_there(name: &'static str, value: Option<Value>, text: Option<String>) -> Fact {
    Fact { name: name.into(), json: value.unwrap_or(Value::Null), text }
}

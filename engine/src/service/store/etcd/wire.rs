//! Keys, values and operations <-> the JSON of etcd's HTTP gateway.
//!
//! Source: etcd's API reference (rpc.proto, kv.proto) and its gateway: bytes are base64, 64-bit
//! numbers are texts, and what has its default value is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// Bytes, as the gateway spells them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bytes64(pub(super) Vec<u8>);

impl Serialize for Bytes64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        match STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => Err(D::Error::invalid_value(Unexpected::Str(&text), &"base64")),
        }
    }
}

/// A number, as a text or as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(pub(super) u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl Visitor<'_> for Reading {
            type Value = Number;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a number, possibly as a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                let number = text.parse().map(Number);
                number.map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

/// Part of each answer.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) cluster_id: Number,
    pub(super) revision: Number,
}

/// A key with its value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    pub(super) key: Bytes64,
    pub(super) value: Bytes64,
    pub(super) mod_revision: Number,
}

/// Answer to `kv/range`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) header: Header,
    pub(super) kvs: Vec<KeyValue>,
    pub(super) more: bool,
}

/// Answer to `kv/txn`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Txn {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    pub(super) responses: Vec<TxnPart>,
}

/// What came of one operation of a transaction.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TxnPart {
    pub(super) response_range: Range,
}

/// Answer to `auth/authenticate`.
#[derive(Deserialize)]
pub(super) struct Authenticated {
    pub(super) token: String,
}

/// One line of a watch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchLine {
    pub(super) result: WatchResult,
    pub(super) error: Option<Refusal>,
}

/// What it says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchResult {
    pub(super) header: Header,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) events: Vec<Event>,
}

/// A change of a key.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) r#type: EventKind,
    pub(super) kv: KeyValue,
}

/// Which change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum EventKind {
    #[default]
    Put,
    Delete,
}

/// The body of an answer that is an error, with a gRPC code.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    #[serde(alias = "grpc_code")]
    pub(super) code: u32,
    pub(super) message: String,
}

/// # Errors
/// It is not such JSON.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the answer cannot be read: {error}"))
}

/// The first key after all that begin with `prefix`.
pub(super) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // To etcd: to the end of all keys.
    vec![0]
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Operation of a transaction: write a key.
pub(super) fn put(key: &[u8], value: &[u8]) -> Value {
    json!({"request_put": {"key": base64(key), "value": base64(value)}})
}

/// Operation of a transaction: remove a key.
pub(super) fn delete(key: &[u8]) -> Value {
    json!({"request_delete_range": {"key": base64(key)}})
}

/// Operation of a transaction: remove all keys with a prefix.
pub(super) fn delete_prefix(prefix: &[u8]) -> Value {
    delete_range(prefix, &prefix_end(prefix))
}

/// Operation of a transaction: remove all keys from one on, before another one.
pub(super) fn delete_range(from: &[u8], end: &[u8]) -> Value {
    json!({"request_delete_range": {"key": base64(from), "range_end": base64(end)}})
}

/// Operation of a transaction: read a key.
pub(super) fn get(key: &[u8]) -> Value {
    json!({"request_range": {"key": base64(key)}})
}

/// A page of keys from one on, at a revision; 0: the newest.
pub(super) fn page(from: &[u8], end: &[u8], revision: u64, limit: u64) -> Value {
    json!({
        "key": base64(from),
        "range_end": base64(end),
        "revision": revision.to_string(),
        "limit": limit.to_string(),
    })
}

/// Comparison: the last change of a key was this; 0: there is none.
pub(super) fn is_at(key: &[u8], mod_revision: u64) -> Value {
    json!({
        "target": "MOD",
        "result": "EQUAL",
        "key": base64(key),
        "mod_revision": mod_revision.to_string(),
    })
}

/// Comparison: no key from one on, before another one, was written after a revision.
pub(super) fn is_unwritten_since(from: &[u8], end: &[u8], revision: u64) -> Value {
    json!({
        "target": "MOD",
        "result": "LESS",
        "key": base64(from),
        "range_end": base64(end),
        "mod_revision": (revision + 1).to_string(),
    })
}

/// A transaction.
pub(super) fn txn(compare: Vec<Value>, success: Vec<Value>) -> Value {
    json!({"compare": compare, "success": success})
}

/// A watch of all keys with a prefix, from a revision on.
pub(super) fn watch(prefix: &[u8], start_revision: u64) -> Value {
    json!({"create_request": {
        "key": base64(prefix),
        "range_end": base64(&prefix_end(prefix)),
        "start_revision": start_revision.to_string(),
        "progress_notify": true,
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_gateway_writes_them() {
        let range: Range = decode(
            br#"{"header":{"cluster_id":"15118495548433857066","revision":"2"},
                "kvs":[{"key":"YQ==","mod_revision":"2","version":"1","value":"aGVsbG8="}],
                "more":true,"count":"1"}"#,
        )
        .unwrap();
        assert_eq!(range.kvs[0].key.0, b"a");
        assert_eq!(range.kvs[0].value.0, b"hello");
        assert_eq!(range.header.cluster_id, Number(15_118_495_548_433_857_066));
        assert!(range.more);
        let line: WatchLine = decode(
            br#"{"result":{"header":{"revision":4},"events":[
                {"type":"DELETE","kv":{"key":"YQ==","mod_revision":"4"}},{"kv":{"key":"Yg=="}}]}}"#,
        )
        .unwrap();
        assert_eq!(line.result.events[0].r#type, EventKind::Delete);
        assert_eq!(line.result.events[1].r#type, EventKind::Put);
        assert_eq!(line.result.header.revision, Number(4));
        for wrong in [
            r#"{"kvs":[{"key":"?"}]}"#,
            "[",
            r#"{"header":{"revision":"x"}}"#,
        ] {
            assert!(decode::<Range>(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ends_of_prefixes() {
        assert_eq!(prefix_end(b"configurations/"), b"configurations0");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }
}

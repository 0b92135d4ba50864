//! A stored configuration <-> the value of its key.
//!
//! Written as `{"text": ..., "origin": ...}`. Read as well: the YAML itself, plain or compressed by
//! gzip, as Grafana Agent stores it.

use crate::service::store::{Origin, StoredConfig};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::sync::Arc;

/// Of a compressed text: a value is at most 1.5 MB.
const TEXT_BYTES_MAX: u64 = 16 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// The YAML.
    pub(super) text: Arc<str>,
    /// Who keeps it.
    #[serde(default)]
    origin: Source,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Source {
    managed_by: String,
    changed_by: String,
    changed_ms: i64,
}

impl Envelope {
    pub(super) fn new(text: &Arc<str>, origin: &Origin) -> Self {
        Self {
            text: text.clone(),
            origin: Source {
                managed_by: origin.managed_by.clone(),
                changed_by: origin.changed_by.clone(),
                changed_ms: origin.changed_ms,
            },
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Texts and a number are always JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What a key holds. A value that cannot be read becomes a text that says so, which no node takes
/// for a configuration: it is shown with this reason.
pub(super) fn read(name: &str, value: &[u8], revision: u64) -> StoredConfig {
    let envelope = match value.first() {
        Some(b'{') => serde_json::from_slice::<Envelope>(value).ok(),
        _ => None,
    };
    let (text, origin) = match envelope {
        Some(Envelope { text, origin }) => (
            text,
            Origin {
                managed_by: origin.managed_by,
                changed_by: origin.changed_by,
                changed_ms: origin.changed_ms,
            },
        ),
        None => (read_text(value).into(), Origin::default()),
    };
    StoredConfig {
        name: name.into(),
        text,
        revision,
        origin,
    }
}

fn read_text(value: &[u8]) -> String {
    let inflated;
    let bytes = if value.starts_with(&GZIP) {
        let mut text = Vec::new();
        let decoder = flate2::read::MultiGzDecoder::new(value);
        match decoder.take(TEXT_BYTES_MAX + 1).read_to_end(&mut text) {
            Ok(len) if len as u64 > TEXT_BYTES_MAX => {
                return format!("unreadable: more than {TEXT_BYTES_MAX} bytes after gzip");
            }
            Ok(_) => {}
            Err(error) => return format!("unreadable: gzip ({error})"),
        }
        inflated = text;
        &inflated[..]
    } else {
        value
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => "unreadable: not UTF-8".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const YAML: &str = "scrape_configs:\n- job_name: \"a\"\n";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn values_of_all_kinds_are_read() {
        let origin = Origin {
            managed_by: "sync".to_owned(),
            changed_by: "token".to_owned(),
            changed_ms: -5,
        };
        let own = Envelope::new(&YAML.into(), &origin).to_bytes();
        let config = read("a", &own, 7);
        assert_eq!((&*config.text, &config.origin), (YAML, &origin));
        assert_eq!((&*config.name, config.revision), ("a", 7));
        assert_eq!(&*read("a", YAML.as_bytes(), 7).text, YAML);
        assert_eq!(&*read("a", &gzip(YAML.as_bytes()), 7).text, YAML);
        let flow = "{scrape_configs: []}";
        assert_eq!(&*read("a", flow.as_bytes(), 7).text, flow);
        assert_eq!(read("a", flow.as_bytes(), 7).origin, Origin::default());
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        let bomb = gzip(&vec![b'a'; TEXT_BYTES_MAX as usize + 1]);
        let torn = &gzip(YAML.as_bytes())[..20];
        for value in [&bomb[..], torn, b"\xff\xfe", &gzip(b"\xff")] {
            let text = read("a", value, 7).text;
            assert!(text.starts_with("unreadable: "), "{text}");
        }
    }
}

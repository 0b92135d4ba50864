//! `--cluster.key-file` -> the shared keys.

use super::options::GossipError;
use ringscrape_cluster::packet::Key;
use std::path::Path;

/// A key file is small.
const FILE_BYTES_MAX: u64 = 64 * 1_024;
const KEY_BYTES: usize = 32;

/// Reads the keys, the one that seals first.
///
/// # Errors
/// The file cannot be read, has no key, or a line of it is none. The error tells nothing of the
/// keys.
pub(super) fn load(path: &Path) -> Result<Vec<Key>, GossipError> {
    let error = |reason: String| GossipError::File {
        action: "use the key file (--cluster.key-file)",
        path: path.to_owned(),
        reason,
    };
    let len = std::fs::metadata(path)
        .map_err(|e| error(e.to_string()))?
        .len();
    if len > FILE_BYTES_MAX {
        return Err(error("it is larger than 64 KiB".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
    parse(&text).map_err(error)
}

/// Empty lines and lines that start with `#` say nothing.
fn parse(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = from_hex(line).or_else(|| from_base64(line));
        keys.push(key.ok_or_else(|| {
            let at = index + 1;
            format!("line {at} is not a key: 32 bytes in base64 or hex (openssl rand -base64 32)")
        })?);
    }
    if keys.is_empty() {
        return Err("it has no key; make one with: openssl rand -base64 32".to_owned());
    }
    Ok(keys)
}

fn from_hex(text: &str) -> Option<Key> {
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(key)
}

/// Base64 of RFC 4648, the alphabet of section 4 or 5, with padding or without.
fn from_base64(text: &str) -> Option<Key> {
    let text = text.trim_end_matches('=');
    // 32 bytes are 43 characters, the last of which has two bits to spare.
    if text.len() != 43 {
        return None;
    }
    let mut key = Vec::with_capacity(KEY_BYTES);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(digit)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            key.push((bits >> count) as u8);
        }
    }
    let spare = bits & ((1 << count) - 1);
    Key::try_from(key).ok().filter(|_| spare == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFF";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8=";

    fn key() -> Key {
        let mut key = std::array::from_fn(|index| index as u8);
        key[31] = 0xff;
        key
    }

    #[test]
    fn both_forms() {
        let text = format!(
            "# new\n{BASE64}\n\n  {HEX}  \n{}\n",
            BASE64.trim_end_matches('=')
        );
        assert_eq!(parse(&text), Ok(vec![key(); 3]));
        let url = "-_".to_owned() + &"A".repeat(41);
        let plain = "+/".to_owned() + &"A".repeat(41);
        assert_eq!(parse(&url), parse(&plain));
    }

    #[test]
    fn errors_name_the_line_and_no_secret() {
        for line in [&HEX[1..], &BASE64[1..], "secret", "AB CD", &"é".repeat(32)] {
            let error = parse(&format!("{HEX}\n{line}")).unwrap_err();
            assert!(error.contains("line 2") && !error.contains(line), "{error}");
        }
        assert!(parse("# nothing\n").unwrap_err().contains("no key"));
        // Bits to spare are not.
        assert!(parse(&BASE64.replace("v8=", "v9=")).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Path::new("/nowhere/key")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/key") && error.contains("--cluster.key-file"));
    }
}

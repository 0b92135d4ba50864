//! Node names: what may be one.

/// The longest name. Three of them and a message fit into a datagram.
pub const NAME_BYTES_MAX: usize = 128;

/// Whether a text can name a node: 1 to [`NAME_BYTES_MAX`] printable ASCII characters without
/// blanks, quotes and commas, so that it can stand in lists, labels and commands as it is.
pub fn is_name(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b',' | b'\\');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "node-1.example.org", "a/b:c", &"x".repeat(128)] {
            assert!(is_name(name), "{name:?}");
        }
        for name in ["", "a b", "a\n", "ä", "a,b", "\"", &"x".repeat(129)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}

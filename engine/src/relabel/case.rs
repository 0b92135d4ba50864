//! Text -> its upper or lower case, one character for one character.
//!
//! Prometheus uses Go's `strings.ToUpper` and `ToLower`: the simple mappings of UnicodeData.txt.
//! Rust's are the full ones of SpecialCasing.txt, where one character may become several; those
//! are the exceptions below.

/// Upper case by the simple mapping.
pub(super) fn to_upper(text: &str) -> String {
    text.chars().map(upper).collect()
}

/// Lower case by the simple mapping.
pub(super) fn to_lower(text: &str) -> String {
    text.chars().map(lower).collect()
}

fn upper(c: char) -> char {
    let mut full = c.to_uppercase();
    if let (Some(single), None) = (full.next(), full.next()) {
        return single;
    }
    // Greek letters with iota subscript have a single title case form; others stay as they are.
    let code = c as u32;
    let simple = match code {
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => code + 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => code + 9,
        _ => code,
    };
    char::from_u32(simple).unwrap_or(c)
}

fn lower(c: char) -> char {
    let mut full = c.to_lowercase();
    match (full.next(), full.next()) {
        (Some(single), None) => single,
        // The only one: capital I with dot above.
        _ if c == '\u{130}' => 'i',
        _ => c,
    }
}

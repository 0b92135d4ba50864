//! One segment of a URL's path -> a configuration's name.

/// Most bytes of a name.
pub(crate) const NAME_BYTES_MAX: usize = 1_024;

/// The name in a segment of a path, which may hold any character as `%` and two hexadecimal digits.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode(segment: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|pair| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()
        });
        let Some(byte) = digits else {
            let wrong = String::from_utf8_lossy(&rest[..rest.len().min(3)]);
            return Err(format!(
                "could not decode config name: invalid URL escape {wrong:?}"
            ));
        };
        bytes.push(byte);
        rest = &after[2..];
    }
    let name = String::from_utf8(bytes)
        .map_err(|_| "could not decode config name: it is not UTF-8".to_owned())?;
    check(&name)?;
    Ok(name)
}

/// # Errors
/// Why nothing can have this name.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a config needs a name".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "the config name has {} bytes, at most {NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("the config name {name:?} has control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_percent_decoded() {
        assert_eq!(decode("hello%2Fworld"), Ok("hello/world".to_owned()));
        assert_eq!(decode("a+b%20c%c3%A9"), Ok("a+b cé".to_owned()));
        assert_eq!(decode("plain"), Ok("plain".to_owned()));
    }

    #[test]
    fn undecodable_names_are_refused() {
        for (segment, part) in [
            ("a%zz", "%zz"),
            ("a%2", "%2"),
            ("%", "%"),
            ("%é1", "%"),
            ("%ff", "UTF-8"),
            ("", "needs a name"),
            ("a%0Ab", "control"),
        ] {
            let error = decode(segment).unwrap_err();
            assert!(error.contains(part), "{segment}: {error}");
        }
        assert!(decode(&"a".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert!(decode(&"a".repeat(NAME_BYTES_MAX)).is_ok());
    }

    proptest! {
        #[test]
        fn any_byte_may_be_escaped(name in "\\PC{1,40}", is_escaped in any::<u64>()) {
            let segment: String = name
                .bytes()
                .enumerate()
                .map(|(at, byte)| match byte {
                    b'%' | 0x80.. => format!("%{byte:02X}"),
                    _ if is_escaped >> (at % 64) & 1 == 1 => format!("%{byte:02x}"),
                    _ => char::from(byte).to_string(),
                })
                .collect();
            prop_assert_eq!(decode(&segment), Ok(name));
        }
    }
}

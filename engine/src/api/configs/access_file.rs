//! The file of who may do what with stored configurations -> its entries.
//!
//! A line is a name, a role (`read` or `write`) and what it is known by: the SHA-256 of a bearer
//! token in hexadecimal digits, `subject:` or `san:` with a name in a client's certificate, or
//! `user:` with a name of `basic_auth_users`. The file itself gives nothing away: a token is meant
//! to be 32 random bytes, which nobody finds from their hash.

use super::access::Role;

const HASH_BYTES: usize = 32;

/// One line.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) proof: Proof,
}

/// What somebody is known by.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A bearer token with this SHA-256.
    Token([u8; HASH_BYTES]),
    /// A certificate of this subject.
    Subject(String),
    /// A certificate with this alternative name.
    San(String),
    /// A password of this user.
    User(String),
}

impl Proof {
    /// For messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "bearer token",
            Self::Subject(_) | Self::San(_) => "certificate",
            Self::User(_) => "password",
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let name = |prefix| {
            text.strip_prefix(prefix)
                .map(|name: &str| name.trim().to_owned())
        };
        let proof = if let Some(name) = name("subject:") {
            Self::Subject(name)
        } else if let Some(name) = name("san:") {
            Self::San(name)
        } else if let Some(name) = name("user:") {
            Self::User(name)
        } else {
            let hash = hash_of_digits(text).ok_or("the SHA-256 is not 64 hexadecimal digits")?;
            Self::Token(hash)
        };
        match &proof {
            Self::Subject(name) | Self::San(name) | Self::User(name) if name.is_empty() => {
                Err("subject:, san: and user: need a name")
            }
            _ => Ok(proof),
        }
    }
}

/// The entries of a text.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::<Entry>::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = entry(line).and_then(|entry| {
            let mut others = entries.iter();
            if others.clone().any(|other| other.name == entry.name) {
                return Err("the name is there twice");
            }
            match others.any(|other| other.proof == entry.proof) {
                true if matches!(entry.proof, Proof::Token(_)) => Err("the SHA-256 is there twice"),
                true => Err("what it is known by is there twice"),
                false => Ok(entry),
            }
        });
        entries.push(entry.map_err(|what| format!("line {}: {what}", index + 1))?);
    }
    Ok(entries)
}

fn entry(line: &str) -> Result<Entry, &'static str> {
    const FORM: &str = "give a name, a role (read or write) and a SHA-256, or subject:, san: or \
                        user: with a name";
    let (name, rest) = line.split_once(char::is_whitespace).ok_or(FORM)?;
    let (role, proof) = rest
        .trim_start()
        .split_once(char::is_whitespace)
        .ok_or(FORM)?;
    let role = match role {
        "read" => Role::Read,
        "write" => Role::Write,
        _ => return Err("the role is neither read nor write"),
    };
    Ok(Entry {
        name: name.to_owned(),
        role,
        proof: Proof::parse(proof.trim())?,
    })
}

fn hash_of_digits(text: &str) -> Option<[u8; HASH_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * HASH_BYTES {
        return None;
    }
    let mut hash = [0; HASH_BYTES];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc`, from FIPS 180-2, appendix B.1.
    const HASH_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    /// SHA-256 of nothing.
    const HASH_OF_NOTHING: &str =
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_may_have_blanks() {
        let found = entries("a  read\tsubject: CN=a b,O=c \n b write san:x").unwrap();
        let proofs = found.iter().map(|entry| &entry.proof).collect::<Vec<_>>();
        let wanted = [Proof::Subject("CN=a b,O=c".into()), Proof::San("x".into())];
        assert_eq!(proofs, wanted.iter().collect::<Vec<_>>());
        assert_eq!(found[1].name, "b");
    }

    #[test]
    fn unusable_lines_are_named() {
        let twice = format!("a read {HASH_OF_ABC}\na write {HASH_OF_NOTHING}");
        let same = format!("a read {HASH_OF_ABC}\nb write {HASH_OF_ABC}");
        for (text, wrong) in [
            ("a", "line 1: give"),
            ("a read", "line 1: give"),
            ("\na own 12", "line 2: the role"),
            ("a read 12", "64"),
            ("a read 12 13", "64"),
            (&"a read zz".replace("zz", &"zz".repeat(32)), "64"),
            (&twice, "line 2: the name"),
            (&same, "line 2: the SHA-256 is there twice"),
            ("a read san:x\nb read san:x", "line 2: what it is known by"),
            ("a read san:", "need a name"),
        ] {
            let error = entries(text).map(drop).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }
}

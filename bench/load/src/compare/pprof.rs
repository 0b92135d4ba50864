//! A profile as Go programs give it of themselves -> the call stacks it saw, and how often.
//!
//! Source: profile.proto of github.com/google/pprof. Names come from the program's own tables, so
//! it may be stripped; inlined functions are frames of their own; time in a system call is that of
//! its caller.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Error;
use crate::http::client;
use crate::sink::protobuf::{DecodeError, Field, Reader};

/// How long a program may take for its answer beyond the time that it looks at itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of a profile.
const BYTES_MAX: usize = 256 << 20;

/// What a program saw of itself.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Profile {
    /// Names of functions.
    names: Vec<String>,
    /// Stacks, from the leaf on, by the places of their names; and how often each was seen.
    stacks: Vec<(Vec<usize>, u64)>,
}

impl Profile {
    /// Each stack's functions from the leaf on, and how often it was seen.
    pub(super) fn stacks(&self) -> impl Iterator<Item = (Vec<&str>, u64)> {
        self.stacks.iter().map(|(stack, count)| {
            let names = stack.iter().map(|name| self.names[*name].as_str());
            (names.collect(), *count)
        })
    }
}

/// Has the program at `address` look at itself for a while.
///
/// # Errors
/// It does not answer, or with something else than a profile.
pub(super) fn look(address: SocketAddr, length: Duration) -> Result<Profile, Error> {
    let path = format!("/debug/pprof/profile?seconds={}", length.as_secs().max(1));
    let body = client::get_within(address, &path, length + PATIENCE)?;
    let profile = gunzip(&body).and_then(|bytes| decode(&bytes).ok());
    profile.ok_or_else(|| Error::Http {
        url: format!("http://{address}{path}"),
        reason: "the answer is no profile".into(),
    })
}

fn gunzip(body: &[u8]) -> Option<Vec<u8>> {
    // A gzip member ends with the size of what it holds (RFC 1952).
    let size = u32::from_le_bytes(*body.last_chunk::<4>()?) as usize;
    let mut bytes = vec![0; Some(size).filter(|size| *size <= BYTES_MAX)?];
    let mut decompressor = libdeflater::Decompressor::new();
    decompressor.gzip_decompress(body, &mut bytes).ok()?;
    Some(bytes)
}

/// Reads a `Profile` message.
fn decode(bytes: &[u8]) -> Result<Profile, DecodeError> {
    let mut profile = Profile::default();
    let mut samples: Vec<(Vec<u64>, u64)> = Vec::new();
    // Functions of a location, the innermost first; the name of a function.
    let mut locations: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut functions: HashMap<u64, u64> = HashMap::new();
    let mut message = Reader(bytes);
    while let Some((number, field)) = message.field()? {
        match (number, field) {
            (2, Field::Bytes(bytes)) => samples.push(sample(bytes)?),
            (4, Field::Bytes(bytes)) => {
                let (id, lines) = location(bytes)?;
                locations.insert(id, lines);
            }
            (5, Field::Bytes(bytes)) => {
                let [id, name] = first_two(bytes)?;
                functions.insert(id, name);
            }
            (6, Field::Bytes(bytes)) => {
                let name = String::from_utf8_lossy(bytes).into_owned();
                profile.names.push(name);
            }
            _ => {}
        }
    }
    // The first text of a profile is empty, by its rules.
    if profile.names.is_empty() {
        profile.names.push(String::new());
    }
    let name_of = |function: &u64| {
        let name = functions.get(function).copied().unwrap_or(0) as usize;
        if name < profile.names.len() { name } else { 0 }
    };
    let stacks = samples.iter().map(|(stack, count)| {
        let lines = stack.iter().filter_map(|location| locations.get(location));
        (lines.flatten().map(name_of).collect(), *count)
    });
    profile.stacks = stacks.collect();
    Ok(profile)
}

/// Locations from the leaf on, and the first value, which is the number of looks.
fn sample(bytes: &[u8]) -> Result<(Vec<u64>, u64), DecodeError> {
    let (mut stack, mut values) = (Vec::new(), Vec::new());
    let mut message = Reader(bytes);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => numbers(field, &mut stack)?,
            2 => numbers(field, &mut values)?,
            _ => {}
        }
    }
    Ok((stack, values.first().copied().unwrap_or(0)))
}

/// A repeated number, packed or not.
fn numbers(field: Field<'_>, into: &mut Vec<u64>) -> Result<(), DecodeError> {
    match field {
        Field::Varint(number) => into.push(number),
        Field::Bytes(bytes) => {
            let mut packed = Reader(bytes);
            while !packed.0.is_empty() {
                into.push(packed.varint()?);
            }
        }
        Field::Fixed64(_) | Field::Fixed32 => return Err(DecodeError::WireType),
    }
    Ok(())
}

/// The id of a location and its functions.
fn location(bytes: &[u8]) -> Result<(u64, Vec<u64>), DecodeError> {
    let (mut id, mut lines) = (0, Vec::new());
    let mut message = Reader(bytes);
    while let Some((number, field)) = message.field()? {
        match (number, field) {
            (1, Field::Varint(number)) => id = number,
            (4, Field::Bytes(line)) => lines.push(first_two(line)?[0]),
            _ => {}
        }
    }
    Ok((id, lines))
}

/// The numbers of fields 1 and 2; 0 where there is none.
fn first_two(bytes: &[u8]) -> Result<[u64; 2], DecodeError> {
    let mut two = [0; 2];
    let mut message = Reader(bytes);
    while let Some((number, field)) = message.field()? {
        if let (1 | 2, Field::Varint(value)) = (number, field) {
            two[number as usize - 1] = value;
        }
    }
    Ok(two)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, bytes.len() as u8];
        field.extend(bytes);
        field
    }

    #[test]
    fn stacks_have_names_and_counts() {
        let mut profile = Vec::new();
        // Locations 1 and 2, packed; three looks, of 30 ms. Then one that is not packed.
        profile.extend(field(2, &[0x0a, 2, 1, 2, 0x12, 2, 3, 30]));
        profile.extend(field(2, &[0x08, 2, 0x10, 1]));
        // In location 1 function 7 is inlined in function 8.
        profile.extend(field(4, &[0x08, 1, 0x22, 2, 0x08, 7, 0x22, 2, 0x08, 8]));
        profile.extend(field(4, &[0x08, 2, 0x22, 2, 0x08, 9]));
        for (function, name) in [(7, 1), (8, 2), (9, 100)] {
            profile.extend(field(5, &[0x08, function, 0x10, name]));
        }
        for name in ["", "leaf", "caller"] {
            profile.extend(field(6, name.as_bytes()));
        }
        let read = decode(&profile).unwrap();
        let stacks: Vec<_> = read.stacks().collect();
        // A name that is not there is the empty one.
        assert_eq!(stacks.len(), 2);
        assert_eq!(stacks[0].1, 3);
        assert_eq!(stacks[0].0[..2], ["leaf", "caller"]);
        assert_eq!(stacks[1], (vec![""], 1));
        for len in 0..profile.len() {
            let _ = decode(&profile[..len]);
        }
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut packed = vec![0; compressor.gzip_compress_bound(profile.len())];
        let len = compressor.gzip_compress(&profile, &mut packed).unwrap();
        assert_eq!(gunzip(&packed[..len]), Some(profile));
        assert_eq!(gunzip(b"x"), None);
    }
}

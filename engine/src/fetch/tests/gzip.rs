//! The gzip reader: round trips split anywhere, every header form, and damage.

use crate::fetch::fuzz::gunzip_whole;
use crate::fetch::inflate::{Gunzip, GzipError};
use crate::fetch::tests::{exposition, gzip, parts};
use proptest::prelude::*;

/// Inflates `data`, given in parts, through windows of `room` bytes.
fn inflate(
    gunzip: &mut Gunzip,
    data: &[u8],
    cuts: &[usize],
    room: usize,
) -> Result<Vec<u8>, GzipError> {
    let mut content = Vec::new();
    let mut window = vec![0; room];
    gunzip.reset();
    for part in parts(data, cuts) {
        let mut read = 0;
        loop {
            let progress = gunzip.inflate(&part[read..], &mut window)?;
            read += progress.read;
            content.extend_from_slice(&window[..progress.written]);
            if read == part.len() && progress.written < room {
                break;
            }
        }
    }
    gunzip.finish()?;
    // Both ways to inflate agree, whenever the faster one has an opinion.
    if let Some(whole) = gunzip_whole(data) {
        assert!(whole == content);
    }
    Ok(content)
}

/// A member with the optional header parts that `flags` names.
fn member(flags: u8, content: &[u8]) -> Vec<u8> {
    let plain = gzip(content);
    let mut data = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255];
    if flags & 4 != 0 {
        data.extend(b"\x05\x00extra");
    }
    if flags & 8 != 0 {
        data.extend(b"name\0");
    }
    if flags & 16 != 0 {
        data.extend(b"comment\0");
    }
    if flags & 2 != 0 {
        let crc = crc32fast::hash(&data) as u16;
        data.extend(crc.to_le_bytes());
    }
    data.extend_from_slice(&plain[10..]);
    data
}

#[test]
fn every_header_form() {
    let content = exposition(500);
    let mut gunzip = Gunzip::default();
    for flags in 0..32 {
        let data = member(flags, &content);
        for cuts in [&[usize::MAX][..], &[1]] {
            let result = inflate(&mut gunzip, &data, cuts, 64);
            assert_eq!(result.as_deref(), Ok(&content[..]), "flags {flags}");
        }
        assert_eq!(gunzip_whole(&data).is_some(), flags & 2 == 0);
        if flags & 2 != 0 {
            let mut data = data.clone();
            data[4] ^= 1;
            let result = inflate(&mut gunzip, &data, &[1], 64);
            assert_eq!(result, Err(GzipError::HeaderChecksum));
        }
    }
    let mut empty_extra = member(0, &content);
    empty_extra[3] = 4;
    empty_extra.splice(10..10, [0, 0]);
    assert_eq!(inflate(&mut gunzip, &empty_extra, &[1], 64), Ok(content));
}

#[test]
fn several_members_and_what_is_not_one() {
    let (a, b) = (exposition(300), exposition(1000));
    let both = [gzip(&a), gzip(&[]), member(31, &b)].concat();
    let mut gunzip = Gunzip::default();
    let content = inflate(&mut gunzip, &both, &[7, 100], 50).unwrap();
    for stream in [&both, &gzip(&a).repeat(2), &[gzip(&a), gzip(&[])].concat()] {
        assert_eq!(gunzip_whole(stream), None);
    }
    assert_eq!(content, [a.clone(), b].concat());
    let trailing = [gzip(&a), b"x".to_vec()].concat();
    assert_eq!(
        inflate(&mut gunzip, &trailing, &[9], 50),
        Err(GzipError::Header)
    );
    assert_eq!(
        inflate(&mut gunzip, &[], &[1], 50),
        Err(GzipError::Truncated)
    );
    assert_eq!(
        inflate(&mut gunzip, b"a 1\n", &[1], 50),
        Err(GzipError::Header)
    );
    let reserved = member(0x20, &a);
    assert_eq!(
        inflate(&mut gunzip, &reserved, &[1], 50),
        Err(GzipError::Header)
    );
    // Usable again after each of them.
    assert_eq!(inflate(&mut gunzip, &gzip(&a), &[3], 50), Ok(a));
}

#[test]
fn damage_in_each_byte_is_seen() {
    let content = exposition(400);
    let data = gzip(&content);
    let mut gunzip = Gunzip::default();
    for at in 0..data.len() {
        let mut damaged = data.clone();
        damaged[at] ^= 0x10;
        match inflate(&mut gunzip, &damaged, &[5], 100) {
            // Time, extra flags and system of the header say nothing about the content.
            Ok(result) => assert!((4..10).contains(&at) && result == content, "byte {at}"),
            Err(error) => match at {
                0..=2 => assert_eq!(error, GzipError::Header),
                at if at >= data.len() - 4 => assert_eq!(error, GzipError::Length),
                at if at >= data.len() - 8 => assert_eq!(error, GzipError::Checksum),
                _ => {}
            },
        }
        let harmless = (4..10).contains(&at);
        assert_eq!(gunzip_whole(&damaged).is_some(), harmless, "byte {at}");
        assert_eq!(gunzip_whole(&data[..at]), None);
        let cut = inflate(&mut gunzip, &data[..at], &[5], 100);
        assert_eq!(cut, Err(GzipError::Truncated), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn round_trip(
        words in prop::collection::vec((any::<u8>(), 1_usize..400), 0..60),
        level in 0_u32..10,
        cuts in prop::collection::vec(1_usize..500, 1..5),
        room in 1_usize..3000,
    ) {
        use std::io::Write;
        let runs = words.iter().map(|(b, n)| std::iter::repeat_n(*b, *n));
        let content: Vec<u8> = runs.flatten().collect();
        let level = flate2::Compression::new(level);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(&content).unwrap();
        let data = encoder.finish().unwrap();
        let whole = gunzip_whole(&data);
        prop_assert_eq!(whole.as_ref(), Some(&content));
        prop_assert_eq!(inflate(&mut Gunzip::default(), &data, &cuts, room), Ok(content));
    }
}

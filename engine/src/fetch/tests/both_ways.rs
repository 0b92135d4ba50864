//! Gzip bodies inflated whole against the same bodies inflated in pieces: damaged, cut, with
//! several members, lying about their length, over the limits. The outcome must be the same.

use super::scripted::{Act, Client};
use super::{exposition, gzip, parts};
use crate::fetch::*;
use proptest::prelude::*;

/// What is done to a stream before it is sent.
#[derive(Debug, Clone)]
enum Harm {
    None,
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    Again,
    ClaimedLength(u32),
}

fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        Just(Harm::None),
        (index(), 1_u8..=255).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        index().prop_map(Harm::Cut),
        prop::collection::vec(any::<u8>(), 1..30).prop_map(Harm::Append),
        Just(Harm::Again),
        prop_oneof![0_u32..200_000, any::<u32>()].prop_map(Harm::ClaimedLength),
    ]
}

fn harmed(mut stream: Vec<u8>, harm: &Harm) -> Vec<u8> {
    match harm {
        Harm::None => {}
        Harm::Flip(at, bits) => {
            let at = at.index(stream.len());
            stream[at] ^= bits;
        }
        Harm::Cut(at) => stream.truncate(at.index(stream.len())),
        Harm::Append(bytes) => stream.extend_from_slice(bytes),
        Harm::Again => stream.extend_from_within(..),
        Harm::ClaimedLength(bytes) => {
            let at = stream.len() - 4;
            stream[at..].copy_from_slice(&bytes.to_le_bytes());
        }
    }
    stream
}

/// How the length of a body is told.
#[derive(Debug, Clone)]
enum Form {
    Length,
    Chunks(Vec<usize>),
    Close,
}

fn response(content: &[u8], form: &Form) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n";
    let length = content.len();
    match form {
        Form::Length => {
            let head = format!("{head}Content-Length: {length}\r\n\r\n");
            [head.as_bytes(), content].concat()
        }
        Form::Close => [head.as_bytes(), b"\r\n", content].concat(),
        Form::Chunks(sizes) => {
            let mut data = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            for chunk in parts(content, sizes) {
                data.extend(format!("{:x}\r\n", chunk.len()).bytes());
                data.extend_from_slice(chunk);
                data.extend(b"\r\n");
            }
            data.extend(b"0\r\n\r\n");
            data
        }
    }
}

proptest! {
    #[test]
    fn the_outcome_is_the_same(
        body_bytes in prop_oneof![Just(0_usize), 1_usize..500, 1_usize..60_000],
        harm in harm(),
        form in prop_oneof![
            Just(Form::Length),
            prop::collection::vec(1_usize..3000, 1..5).prop_map(Form::Chunks),
            Just(Form::Close),
        ],
        cuts in prop::collection::vec(prop_oneof![1_usize..50, 1_usize..9000], 1..5),
        pauses in any::<u64>(),
        room in prop_oneof![1_usize..300, Just(65_536)],
        headroom in prop_oneof![Just(0_usize), Just(8192)],
        poll_bytes_max in prop_oneof![1_usize..3000, Just(1 << 18)],
        content_type in prop_oneof![3 => Just("text/plain"), 1 => Just("image/png")],
        limits in (
            prop_oneof![100_usize..50_000, Just(1 << 20)],
            prop_oneof![0_usize..20_000, Just(16 << 20)],
        ),
    ) {
        let body = match body_bytes {
            0 => Vec::new(),
            bytes => exposition(bytes),
        };
        let content = harmed(gzip(&body), &harm);
        let data = response(&content, &form);
        let data = String::from_utf8_lossy(&data[..50]).replace("text/plain", content_type)
            .into_bytes().into_iter().chain(data[50..].iter().copied()).collect::<Vec<_>>();
        let outcome = |whole_body_bytes_max, collected_bytes_max| {
            let mut acts = Vec::new();
            for (n, part) in parts(&data, &cuts).into_iter().enumerate() {
                acts.push(Act::Bytes(part.to_vec()));
                if pauses >> (n % 64) & 1 == 1 {
                    acts.push(Act::Pause);
                }
            }
            if matches!(form, Form::Close) {
                acts.push(Act::Close);
            }
            let limits = FetcherLimits {
                poll_bytes_max,
                whole_body_bytes_max,
                collected_bytes_max,
                ..FetcherLimits::default()
            };
            let mut client = Client::new(limits, headroom, room);
            client.script(acts);
            client.fetch(0);
            assert!(client.fetcher.holds_nothing());
            let connections = client.fetcher.connections();
            let (given, result) = client.sink.take(0);
            let body = result.is_ok().then_some(given.body);
            // A fault that is seen early ends the fetch before the last bytes are received.
            (body, result, connections)
        };
        let in_pieces = outcome(0, 0);
        let whole = outcome(limits.0, limits.1);
        prop_assert_eq!(&whole.1, &in_pieces.1);
        prop_assert_eq!(&whole, &in_pieces);
        if matches!(harm, Harm::None) && content_type == "text/plain" {
            prop_assert_eq!(whole.0, Some(body));
        }
    }

    #[test]
    fn the_size_limit_is_the_same(
        body_bytes in 100_usize..60_000,
        limit in 1_u64..60_000,
        again in any::<bool>(),
        room in prop_oneof![1_usize..300, Just(65_536)],
    ) {
        let body = exposition(body_bytes);
        let mut content = gzip(&body);
        if again {
            content.extend_from_within(..);
        }
        let bytes = body.len() as u64 * if again { 2 } else { 1 };
        for whole_body_bytes_max in [0, 1 << 20] {
            let limits = FetcherLimits { whole_body_bytes_max, ..FetcherLimits::default() };
            let mut client = Client::new(limits, 0, room);
            client.rules.body_size_limit_bytes = limit;
            client.script(vec![Act::Bytes(response(&content, &Form::Length))]);
            client.fetch(0);
            let (_, result) = client.sink.take(0);
            if bytes < limit {
                prop_assert_eq!(result.unwrap().body_bytes, bytes);
            } else {
                prop_assert_eq!(result, Err(FetchError::BodySizeLimit));
            }
        }
    }
}

#[test]
fn a_bomb_is_worked_on_in_steps() {
    // Collected, as it is small, then found to be more than it said.
    const BOMB_BYTES: usize = 20 << 20;
    let member = gzip(&b"a_bomb 17\n".repeat(BOMB_BYTES / 10));
    assert!(member.len() < 256 << 10);
    let limits = FetcherLimits::default();
    for form in [Form::Length, Form::Chunks(vec![1000]), Form::Close] {
        let mut stream = member.clone();
        let at = stream.len() - 4;
        stream[at..].copy_from_slice(&[0, 16, 0, 0]);
        let mut client = Client::new(limits, 8192, 65_536);
        let mut acts = vec![Act::Bytes(response(&stream, &form))];
        if matches!(form, Form::Close) {
            acts.push(Act::Close);
        }
        client.script(acts);
        client.start(0, &["10.0.0.1:1"]);
        let (mut polls, mut given) = (0, 0);
        while client.fetcher.in_flight() > 0 {
            client.poll();
            let now_given = client
                .sink
                .given
                .get(&0)
                .map_or(0, |given| given.body.len());
            assert!(now_given - given <= limits.poll_bytes_max + (128 << 10));
            given = now_given;
            polls += 1;
        }
        assert!(polls > BOMB_BYTES / 2 / limits.poll_bytes_max, "{polls}");
        let error = client.sink.error(0);
        assert_eq!(error, FetchError::Gzip(inflate::GzipError::Length));
        assert!(client.fetcher.holds_nothing());
    }
}

#[test]
fn a_body_that_arrives_at_once_is_one_window() {
    let body = exposition(60_000);
    for form in [Form::Length, Form::Chunks(vec![2048]), Form::Close] {
        let mut client = Client::new(FetcherLimits::default(), 8192, 65_536);
        client.script(vec![Act::Bytes(response(&gzip(&body), &form)), Act::Close]);
        client.fetch(0);
        let (given, result) = client.sink.take(0);
        result.unwrap();
        assert_eq!((given.windows, given.body), (1, body.clone()));
        // Nothing was allocated for it but the window, unless its end came later.
        let pooled_bytes = client.fetcher.memory_use().pooled_bytes;
        assert!(pooled_bytes == 128 << 10 || matches!(form, Form::Close));
    }
}

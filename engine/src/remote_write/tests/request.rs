//! Which way a request's body is made, from one to the next; and that each holds what was encoded.

use super::model::{LabelMap, block, layout, map, route, target, whole};
use crate::remote_write::construct::Template;
use crate::remote_write::encode::{Options, TargetLabels, encode, positions};
use crate::remote_write::request::{Compression, Compressor, Form, OpenRequest, uncompress};
use ringscrape_wal::scrape::Scrape;

/// Requests that are searched between two that are constructed to compare.
const SEARCHED: usize = 64;

/// A scrape of families of the same objects, whose names have nothing in common; a family is a
/// block, as a construction finds what repeats within one.
fn scrape(families: usize, objects: usize) -> Scrape {
    let name = |object: usize| {
        let word = |n: usize| (object + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
        format!("{:x}{:x}{:x}", word(1), word(100_000), word(200_000))
    };
    let family = |family: usize| {
        let family = format!("family_{family}");
        let series: Vec<LabelMap> = (0..objects)
            .map(|object| map(&[("__name__", &family), ("object", &name(object))]))
            .collect();
        whole(&block(&["job".to_owned()], &series, &[]))
    };
    let runs: Vec<_> = (0..families).map(family).collect();
    Scrape {
        target: target(1, &map(&[("job", "a")])),
        route: route("test"),
        timestamp_ms: 1_700_000_000_000,
        values: vec![1.0; families * objects],
        layout: layout(&runs),
        stale: Box::default(),
        sides: None,
    }
}

/// Makes so many requests of the scrape, each later than the one before; gives for each whether it
/// was constructed.
fn constructed(
    request: &mut OpenRequest,
    compressor: &mut Compressor,
    scrape: &mut Scrape,
    requests: usize,
) -> Vec<bool> {
    let labels = TargetLabels::new(&scrape.target);
    let (range, options) = (0..positions(scrape), Options::default());
    let mut ways = Vec::new();
    for _ in 0..requests {
        scrape.timestamp_ms += 15_000;
        let mut raw = Vec::new();
        let counts = encode(&mut raw, scrape, &labels, range.clone(), options, |_| None);
        let template = |_: &_| Template::default();
        let own = request.encode(scrape, &labels, range.clone(), options, template);
        assert_eq!(own, counts);
        assert_eq!(request.raw_len(), raw.len());
        ways.push(request.uses_edits());
        let compression = request.form().compression;
        let body = request.finish(compressor);
        assert!(uncompress(&body, compression) == raw, "{compression:?}");
        assert_eq!(request.raw_len(), 0);
    }
    ways
}

/// One constructed request, then so many searched ones.
fn one_and_searched(searched: usize) -> Vec<bool> {
    let mut ways = vec![false; 1 + searched];
    ways[0] = true;
    ways
}

#[test]
fn what_repeats_far_away_is_searched_and_now_and_then_compared() {
    for compression in [Compression::Snappy, Compression::Zstd] {
        let mut scrape = scrape(10, 100);
        let (mut request, mut compressor) =
            (OpenRequest::new(Form::v1(compression)), Compressor::new());
        let requests = 2 * (1 + SEARCHED) + 2;
        let ways = constructed(&mut request, &mut compressor, &mut scrape, requests);
        let round = one_and_searched(SEARCHED);
        let expected = [round.clone(), round, one_and_searched(1)].concat();
        assert_eq!(ways, expected, "{compression:?}");
    }
}

#[test]
fn what_repeats_close_by_is_constructed() {
    for compression in [Compression::Snappy, Compression::Zstd] {
        let mut scrape = scrape(1_000, 1);
        let (mut request, mut compressor) =
            (OpenRequest::new(Form::v1(compression)), Compressor::new());
        let requests = SEARCHED + 2;
        let ways = constructed(&mut request, &mut compressor, &mut scrape, requests);
        assert_eq!(ways, vec![true; requests], "{compression:?}");
    }
}

/// As after a receiver has refused zstd: what was found for one form says nothing of the other.
#[test]
fn another_form_is_compared_at_once() {
    let mut far = scrape(10, 100);
    let mut close = scrape(1_000, 1);
    let mut compressor = Compressor::new();
    for (first, searched) in [(&mut close, SEARCHED), (&mut scrape(10, 100), 3)] {
        let mut request = OpenRequest::new(Form::v1(Compression::Zstd));
        constructed(&mut request, &mut compressor, first, 3);
        request.set_form(Form::v1(Compression::Zstd));
        request.set_form(Form::v1(Compression::Snappy));
        assert_eq!(request.form(), Form::v1(Compression::Snappy));
        let ways = constructed(&mut request, &mut compressor, &mut far, 1 + searched);
        assert_eq!(ways, one_and_searched(searched));
    }
}

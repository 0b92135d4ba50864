//! Values of one layout -> base values for another, entry by entry.

/// A run of a layout, its block named by any number that is the same for both layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) block: u64,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// Fills `out` with one value per entry of `spans`: the one of the same (block, entry) in
/// `known_spans`, whose values are `known_values`, else 0.0. Returns how many were found.
///
/// No entry may occur twice in `known_spans`, and their lengths sum up to `known_values.len()`.
pub(crate) fn map_base(
    known_spans: impl Iterator<Item = Span>,
    known_values: &[f64],
    spans: impl Iterator<Item = Span>,
    out: &mut Vec<f64>,
) -> usize {
    let mut known: Vec<(Span, usize)> = Vec::new();
    let mut start = 0usize;
    for span in known_spans {
        known.push((span, start));
        start += (span.to - span.from) as usize;
    }
    debug_assert_eq!(start, known_values.len());
    known.sort_unstable_by_key(|(span, _)| (span.block, span.from));

    out.clear();
    let mut found = 0;
    for span in spans {
        let out_start = out.len();
        out.resize(out_start + (span.to - span.from) as usize, 0.0);
        let first =
            known.partition_point(|(known, _)| (known.block, known.to) <= (span.block, span.from));
        for (known, values_start) in &known[first..] {
            if known.block != span.block || known.from >= span.to {
                break;
            }
            let (from, to) = (known.from.max(span.from), known.to.min(span.to));
            let source = values_start + (from - known.from) as usize;
            let target = out_start + (from - span.from) as usize;
            let len = (to - from) as usize;
            out[target..target + len].copy_from_slice(&known_values[source..source + len]);
            found += len;
        }
    }
    found
}

/// True if no entry occurs twice and no run is empty.
pub(crate) fn spans_are_disjoint(spans: &[Span]) -> bool {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable_by_key(|span| (span.block, span.from));
    sorted.iter().all(|span| span.from < span.to)
        && sorted
            .windows(2)
            .all(|pair| pair[0].block != pair[1].block || pair[0].to <= pair[1].from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Runs over 3 blocks of 8 entries, without repetition, cut and ordered at random.
    fn spans() -> impl Strategy<Value = Vec<Span>> {
        proptest::collection::vec((0u64..3, 0u32..8), 0..24).prop_map(|entries| {
            let mut spans: Vec<Span> = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for (block, entry) in entries {
                if !seen.insert((block, entry)) {
                    continue;
                }
                match spans.last_mut() {
                    Some(last) if last.block == block && last.to == entry => last.to += 1,
                    _ => spans.push(Span {
                        block,
                        from: entry,
                        to: entry + 1,
                    }),
                }
            }
            spans
        })
    }

    fn entries(spans: &[Span]) -> Vec<(u64, u32)> {
        spans
            .iter()
            .flat_map(|s| (s.from..s.to).map(move |e| (s.block, e)))
            .collect()
    }

    proptest! {
        #[test]
        fn equals_a_map(known in spans(), wanted in spans()) {
            prop_assert!(spans_are_disjoint(&known));
            let values: Vec<f64> = (1..=entries(&known).len()).map(|v| v as f64).collect();
            let model: HashMap<_, _> =
                entries(&known).into_iter().zip(values.iter().copied()).collect();
            let expected: Vec<f64> = entries(&wanted)
                .iter()
                .map(|e| model.get(e).copied().unwrap_or(0.0))
                .collect();
            let mut out = Vec::new();
            let found =
                map_base(known.iter().copied(), &values, wanted.iter().copied(), &mut out);
            prop_assert_eq!(found, expected.iter().filter(|v| **v != 0.0).count());
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn overlaps_are_seen() {
        let span = |block, from, to| Span { block, from, to };
        assert!(spans_are_disjoint(&[
            span(1, 3, 5),
            span(1, 0, 3),
            span(2, 0, 9)
        ]));
        assert!(!spans_are_disjoint(&[span(1, 3, 5), span(1, 0, 4)]));
        assert!(!spans_are_disjoint(&[span(1, 3, 3)]));
    }
}

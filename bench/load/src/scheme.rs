//! Labels and a response number -> the value a series must have; a value -> that number back.
//!
//! Fleet and sink share this file and nothing else: the sink keeps no copy of what was exposed, it
//! recomputes it. The scheme, which any receiver may rely on:
//!
//! 1. The **identity** of a series is a 64-bit mix of the sum of [`label_hash`] over its own
//!    labels, `__name__` included, without the labels that the scraper adds (`job`, `instance`). A
//!    sum does not depend on the order. So a label that was changed, lost or added on the way shows
//!    as a wrong value.
//! 2. Target `t` counts its completed responses, `n = 1, 2, 3, …`. A response that was cut, refused
//!    or answered with an error does not count, so the values a scraper keeps have consecutive `n`
//!    whatever faults are injected and however often the scraper restarts.
//! 3. Series [`RESPONSES`] is `t * 1_000_000 + n`: the only value that tells targets apart, and the
//!    absolute count. Series [`CYCLE`] is the cycle length `K`, at most [`CYCLE_MAX`].
//! 4. Every other value is `law(shape, identity)` at `m = (n + t * PHASE_STEP) mod K`. A
//!    **changing** law is `(base + m * step) / divisor` and gives `m` back; a **constant** one does
//!    not move. Bodies therefore repeat after `K` responses and like targets share them, yet a
//!    receiver sees any missing, doubled or swapped response of a changing series from `m`, and a
//!    missing sample of a constant one by counting against [`RESPONSES`]. Two targets are at
//!    different places of the cycle, so mixing them up shows too.
//! 5. Which series change and how their text looks depends on the name ([`shape`]) and the
//!    identity.
//!
//! Histogram buckets follow the same laws, so they are not cumulative: no scraper looks at that.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Longest cycle of bodies, in responses.
pub const CYCLE_MAX: u32 = 256;
/// Name of the series whose value is `target * 1_000_000 + n`.
pub const RESPONSES: &str = "fleet_responses_total";
/// Name of the series whose value is the cycle length in responses.
pub const CYCLE: &str = "fleet_cycle_responses";
/// Targets start this many responses apart in the cycle; odd, so it never divides a power of 2.
pub const PHASE_STEP: u64 = 37;
/// Bits of a staleness marker. Source: prometheus `model/value/value.go` `StaleNaN`.
pub const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;

const RESPONSES_PER_TARGET: u64 = 1_000_000;
/// Relative difference up to which a value counts as inexact rather than wrong: some 45 units in
/// the last place, far below the distance of neighbouring values of any law.
const INEXACT_MAX: f64 = 1e-14;

/// Hash of one label; summed (wrapping) over the labels of a series.
pub fn label_hash(name: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(name))
}

/// Spreads a sum of label hashes; the result is the series' identity.
///
/// Source: the finaliser of splitmix64 (Steele, Lea, Flood 2014).
pub fn identity(label_hash_sum: u64) -> u64 {
    let mut x = label_hash_sum;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Value of [`RESPONSES`] for response `n` of `target`; exact for every target below 2^33.
pub fn responses_value(target: u32, n: u64) -> f64 {
    (u64::from(target) * RESPONSES_PER_TARGET + n) as f64
}

/// What a value of [`RESPONSES`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Number of the target.
    pub target: u32,
    /// Its completed responses, this one included.
    pub n: u64,
    /// Whether the bits are the exact ones; else the value is off in the last bits.
    pub exact: bool,
}

/// The inverse of [`responses_value`], or `None` for what no fleet writes.
pub fn read_responses_value(value: f64) -> Option<Response> {
    if !(0.5..9e15).contains(&value) {
        return None;
    }
    let whole = value.round();
    if (value - whole).abs() > whole * INEXACT_MAX {
        return None;
    }
    let number = whole as u64;
    Some(Response {
        target: u32::try_from(number / RESPONSES_PER_TARGET).ok()?,
        n: number % RESPONSES_PER_TARGET,
        exact: value == whole,
    })
}

/// Place in the cycle of response `n` of `target`; `cycle` in `1..=CYCLE_MAX`.
pub fn place(target: u32, n: u64, cycle: u32) -> u32 {
    ((n + u64::from(target) * PHASE_STEP) % u64::from(cycle)) as u32
}

/// Per power of ten: the limit of numerators, what a step of the pace adds, and the least step,
/// which keeps places so far apart that a value off in its last bits is still nearest to its own
/// place.
const MAGNITUDES: [(u64, u64, u64); 16] = {
    let mut table = [(1, 1, 1); 16];
    let (mut power, mut limit) = (0, 1u64);
    while power < 16 {
        let stride = if limit < 20_000 { 1 } else { limit / 20_000 };
        table[power] = (limit, stride, 1 + limit / 1_000_000);
        limit *= 10;
        power += 1;
    }
    table
};

/// What kind of values a series name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Whole numbers (`_bucket`, `_count`); half of the series change.
    Count,
    /// Anything an exporter of a machine shows; half of the series change.
    Machine,
    /// States of objects (`kube_`): mostly 0 and 1; one series in 200 changes.
    Object,
    /// Measurements (`app_`): 19 series in 20 change, with all the digits of a double.
    Busy,
}

/// The shape that a metric name has.
pub fn shape(name: &[u8]) -> Shape {
    if name.starts_with(b"kube_") {
        Shape::Object
    } else if name.starts_with(b"app_") {
        Shape::Busy
    } else if name.ends_with(b"_bucket") || name.ends_with(b"_count") {
        Shape::Count
    } else {
        Shape::Machine
    }
}

/// How the value of one series follows from the place in the cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// The same at every place; may be NaN or infinite.
    Constant(f64),
    /// `(base + place * step) / divisor`, in this order, all in f64 after an exact sum.
    Changing {
        /// Numerator at place 0.
        base: u64,
        /// Distance of neighbouring numerators, at least 1.
        step: u64,
        /// 1 or a power of ten; for `Busy` one that leaves decimals without end.
        divisor: f64,
    },
}

/// What a received value says about its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The exact bits; the place for a changing law.
    Right(Option<u32>),
    /// Off in the last bits only: a decimal reader that does not round correctly.
    Inexact(Option<u32>),
    /// Not a value of this series.
    Wrong,
}

/// The law of the series with this identity.
pub fn law(shape: Shape, identity: u64) -> Law {
    // Independent bits for: whether it changes, which class, how large, how fast.
    let lot = identity & 0xffff;
    let class = (identity >> 16) & 0xff;
    let size = (identity >> 24) & 0xffff_ffff;
    let pace = (identity >> 56) & 0xff;
    let changing = match shape {
        Shape::Count | Shape::Machine => lot < 0x8000,
        Shape::Object => lot < 0x10000 / 200,
        Shape::Busy => lot < 0x10000 / 20 * 19,
    };
    if changing {
        let (magnitude, divisor) = match (shape, class) {
            (Shape::Busy, 0..=127) => (6 + class % 8, 7e3),
            (Shape::Busy, _) => (6 + class % 8, 1.3e7),
            (Shape::Count, _) | (_, 0..=127) => (3 + class % 8, 1.0),
            (_, 128..=207) => (5 + class % 6, 1e3),
            _ => (7 + class % 9, 1e9),
        };
        let (limit, stride, least) = MAGNITUDES[magnitude as usize];
        // A share of the limit: `size` has 32 bits.
        let base = ((u128::from(size) * u128::from(limit)) >> 32) as u64;
        return Law::Changing {
            base,
            step: least + pace * stride,
            divisor,
        };
    }
    Law::Constant(match (shape, class) {
        (Shape::Object, 0..=127) => (size & 1) as f64,
        (Shape::Object, 128..=199) => 1.0,
        (Shape::Object, _) => (1_600_000_000 + size % 100_000_000) as f64,
        (Shape::Count, _) => (size % 1_000_000) as f64,
        (Shape::Busy, _) => (size % 1_000) as f64,
        (Shape::Machine, 0..=63) => 0.0,
        (Shape::Machine, 64..=95) => 1.0,
        (Shape::Machine, 96..=159) => (size % 4096) as f64,
        (Shape::Machine, 160..=223) => (size * 4096) as f64,
        (Shape::Machine, 224..=252) => (size % 10_000_000) as f64 / 1e3,
        (Shape::Machine, 253 | 254) => f64::INFINITY,
        (Shape::Machine, _) => f64::NAN,
    })
}

impl Law {
    /// The value at a place of the cycle.
    pub fn at(self, place: u32) -> f64 {
        match self {
            Law::Constant(value) => value,
            Law::Changing {
                base,
                step,
                divisor,
            } => (base + u64::from(place) * step) as f64 / divisor,
        }
    }

    /// Compares `value` with the law; staleness markers are not values and never come here.
    pub fn check(self, value: f64) -> Check {
        match self {
            Law::Constant(expected) => close(value, expected, None),
            Law::Changing {
                base,
                step,
                divisor,
            } => {
                // Half a step is far more than what rounding takes, so no exact `round` is needed.
                let numerator = value * divisor + 0.5;
                if !(numerator >= base as f64 && numerator < 9e15) {
                    return Check::Wrong;
                }
                let above = numerator as u64 - base;
                // Rounding on the way back may miss the numerator by a little when it is large.
                let place = (above + step / 2) / step;
                if place >= u64::from(CYCLE_MAX) {
                    return Check::Wrong;
                }
                close(value, self.at(place as u32), Some(place as u32))
            }
        }
    }
}

fn close(value: f64, expected: f64, place: Option<u32>) -> Check {
    if value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan() {
        Check::Right(place)
    } else if expected.is_finite() && (value - expected).abs() <= expected.abs() * INEXACT_MAX {
        Check::Inexact(place)
    } else {
        Check::Wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPES: [Shape; 4] = [Shape::Count, Shape::Machine, Shape::Object, Shape::Busy];

    proptest! {
        #[test]
        fn value_gives_its_place_back(bits in any::<u64>(), place in 0..CYCLE_MAX) {
            for shape in SHAPES {
                let law = law(shape, bits);
                let expected = matches!(law, Law::Changing { .. }).then_some(place);
                prop_assert_eq!(law.check(law.at(place)), Check::Right(expected));
            }
        }

        #[test]
        fn text_keeps_the_bits(bits in any::<u64>(), place in 0..CYCLE_MAX) {
            for shape in SHAPES {
                let law = law(shape, bits);
                let mut text = Vec::new();
                crate::gofloat::write_go_g(&mut text, law.at(place));
                let read: f64 = std::str::from_utf8(&text).unwrap().parse().unwrap();
                let expected = matches!(law, Law::Changing { .. }).then_some(place);
                prop_assert_eq!(law.check(read), Check::Right(expected));
            }
        }

        #[test]
        fn any_flipped_bit_shows(bits in any::<u64>(), place in 0..CYCLE_MAX, bit in 0..64u32) {
            for shape in SHAPES {
                let law = law(shape, bits);
                let value = law.at(place);
                if value.is_nan() { continue }
                let expected = matches!(law, Law::Changing { .. }).then_some(place);
                let flipped = f64::from_bits(value.to_bits() ^ (1u64 << bit));
                prop_assert_ne!(law.check(flipped), Check::Right(expected));
            }
        }

        #[test]
        fn last_place_is_inexact_not_wrong(bits in any::<u64>(), place in 0..CYCLE_MAX) {
            for shape in [Shape::Machine, Shape::Busy] {
                let law = law(shape, bits);
                let value = law.at(place);
                prop_assume!(value.is_finite() && value > 0.0);
                let off = f64::from_bits(value.to_bits() + 1);
                prop_assert!(matches!(law.check(off), Check::Inexact(_)), "{law:?} {value} {off}");
            }
        }

        #[test]
        fn responses_value_is_invertible(target in 0..1_000_000u32, n in 1..999_999u64) {
            let value = responses_value(target, n);
            let exact = Response { target, n, exact: true };
            prop_assert_eq!(read_responses_value(value), Some(exact));
            let off = f64::from_bits(value.to_bits() + 1);
            prop_assert_eq!(read_responses_value(off), Some(Response { exact: false, ..exact }));
        }
    }

    #[test]
    fn odd_values_are_wrong_not_a_panic() {
        let changing = Law::Changing {
            base: 10,
            step: 3,
            divisor: 1e3,
        };
        for value in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300, 9.0] {
            assert_eq!(changing.check(value), Check::Wrong, "{value}");
        }
        for value in [f64::NAN, -1.0, 0.5, 1e300, f64::INFINITY] {
            assert_eq!(read_responses_value(value), None, "{value}");
        }
        assert_eq!(Law::Constant(1.0).check(f64::NAN), Check::Wrong);
    }

    #[test]
    fn shares_of_changing_series() {
        let share = |shape| {
            let changing = (0..100_000u64)
                .filter(|i| matches!(law(shape, identity(*i)), Law::Changing { .. }))
                .count();
            changing as f64 / 1000.0
        };
        assert!((share(Shape::Machine) - 50.0).abs() < 1.0);
        assert!((share(Shape::Object) - 0.5).abs() < 0.1);
        assert!((share(Shape::Busy) - 95.0).abs() < 0.5);
    }

    #[test]
    fn neighbouring_targets_are_at_different_places() {
        for cycle in [4, 20, 240, 256] {
            assert_ne!(place(1, 5, cycle), place(2, 5, cycle));
            assert_eq!(place(3, 5, cycle), place(3, 5 + u64::from(cycle), cycle));
        }
    }
}

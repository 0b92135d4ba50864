//! Numbers: Go's grammar, and the fast path against the standard library.

use proptest::prelude::*;

use super::super::number::{Fault, bound, float, plain};

#[test]
fn go_grammar() {
    let cases: &[(&str, Result<f64, Fault>)] = &[
        ("0", Ok(0.0)),
        ("+1", Ok(1.0)),
        ("-1", Ok(-1.0)),
        ("1.", Ok(1.0)),
        (".5", Ok(0.5)),
        ("-.5e-1", Ok(-0.05)),
        ("1E+3", Ok(1000.0)),
        ("007", Ok(7.0)),
        ("1e-400", Ok(0.0)),
        ("0e99999", Ok(0.0)),
        ("1e308", Ok(1e308)),
        ("inf", Ok(f64::INFINITY)),
        ("+INF", Ok(f64::INFINITY)),
        ("-Inf", Ok(f64::NEG_INFINITY)),
        ("iNfInItY", Ok(f64::INFINITY)),
        ("-infinity", Ok(f64::NEG_INFINITY)),
        ("", Err(Fault::Syntax)),
        (".", Err(Fault::Syntax)),
        ("-", Err(Fault::Syntax)),
        ("e5", Err(Fault::Syntax)),
        ("1e", Err(Fault::Syntax)),
        ("1e+", Err(Fault::Syntax)),
        ("--1", Err(Fault::Syntax)),
        ("1.2.3", Err(Fault::Syntax)),
        ("+nan", Err(Fault::Syntax)),
        ("-nan", Err(Fault::Syntax)),
        ("nanx", Err(Fault::Syntax)),
        ("infini", Err(Fault::Syntax)),
        ("0x10", Err(Fault::Syntax)),
        ("1p5", Err(Fault::Syntax)),
        ("1_000", Err(Fault::Syntax)),
        ("1,5", Err(Fault::Syntax)),
        ("1 ", Err(Fault::Syntax)),
        ("\u{0661}", Err(Fault::Syntax)),
        ("1e309", Err(Fault::Range)),
        ("-1e99999999999999999999", Err(Fault::Range)),
    ];
    for (text, expected) in cases {
        assert_eq!(&float(text.as_bytes()), expected, "{text}");
    }
    assert_eq!(float(b"NaN").map(f64::to_bits), Ok(0x7ff8_0000_0000_0001));
    assert!(float(b"-0").is_ok_and(|zero| zero.is_sign_negative()));
}

#[test]
fn plain_forms() {
    let cases: &[(&str, Option<(f64, usize)>)] = &[
        ("1\n", Some((1.0, 2))),
        ("-0\nx", Some((-0.0, 3))),
        ("1.5e+3\n", Some((1500.0, 7))),
        ("+Inf\n", Some((f64::INFINITY, 5))),
        ("-Inf\n", Some((f64::NEG_INFINITY, 5))),
        ("", None),
        ("1", None),
        ("1.", None),
        ("1e", None),
        ("1e5", None),
        ("\n", None),
        (".\n", None),
        ("-\n", None),
        ("-.\n", None),
        (".e1\n", None),
        ("1e\n", None),
        ("1e+\n", None),
        (" 1\n", None),
        ("1 \n", None),
        ("1 5\n", None),
        ("1\r\n", None),
        ("Na\n", None),
        ("NaN", None),
        ("1e999\n", None),
    ];
    for (text, expected) in cases {
        let found = plain(text.as_bytes());
        assert_eq!(found, *expected, "{text:?}");
        if let (Some((found, _)), Some((expected, _))) = (found, expected) {
            assert_eq!(found.to_bits(), expected.to_bits(), "{text:?}");
        }
    }
    let nan = plain(b"NaN\n").map(|(value, used)| (value.to_bits(), used));
    assert_eq!(nan, Some((0x7ff8_0000_0000_0001, 4)));
}

/// Go's `strconv.FormatFloat(f, 'g', -1, 64)`, with `.0` where it shows an integer.
#[test]
fn bounds() {
    let cases = [
        ("1", "1.0"),
        ("1.0", "1.0"),
        ("0", "0.0"),
        ("-0", "0.0"),
        ("-1", "-1.0"),
        ("0.50", "0.5"),
        ("100000", "100000.0"),
        ("123456", "123456.0"),
        ("1000000", "1e+06"),
        ("1234567", "1.234567e+06"),
        ("12345678.9", "1.23456789e+07"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("-0.000012", "-1.2e-05"),
        ("1e100", "1e+100"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("inf", "+Inf"),
        ("-Infinity", "-Inf"),
        ("nan", "NaN"),
    ];
    for (text, expected) in cases {
        assert_eq!(bound(float(text.as_bytes()).unwrap()), expected, "{text}");
    }
}

/// The fast path gives exactly what the standard library gives for the same text.
fn same_as_std(text: &str) {
    let expected: f64 = text.parse().unwrap();
    let line = format!("{text}\n");
    match plain(line.as_bytes()) {
        Some((value, used)) => {
            assert_eq!(
                (value.to_bits(), used),
                (expected.to_bits(), line.len()),
                "{text}"
            );
            assert!(value.is_finite());
        }
        None => assert!(expected.is_infinite() || text.len() > 30, "{text} is plain"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_f64_reads_back(bits: u64) {
        let value = f64::from_bits(bits);
        if value.is_finite() {
            same_as_std(&format!("{value}"));
            same_as_std(&format!("{value:e}"));
        }
    }

    #[test]
    fn decimals_read_as_std_does(
        text in "-?[0-9]{1,22}(\\.[0-9]{0,22})?([eE][+-]?[0-9]{1,3})?"
    ) {
        same_as_std(&text);
    }

    #[test]
    fn short_decimals_read_as_std_does(
        text in "-?[0-9]{0,9}\\.[0-9]{1,9}(e[+-]?[0-9]{1,2})?"
    ) {
        same_as_std(&text);
    }

    #[test]
    fn integers_read_as_std_does(value: i64) {
        same_as_std(&value.to_string());
        same_as_std(&(value >> 20).to_string());
    }

    /// What the fast path takes the slow path takes, whatever the bytes.
    #[test]
    fn plain_is_a_part_of_float(
        text in "[-+.eE0-9a-fnNiIyYtT _]{0,12}\n[ -~]{0,4}"
    ) {
        if let Some((value, used)) = plain(text.as_bytes()) {
            prop_assert_eq!(&text[used - 1..used], "\n");
            let slow = float(&text.as_bytes()[..used - 1]).map(f64::to_bits);
            prop_assert_eq!(slow, Ok(value.to_bits()));
        }
    }
}

//! Rules of OpenMetrics, one case each.

use super::*;

const OM: Dialect = Dialect::OpenMetrics;

#[test]
fn series_forms() {
    let cases = [
        ("a 1\n", r#"__name__="a""#),
        ("a{} 1\n", r#"__name__="a""#),
        ("a{b=\"c\"} 1\n", r#"__name__="a",b="c""#),
        ("a{b=\"c\",} 1\n", r#"__name__="a",b="c""#),
        (
            "a{b=\"c\",d=\"\\\\\\\"\\n\\x\"} 1\n",
            r#"__name__="a",b="c",d="\\\"\n\\x""#,
        ),
        ("{\"a.b\"} 1\n", r#"__name__="a.b""#),
        ("{\"a.b\",\"c d\"=\"e\"} 1\n", r#"__name__="a.b",c d="e""#),
        ("{c=\"d\",\"a.b\"} 1\n", r#"__name__="a.b",c="d""#),
        ("a{b=\"x\0\r\ty\"} 1\n", r#"__name__="a",b="x\0\r\ty""#),
    ];
    for (body, series) in cases {
        let body = format!("{body}# EOF\n");
        assert_eq!(rows(OM, &body), Ok(vec![row(series, 1.0)]), "{body:?}");
    }
}

#[test]
fn timestamps_and_exemplars() {
    let cases = [
        ("a 1 1.5", Some(1500), None),
        ("a 1 -1.5", Some(-1500), None),
        ("a 1 1e3", Some(1_000_000), None),
        ("a 1 1.9999", Some(1999), None),
        ("a 1 1520879607.789", Some(1_520_879_607_789), None),
        ("a 1 # {} 2", None, Some("[] 2 None")),
        ("a 1 # {b=\"c\"} 2", None, Some(r#"[("b", "c")] 2 None"#)),
        (
            "a 1 # {b=\"\\\"\",\"d e\"=\"f\",} 2 3",
            None,
            Some(r#"[("b", "\""), ("d e", "f")] 2 Some(3000)"#),
        ),
        (
            "a 1 5 # {b=\"c\"} -Inf 0.001",
            Some(5000),
            Some(r#"[("b", "c")] -inf Some(1)"#),
        ),
    ];
    for (line, timestamp_ms, exemplar) in cases {
        let rows = rows(OM, &format!("{line}\n# EOF\n")).expect(line);
        assert_eq!(rows[0].timestamp_ms, timestamp_ms, "{line}");
        assert_eq!(rows[0].exemplar.as_deref(), exemplar, "{line}");
        assert_eq!(rows[0].value, 1.0_f64.to_bits());
    }
}

#[test]
fn comment_forms() {
    let body = "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\n# HELP a_seconds x\\n\\\"y\\\\\n\
        # TYPE \"b c\" info\n# UNIT d \n# HELP d \n# TYPE e unknown\n# TYPE f stateset\n\
        # TYPE g gaugehistogram\n# TYPE h counter\n# TYPE i summary\n# TYPE j histogram\n";
    let found = format!("{:?}", comments(OM, format!("{body}# EOF").as_bytes()));
    let expected = "[Type(\"a_seconds\", Gauge), Unit(\"a_seconds\", \"seconds\"), \
        Help(\"a_seconds\", \"x\\n\\\"y\\\\\"), Type(\"b c\", Info), Unit(\"d\", \"\"), \
        Help(\"d\", \"\"), Type(\"e\", Unknown), Type(\"f\", StateSet), \
        Type(\"g\", GaugeHistogram), Type(\"h\", Counter), Type(\"i\", Summary), \
        Type(\"j\", Histogram)]";
    assert_eq!(found, expected);
    let sample = format!("{body}a 1\n# EOF\n");
    let (pieces, tail) = pieces(OM, sample.as_bytes()).unwrap();
    assert_eq!(pieces[0].prefix.len(), body.len() + 2);
    assert_eq!(format!("{:?}", comments(OM, pieces[0].prefix)), expected);
    assert_eq!(tail, b"# EOF\n");
}

#[test]
fn ends() {
    for body in ["# EOF", "# EOF\n"] {
        assert_eq!(rows(OM, body), Ok(vec![]));
        assert_eq!(next_piece(OM, body.as_bytes(), false), Ok(Next::NeedMore));
    }
    assert_eq!(rows(OM, "a 1\n# EOF").unwrap().len(), 1);
}

#[test]
fn bounds_follow_the_type_in_force() {
    let body = "# TYPE a histogram\na_bucket{le=\"1\"} 1\n# TYPE b gaugehistogram\n\
        b_bucket{le=\"1\"} 1\n# EOF\n";
    let rows = rows(OM, body).unwrap();
    assert_eq!(rows[0].series, r#"__name__="a_bucket",le="1.0""#);
    assert_eq!(rows[1].series, r#"__name__="b_bucket",le="1""#);
}

#[test]
fn refusals() {
    let cases: &[(&[u8], usize, &str)] = &[
        (b"", 0, "data does not end with # EOF"),
        (b"a 1\n", 4, "data does not end with # EOF"),
        (b"a 1", 3, "data does not end with # EOF"),
        (b"a 1 2", 5, "data does not end with # EOF"),
        (b"a 1 # {} 1", 10, "data does not end with # EOF"),
        (b"# HELP a b", 10, "data does not end with # EOF"),
        (b"# EOF\n\n", 6, "unexpected data after # EOF"),
        (b"# EOF\n# EOF\n", 6, "unexpected data after # EOF"),
        (b"# EOFa 1\n", 5, "unexpected data after # EOF"),
        (b"# EOF ", 5, "unexpected data after # EOF"),
        (b"\n# EOF\n", 0, "found the end of the line"),
        (b" a 1\n# EOF\n", 0, "found a space"),
        (b"# comment\n# EOF\n", 2, "expected `# HELP `"),
        (b"#\n# EOF\n", 1, "expected `# HELP `"),
        (b"#  HELP a b\n# EOF\n", 2, "expected `# HELP `"),
        (b"# HELP  a b\n# EOF\n", 7, "expected a metric name"),
        (b"# HELP a\n# EOF\n", 8, "expected a space and a text"),
        (b"# HELP a\tb\n# EOF\n", 8, "expected a space and a text"),
        (b"# HELP a \xff\n# EOF\n", 9, "not valid UTF-8"),
        (b"# TYPE a  gauge\n# EOF\n", 9, "unknown TYPE \" gauge\""),
        (b"# TYPE a untyped\n# EOF\n", 9, "unknown TYPE \"untyped\""),
        (b"# TYPE a gauge\r\n# EOF\n", 9, "unknown TYPE"),
        (
            b"# UNIT a_b c\n# EOF\n",
            11,
            "unit \"c\" is not a suffix of metric \"a_b\"",
        ),
        (b"# UNIT seconds seconds\n# EOF\n", 15, "not a suffix"),
        (b"# UNIT aseconds seconds\n# EOF\n", 16, "not a suffix"),
        (b"a  1\n# EOF\n", 2, "expected a value, found a space"),
        (b"a\t1\n# EOF\n", 1, "found a tab"),
        (b"a 1 \n# EOF\n", 4, "expected a timestamp"),
        (b"a 1  2\n# EOF\n", 4, "expected a timestamp"),
        (b"a 1\t\n# EOF\n", 2, "is not a number"),
        (b"a 1\r\n# EOF\n", 2, "is not a number"),
        (b"a 1 NaN\n# EOF\n", 4, "not finite"),
        (b"a 1 +Inf\n# EOF\n", 4, "not finite"),
        (b"a 1 x\n# EOF\n", 4, "is not a number"),
        (b"a 1 2 3\n# EOF\n", 6, "expected an exemplar"),
        (b"a {} 1\n# EOF\n", 2, "is not a number"),
        (b"a{ } 1\n# EOF\n", 2, "expected a label name"),
        (
            b"a{b=\"c\", d=\"e\"} 1\n# EOF\n",
            8,
            "expected a label name",
        ),
        (b"a{b=\"c\"d=\"e\"} 1\n# EOF\n", 7, "expected `,` or `}`"),
        (b"a{b =\"c\"} 1\n# EOF\n", 3, "expected `=`"),
        (
            b"a{b= \"c\"} 1\n# EOF\n",
            4,
            "expected a quoted label value",
        ),
        (b"a{b=\"c\n\"} 1\n# EOF\n", 6, "expected a closing quote"),
        (b"a{b=\"\xff\"} 1\n# EOF\n", 0, "not valid UTF-8"),
        (b"a{}1\n# EOF\n", 3, "expected a space and a value"),
        (b"{b=\"c\"} 1\n# EOF\n", 0, "without a metric name"),
        (b"{a,b=\"c\"} 1\n# EOF\n", 2, "expected `=`"),
        (b"a 1 #\n# EOF\n", 4, "is not a number"),
        (b"a 1 # \n# EOF\n", 6, "expected `{` of an exemplar"),
        (b"a 1 # x\n# EOF\n", 6, "expected `{` of an exemplar"),
        (
            b"a 1 # {}\n# EOF\n",
            8,
            "expected a space and the exemplar's value",
        ),
        (b"a 1 # {} \n# EOF\n", 9, "expected an exemplar's value"),
        (b"a 1 # {\"b\"} 1\n# EOF\n", 10, "expected `=`"),
        (b"a 1 # {b=\"c\"} 1 x\n# EOF\n", 16, "is not a number"),
        (
            b"a 1 # {b=\"c\"} 1 2 3\n# EOF\n",
            17,
            "expected the end of the line",
        ),
        (b"a 1 # {b=\"c\"} 1 Inf\n# EOF\n", 16, "not finite"),
        (b"a 1 # {b=\"\xff\"} 1\n# EOF\n", 6, "not valid UTF-8"),
        (b"\0", 0, "byte 0x00"),
        (b"a 1\n\0# EOF\n", 4, "byte 0x00"),
    ];
    for (body, offset, reason) in cases {
        let shown = String::from_utf8_lossy(body);
        let error = pieces(OM, body).expect_err(&format!("{shown:?} is refused"));
        assert!(error.to_string().contains(reason), "{shown:?}: {error}");
        assert_eq!(error.offset, *offset, "{shown:?}: {error}");
    }
}

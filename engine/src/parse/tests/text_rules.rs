//! Rules of the Prometheus text format, one case each.

use super::*;

const NAN: u64 = 0x7ff8_0000_0000_0001;

/// One sample line and the labels it must give.
#[test]
fn series_forms() {
    let cases = [
        ("a 1\n", r#"__name__="a""#),
        ("a 1", r#"__name__="a""#),
        ("  \ta \t 1\t \n", r#"__name__="a""#),
        (":a:b_c9 1\n", r#"__name__=":a:b_c9""#),
        ("_ 1\n", r#"__name__="_""#),
        ("a{} 1\n", r#"__name__="a""#),
        ("a{ } 1\n", r#"__name__="a""#),
        ("a{}1\n", r#"__name__="a""#),
        (r#"a{b="c"} 1"#, r#"__name__="a",b="c""#),
        (r#"a {b="c"}1"#, r#"__name__="a",b="c""#),
        (
            "a\t{\tb =\t\"c\" , d= \"e\" , } 1",
            r#"__name__="a",b="c",d="e""#,
        ),
        (r#"a{b="c",} 1"#, r#"__name__="a",b="c""#),
        (r#"a{b="c" d="e"} 1"#, r#"__name__="a",b="c",d="e""#),
        (r#"a{b="c"d="e"} 1"#, r#"__name__="a",b="c",d="e""#),
        (r#"a{d="e",b="c"} 1"#, r#"__name__="a",b="c",d="e""#),
        (r#"a{b="",c="d"} 1"#, r#"__name__="a",c="d""#),
        (r#"a{b="}{,=#"} 1"#, r#"__name__="a",b="}{,=#""#),
        (
            r#"a{b="\\n\n\"\x\\"} 1"#,
            r#"__name__="a",b="\\n\n\"\\x\\""#,
        ),
        (r#"a{b="ü€"} 1"#, r#"__name__="a",b="ü€""#),
        ("a{b=\"x\ny\r\tz\"} 1\n", r#"__name__="a",b="x\ny\r\tz""#),
        ("a{b=\"x\0y\"} 1\n", r#"__name__="a",b="x\0y""#),
        ("a{b=\"\0\"} 1\n", r#"__name__="a",b="\0""#),
        (r#"{"a"} 1"#, r#"__name__="a""#),
        (r#"{"a",} 1"#, r#"__name__="a""#),
        (r#"{"a.b", c="d"} 1"#, r#"__name__="a.b",c="d""#),
        (r#"{c="d","a.b"} 1"#, r#"__name__="a.b",c="d""#),
        (r#" { "a.b" , "c d" = "e" } 1"#, r#"__name__="a.b",c d="e""#),
        (r#"a{"c d"="e"} 1"#, r#"__name__="a",c d="e""#),
        (
            r#"{"ü \"q\" \\ \n","\"l\""="v"} 1"#,
            "\"l\"=\"v\",__name__=\"ü \\\"q\\\" \\\\ \\n\"",
        ),
        ("{\"a\nb\"} 1\n", r#"__name__="a\nb""#),
        (r#"{"",b="c"} 1"#, r#"b="c""#),
        (r#"{"a","b"="c"} 1"#, r#"__name__="a",b="c""#),
    ];
    for (body, series) in cases {
        assert_eq!(
            rows(Dialect::Text, body),
            Ok(vec![row(series, 1.0)]),
            "{body:?}"
        );
    }
}

#[test]
fn timestamps() {
    let cases = [
        ("a 1 0\n", 0),
        ("a 1 1395066363000\n", 1_395_066_363_000),
        ("a 1\t 12 \t\n", 12),
        ("a 1 007", 7),
        ("a 1 9223372036854775807\n", i64::MAX),
    ];
    for (body, timestamp_ms) in cases {
        let rows = rows(Dialect::Text, body).unwrap();
        assert_eq!(rows[0].timestamp_ms, Some(timestamp_ms), "{body:?}");
    }
}

#[test]
fn nan_is_canonical() {
    for text in ["NaN", "nan", "NAN", "nAn"] {
        let rows = rows(Dialect::Text, &format!("a {text}\nb {text} 5\n")).unwrap();
        assert_eq!((rows[0].value, rows[1].value), (NAN, NAN));
    }
}

/// What must fail the scrape, and what the error must say.
#[test]
fn refusals() {
    let cases: &[(&[u8], usize, &str)] = &[
        (
            b"a\n",
            1,
            "expected a blank and a value after the metric name, found the end of the line",
        ),
        (b"a", 1, "found the end of the body"),
        (b"a \n", 2, "expected a value"),
        (b"a{} \n", 4, "expected a value"),
        (b"a{b=\"c\"}{d=\"e\"} 1\n", 8, "expected a value, found `{`"),
        (b"a+1\n", 1, "expected a blank and a value"),
        (b"1a 1\n", 0, "expected a metric name"),
        (b"\"a\" 1\n", 0, "expected a metric name"),
        (b"\xff 1\n", 0, "byte 0xff"),
        (b"\r\n", 0, "a carriage return"),
        (b"a 1\r\n", 2, "is not a number"),
        (
            b"a 1 2\r\n",
            5,
            "expected the end of the line after the timestamp, found a carriage return",
        ),
        (b"a\r 1\n", 1, "a carriage return"),
        (b"# TYPE a gauge\r\na 1\n", 9, "expected the TYPE"),
        (b"a x\n", 2, "\"x\" is not a number"),
        (b"a 0x1\n", 2, "is not a number"),
        (b"a 0x1p-2\n", 2, "is not a number"),
        (b"a 1_0\n", 2, "is not a number"),
        (b"a +nan\n", 2, "is not a number"),
        (b"a -NaN 7\n", 2, "is not a number"),
        (b"a infin\n", 2, "is not a number"),
        (b"a 1e999\n", 2, "out of the range of a 64-bit float"),
        (b"a -1e999\n", 2, "out of the range"),
        (b"a 1 -5\n", 4, "expected a timestamp in digits"),
        (b"a 1 +5\n", 4, "expected a timestamp in digits"),
        (
            b"a 1 1.5\n",
            5,
            "expected the end of the line after the timestamp, found `.`",
        ),
        (b"a 1 5 6\n", 6, "expected the end of the line"),
        (
            b"a 1 9223372036854775808\n",
            4,
            "out of the range of 64 bits",
        ),
        (b"a 1 # {b=\"c\"} 1\n", 4, "expected a timestamp"),
        (b"a 1{\n", 3, "expected a timestamp in digits"),
        (b"a{b} 1\n", 3, "expected `=` after a label name, found `}`"),
        (b"a{b=c} 1\n", 4, "expected a quoted label value"),
        (b"a{b='c'} 1\n", 4, "expected a quoted label value"),
        (
            b"a{b=\n",
            4,
            "expected a quoted label value, found the end of the line",
        ),
        (
            b"a{b=\"c\n",
            7,
            "expected a closing quote, found the end of the body",
        ),
        (b"a{b=\"c\\\n\"} 1\n", 7, "expected an escaped character"),
        (b"a{b=\"c\"", 7, "found the end of the body"),
        (
            b"a{b=\"c\"\n} 1\n",
            7,
            "expected a label name or `}`, found the end of the line",
        ),
        (b"a{,} 1\n", 2, "expected a label name or `}`"),
        (
            b"a{b=\"c\",,d=\"e\"} 1\n",
            8,
            "expected a label name or `}`, found `,`",
        ),
        (
            b"a{=\"c\"} 1\n",
            2,
            "expected a label name or `}`, found `=`",
        ),
        (b"a{1b=\"c\"} 1\n", 2, "expected a label name"),
        (
            b"a{b:c=\"c\"} 1\n",
            3,
            "expected `=` after a label name, found `:`",
        ),
        (b"a{b.c=\"c\"} 1\n", 3, "found `.`"),
        (b"a{b=\"\xff\"} 1\n", 0, "is not valid UTF-8"),
        (b"{\"\xff\"} 1\n", 0, "is not valid UTF-8"),
        (b"{} 1\n", 0, "a series without a metric name"),
        (b"{b=\"c\"} 1\n", 0, "a series without a metric name"),
        (b"{\"a\",\"b\"} 1\n", 5, "a second metric name \"b\""),
        (b"a{\"b\"} 1\n", 2, "a second metric name"),
        (
            b"{\"a\" b=\"c\"} 1\n",
            5,
            "expected `=` after a label name, found `b`",
        ),
        (
            b"{a,b=\"c\"} 1\n",
            2,
            "expected `=` after a label name, found `,`",
        ),
        (b"{\"a\\\n\"} 1\n", 4, "expected an escaped character"),
        (b"a\0 1\n", 1, "byte 0x00"),
        (b"a{b\0=\"c\"} 1\n", 3, "byte 0x00"),
        (b"a{b=\0\"c\"} 1\n", 4, "byte 0x00"),
        (b"a{b=\"c\"\0} 1\n", 7, "byte 0x00"),
        (b"{\"a\0\"} 1\n", 3, "byte 0x00"),
        (b"a 1\0\n", 3, "byte 0x00"),
        (b"a 1 5\0\n", 5, "byte 0x00"),
        (b"a 1\n\nb{\n", 7, "expected a label name"),
    ];
    for (body, offset, reason) in cases {
        let error = pieces(Dialect::Text, body).expect_err(&format!("{body:?} is refused"));
        assert!(error.to_string().contains(reason), "{body:?}: {error}");
        assert_eq!(error.offset, *offset, "{body:?}: {error}");
    }
}

#[test]
fn refused_labels() {
    let cases = [
        (r#"a{b="c",b="d"} 1"#, r#"label "b" is given twice"#),
        (r#"a{b="",b="d"} 1"#, r#"label "b" is given twice"#),
        (r#"a{b="c","b"="c"} 1"#, r#"label "b" is given twice"#),
        (r#"a{__name__="b"} 1"#, r#"label "__name__" is given twice"#),
        (r#"a{""="b"} 1"#, "a label with an empty name"),
    ];
    for (body, reason) in cases {
        let error = rows(Dialect::Text, body).unwrap_err();
        assert!(error.contains(reason), "{body:?}: {error}");
    }
}

/// Comment lines: what they are read as.
#[test]
fn comment_forms() {
    let help = |name: &str, text: &str| format!("help {name:?} {text:?}");
    let kind = |name: &str, kind: &str| format!("type {name:?} {kind}");
    let cases: &[(&str, Vec<String>)] = &[
        ("# HELP a  b c \n", vec![help("a", " b c ")]),
        ("# HELP a\n", vec![help("a", "")]),
        ("# HELP a \t \n", vec![help("a", "")]),
        ("#\tHELP\t a\tb\r\n", vec![help("a", "b\r")]),
        ("  # HELP a b\n", vec![help("a", "b")]),
        (r#"# HELP a \\n\n\"\x"#, vec![help("a", "\\n\n\\\"\\x")]),
        ("# HELP a b\0c\n", vec![help("a", "b\0c")]),
        ("# HELP \"a.b\" c\n", vec![help("a.b", "c")]),
        ("# HELP \"a\\\"b\" c\n", vec![help("a\"b", "c")]),
        (
            "# HELP a:b c\n# HELP a:b d",
            vec![help("a:b", "c"), help("a:b", "d")],
        ),
        ("# TYPE a counter\n", vec![kind("a", "Counter")]),
        ("# TYPE a gauge\n", vec![kind("a", "Gauge")]),
        ("# TYPE a histogram\n", vec![kind("a", "Histogram")]),
        ("# TYPE a summary\n", vec![kind("a", "Summary")]),
        ("# TYPE a untyped", vec![kind("a", "Unknown")]),
        (
            "#   TYPE   a\tuntyped\n# HELP a x",
            vec![kind("a", "Unknown"), help("a", "x")],
        ),
        ("# TYPE \"a b\" gauge\n", vec![kind("a b", "Gauge")]),
        ("#\n#x\n##\n# x \r\n#HELP a b\n#TYPE a b\n", vec![]),
        (
            "# HELPa b\n# TYPEa b\n# HEL\n# HELP\n# TYPE\n# help a b\n",
            vec![],
        ),
        ("# UNIT a b\n# EOF\n", vec![]),
        ("\n \t\n\n# x", vec![]),
    ];
    for (body, expected) in cases {
        let shown = |dialect, bytes| -> Vec<String> {
            let show = |comment| match comment {
                Comment::Help(name, text) => help(&name, &text),
                Comment::Type(name, of) => kind(&name, &format!("{of:?}")),
                Comment::Unit(name, unit) => format!("unit {name:?} {unit:?}"),
            };
            comments(dialect, bytes).into_iter().map(show).collect()
        };
        let (found, tail) = pieces(Dialect::Text, body.as_bytes()).unwrap();
        assert_eq!((found.len(), tail), (0, body.as_bytes()), "{body:?}");
        assert_eq!(&shown(Dialect::Text, tail), expected, "{body:?}");
        let newline = if body.ends_with('\n') { "" } else { "\n" };
        let body = format!("{body}{newline}  a{{b=\"c\"}} 1\n");
        let (found, tail) = pieces(Dialect::Text, body.as_bytes()).unwrap();
        assert_eq!((found.len(), tail.len()), (1, 0), "{body:?}");
        assert_eq!(&shown(Dialect::Text, found[0].prefix), expected, "{body:?}");
        assert_eq!(found[0].series, b"a{b=\"c\"}");
    }
}

#[test]
fn refused_comments() {
    let cases: &[(&[u8], usize, &str)] = &[
        (b"# HELP \n", 7, "expected a metric name"),
        (b"# HELP 9a b\n", 7, "expected a metric name"),
        (b"# TYPE #\n", 7, "expected a metric name"),
        (b"# HELP \"a\n", 10, "expected a closing quote"),
        (b"# HELP a \xff\n", 9, "HELP text is not valid UTF-8"),
        (b"# HELP a\0b\n", 8, "byte 0x00"),
        (b"# TYPE a\n", 8, "found \"\""),
        (b"# TYPE a  gauge\n", 9, "found \" gauge\""),
        (b"# TYPE a gauge \n", 9, "found \"gauge \""),
        (b"# TYPE a Gauge\n", 9, "found \"Gauge\""),
        (b"# TYPE a unknown\n", 9, "expected the TYPE counter"),
        (b"# TYPE a info\n", 9, "found \"info\""),
    ];
    for (body, offset, reason) in cases {
        let error = pieces(Dialect::Text, body).expect_err(&format!("{body:?} is refused"));
        assert!(error.to_string().contains(reason), "{body:?}: {error}");
        assert_eq!(error.offset, *offset, "{body:?}: {error}");
    }
}

/// A NUL where a line could start ends the body, and what follows is not even looked at.
#[test]
fn nul_ends_the_body() {
    for end in ["\0", " \0", "\0not ok", "#\0not", "#x\0\n", "# \0x\n"] {
        let body = format!("a 1\n{end}\nnot ok\n");
        assert_eq!(
            rows(Dialect::Text, &body),
            Ok(vec![row(r#"__name__="a""#, 1.0)]),
            "{end:?}"
        );
        let window = format!("{end}\nnot ok\n");
        let found = next_piece(Dialect::Text, window.as_bytes(), false).unwrap();
        assert_eq!(
            found,
            Next::End {
                tail: window.as_bytes()
            }
        );
    }
    let rows = rows(Dialect::Text, "# x\0y\na 1\n").unwrap();
    assert_eq!(rows.len(), 1);
}

/// `le` and `quantile` follow the last TYPE line, whatever family it names.
#[test]
fn bounds_follow_the_type_in_force() {
    let body = r#"h_bucket{le="1"} 0
# TYPE h histogram
h_bucket{le="1",quantile="1"} 1
h_bucket{le="+inf"} 2
other{le="1000000"} 3
# TYPE s summary
# HELP s x
s{quantile="0.50",le="1"} 4
s{quantile="x"} 5
# TYPE g gauge
s{quantile="0.50"} 6
"#;
    let series: Vec<String> = rows(Dialect::Text, body)
        .unwrap()
        .into_iter()
        .map(|row| row.series)
        .collect();
    let expected = [
        r#"__name__="h_bucket",le="1""#,
        r#"__name__="h_bucket",le="1.0",quantile="1""#,
        r#"__name__="h_bucket",le="+Inf""#,
        r#"__name__="other",le="1e+06""#,
        r#"__name__="s",le="1",quantile="0.5""#,
        r#"__name__="s",quantile="x""#,
        r#"__name__="s",quantile="0.50""#,
    ];
    assert_eq!(series, expected);
    for (series, matters) in [
        ("a", false),
        (r#"a{b="le"}"#, false),
        (r#"a{le=""}"#, true),
        (r#"a {"quantile"="x"}"#, true),
    ] {
        assert_eq!(kind_matters(Dialect::Text, series.as_bytes()), matters);
    }
}

#[test]
fn empty_labels_are_named() {
    let series = br#"a{b="",c="d",e="",}"#;
    assert_eq!(empty_labels(Dialect::Text, series), ["b", "e"]);
}

#[test]
fn errors_show_the_line() {
    let body = b"fine 1\nthe_line_that_is_broken{a=\"b\" and goes on much longer than that} 1\n";
    let error = pieces(Dialect::Text, body).unwrap_err();
    let expected = "expected `=` after a label name, found `g` at byte 41 near \
        \"hat_is_broken{a=\\\"b\\\" and goes on much lon\"";
    assert_eq!(error.to_string(), expected);
}

//! Relabelling against tables of known results and against a plain model.

use super::*;
use crate::labels::{Labels, Value};
use proptest::prelude::*;

fn rule(action: Action) -> RuleConfig {
    RuleConfig {
        action,
        ..RuleConfig::default()
    }
}

fn sources(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn labels(text: &str) -> LabelsBuilder {
    let pairs = text
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap());
    LabelsBuilder::from(&Labels::from_pairs(pairs))
}

fn show(labels: LabelsBuilder) -> String {
    let labels = labels.into_labels();
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

#[track_caller]
fn check(config: RuleConfig, input: &str, expected: &str) {
    let rules = Rules::new(vec![config]).unwrap();
    let mut labels = labels(input);
    let result = match rules.apply(&mut labels) {
        Verdict::Keep => show(labels),
        Verdict::Drop => "dropped".to_owned(),
    };
    assert_eq!(result, expected);
}

#[track_caller]
fn refused(config: RuleConfig, part: &str) {
    let error = Rules::new(vec![config]).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

/// regex, target_label, replacement.
fn replace(source: &str, regex: &str, target_label: &str, replacement: &str) -> RuleConfig {
    RuleConfig {
        source_labels: sources(&source.split(',').collect::<Vec<_>>()),
        regex: Some(regex.into()),
        target_label: target_label.into(),
        replacement: replacement.into(),
        ..RuleConfig::default()
    }
}

#[test]
fn replace_sets_deletes_and_skips() {
    check(
        replace("a", "f(.*)", "d", "ch${1}-ch${1}"),
        "a=foo",
        "a=foo d=choo-choo",
    );
    check(
        replace("a,b", "f(.*);(.*)r", "a", "b${1}${2}m"),
        "a=foo b=bar",
        "a=boobam b=bar",
    );
    check(replace("a", "x", "d", "y"), "a=foo", "a=foo");
    // An unmatched group is empty; an empty result deletes the label.
    check(replace("a", "foo|(bar)", "d", "$1"), "a=foo d=1", "a=foo");
    check(replace("missing", "(.*)", "d", "$1"), "a=foo d=1", "a=foo");
    // The target label is a template; an empty one skips the rule.
    check(
        replace("a", "(f)(o*)", "l_$2", "$1"),
        "a=foo",
        "a=foo l_oo=f",
    );
    check(replace("a", "(x)?.*", "$1", "v"), "a=foo", "a=foo");
    // No `regex`, no source labels: sets a constant.
    let constant = RuleConfig {
        target_label: "env".into(),
        replacement: "prod".into(),
        ..RuleConfig::default()
    };
    check(constant, "a=1", "a=1 env=prod");
    // `regex: ""` matches the empty value only.
    check(replace("a", "", "d", "y"), "a=foo", "a=foo");
    check(replace("b", "", "d", "y"), "a=foo", "a=foo d=y");
}

#[test]
fn templates_expand_as_in_go() {
    let expand = |template: &str| {
        let rules = Rules::new(vec![replace(
            "a",
            "(?P<first>.)(.)(?<x_2>.)",
            "r",
            template,
        )]);
        let mut labels = labels("a=xyz");
        assert_eq!(rules.unwrap().apply(&mut labels), Verdict::Keep);
        labels.text("r").to_owned()
    };
    for (template, expected) in [
        ("$1$2$3", "xyz"),
        ("${1}1", "x1"),
        ("$11", ""),
        ("$1x", ""),
        ("$1-x", "x-x"),
        ("${first}${x_2}", "xz"),
        ("$first$x_2", "xz"),
        ("$0", "xyz"),
        ("$01", ""),
        ("$$1", "$1"),
        ("$", "$"),
        ("a$", "a$"),
        ("${1", "${1"),
        ("${}", "${}"),
        ("$-", "$-"),
        ("${1 }", "${1 }"),
        ("$ä", ""),
        ("$1€", "x€"),
        ("$$$$", "$$"),
    ] {
        assert_eq!(expand(template), expected, "{template}");
    }
}

#[test]
fn keep_drop_and_equality() {
    let config = |action, regex: &str| RuleConfig {
        source_labels: sources(&["a"]),
        regex: Some(regex.into()),
        ..rule(action)
    };
    check(config(Action::Keep, "fo"), "a=foo", "dropped");
    check(config(Action::Keep, "fo+"), "a=foo", "a=foo");
    check(config(Action::Drop, "fo"), "a=foo", "a=foo");
    check(config(Action::Drop, ".*o.*"), "a=foo", "dropped");
    check(config(Action::Keep, "a|foo"), "a=foo", "a=foo");
    let equal = |action| RuleConfig {
        source_labels: sources(&["a", "b"]),
        target_label: "t".into(),
        ..rule(action)
    };
    check(equal(Action::KeepEqual), "a=1 b=2 t=1;2", "a=1 b=2 t=1;2");
    check(equal(Action::KeepEqual), "a=1 b=2 t=1", "dropped");
    check(equal(Action::DropEqual), "a=1 b=2 t=1;2", "dropped");
    check(equal(Action::DropEqual), "a=1 b=2", "a=1 b=2");
}

#[test]
fn hashmod_is_bit_exact() {
    // Expected values from the MD5 sum: last 8 bytes, big-endian, modulo.
    let config = |modulus| RuleConfig {
        source_labels: sources(&["a"]),
        target_label: "h".into(),
        modulus,
        ..rule(Action::HashMod)
    };
    // md5("foo") = acbd18db4cc2f85c edef654fccc4a4d8
    check(config(1000), "a=foo", "a=foo h=696");
    check(config(u64::MAX), "a=foo", "a=foo h=17145033699835028696");
    // md5("") = d41d8cd98f00b204 e9800998ecf8427e
    check(config(u64::MAX), "b=1", "b=1 h=16825458760271544958");
}

#[test]
fn names_are_mapped_dropped_and_kept() {
    let config = |action, regex: &str, replacement: &str| RuleConfig {
        regex: Some(regex.into()),
        replacement: replacement.into(),
        ..rule(action)
    };
    let map = |regex: &str, replacement: &str| config(Action::LabelMap, regex, replacement);
    check(
        map("__meta_(.+)", "$1"),
        "__meta_a=1 __meta_b=2 a=0",
        "__meta_a=1 __meta_b=2 a=1 b=2",
    );
    check(
        map("(a)(.*)", "${2}_x"),
        "ab=1 ac=2",
        "ab=1 ac=2 b_x=1 c_x=2",
    );
    // All values are read before the first is written; of two for one name the later wins.
    check(map("(a|b)", "b"), "a=1 b=2", "a=1 b=2");
    check(map("a", "b"), "a=1 b=2", "a=1 b=1");
    let drop = config(Action::LabelDrop, "a.*|__name__", "$1");
    check(drop, "__name__=m a=1 ab=2 ba=3", "ba=3");
    check(
        config(Action::LabelKeep, "a.*", "$1"),
        "a=1 ab=2 ba=3",
        "a=1 ab=2",
    );
}

#[test]
fn case_is_mapped_character_by_character() {
    let config = |action| RuleConfig {
        source_labels: sources(&["a"]),
        target_label: "t".into(),
        ..rule(action)
    };
    for (text, upper, lower) in [
        ("FooBar", "FOOBAR", "foobar"),
        ("straße", "STRAßE", "straße"),
        ("ΣΑΣ", "ΣΑΣ", "σασ"),
        ("İx", "İX", "ix"),
        ("ᾳᾀ", "ᾼᾈ", "ᾳᾀ"),
        ("ﬁ", "ﬁ", "ﬁ"),
        ("ǆ", "Ǆ", "ǆ"),
        ("ŉ", "ŉ", "ŉ"),
    ] {
        let input = format!("a={text}");
        check(
            config(Action::Uppercase),
            &input,
            &format!("a={text} t={upper}"),
        );
        check(
            config(Action::Lowercase),
            &input,
            &format!("a={text} t={lower}"),
        );
    }
}

#[test]
fn unusable_rules_are_refused() {
    refused(rule(Action::Replace), "replace requires `target_label`");
    refused(rule(Action::Lowercase), "lowercase requires `target_label`");
    let target = |action| RuleConfig {
        target_label: "t".into(),
        ..rule(action)
    };
    refused(target(Action::HashMod), "hashmod requires a `modulus`");
    refused(
        RuleConfig {
            replacement: "x".into(),
            ..target(Action::Uppercase)
        },
        "`replacement`",
    );
    refused(
        RuleConfig {
            replacement: "".into(),
            ..rule(Action::LabelMap)
        },
        "`replacement`",
    );
    refused(
        RuleConfig {
            separator: ",".into(),
            ..target(Action::KeepEqual)
        },
        "only",
    );
    refused(
        RuleConfig {
            regex: Some("(.*)".into()),
            ..target(Action::DropEqual)
        },
        "only",
    );
    refused(
        RuleConfig {
            source_labels: sources(&["a"]),
            ..rule(Action::LabelDrop)
        },
        "only",
    );
    refused(target(Action::LabelKeep), "only");
    refused(replace("", "x", "t", "y"), "label name");
    refused(
        replace("a", "x{1001}", "t", "y"),
        "invalid repeat count: {1001}",
    );
    refused(
        replace("a", "(", "t", "y"),
        "rule 1: cannot parse `regex` \"(\": missing closing )",
    );
}

#[test]
fn expressions_mean_what_they_mean_in_re2() {
    #[track_caller]
    fn matches(regex: &str, yes: &[&str], no: &[&str]) {
        let config = RuleConfig {
            source_labels: sources(&["a"]),
            regex: Some(regex.into()),
            ..rule(Action::Keep)
        };
        let rules = Rules::new(vec![config]).unwrap_or_else(|error| panic!("{error}"));
        let verdict = |text: &str| {
            let mut labels = LabelsBuilder::new();
            labels.set_text("a", text);
            rules.apply(&mut labels)
        };
        for text in yes {
            assert_eq!(
                verdict(text),
                Verdict::Keep,
                "{regex:?} should match {text:?}"
            );
        }
        for text in no {
            assert_eq!(
                verdict(text),
                Verdict::Drop,
                "{regex:?} should not match {text:?}"
            );
        }
    }
    matches(".", &["a", "\n", "ä"], &["", "ab"]);
    matches("(?-s).", &["a"], &["\n"]);
    matches("a$", &["a"], &["a\n"]);
    matches("a(?m:$)\nb", &["a\nb"], &[]);
    matches(r"\d+", &["019"], &["٣", "a"]);
    matches(r"\D", &["٣", "a", "\n"], &["1"]);
    matches(r"\w+", &["aZ_9"], &["ä", "-"]);
    matches(r"(?i)\w", &["ſ", "\u{212a}", "a"], &["ä"]);
    matches(r"(?i)[^\w]", &["ä"], &["ſ", "\u{212a}", "a"]);
    matches(r"\W", &["ä"], &["a"]);
    matches(r"\s", &["\t", "\n", "\x0c", "\r", " "], &["\x0b", "\u{a0}"]);
    matches(r"[[:space:]]", &["\x0b"], &["\u{a0}"]);
    matches(r"[\S]", &["\x0b", "x"], &[" "]);
    matches(r"[^\Sx]", &[" "], &["\x0b", "x"]);
    matches(r"ä\bb", &["äb"], &[]);
    matches(r"a\Bb", &["ab"], &[]);
    matches(r"ä\Bö", &["äö"], &[]);
    matches(r"\101\x41\x{1F600}\07", &["AA😀\x07"], &[]);
    matches(r"\0", &["\0"], &["0"]);
    matches(r"\Qa.b{\E+", &["a.b{", "a.b{{"], &["axb{"]);
    matches(r"\<\>\ \~\-\&\/\!\@\#\%\`", &["<> ~-&/!@#%`"], &[]);
    matches("a{,2}", &["a{,2}"], &["a", "aa"]);
    matches("a{", &["a{"], &[]);
    matches("{}", &["{}"], &[]);
    matches("a{01}", &["a{01}"], &["a"]);
    matches("a{2}{", &["aa{"], &[]);
    matches("[[]", &["["], &["]"]);
    matches("[]a]", &["]", "a"], &["["]);
    matches("[^]a]", &["["], &["]", "a"]);
    matches("[a&&b]", &["a", "&", "b"], &["c"]);
    matches("[a~~b]", &["~"], &["c"]);
    matches("[+--]", &["+", ",", "-"], &["."]);
    matches("[a-]", &["a", "-"], &["b"]);
    matches("[-a]", &["a", "-"], &["b"]);
    matches(r"[\-a]", &["a", "-"], &["b"]);
    matches(r"[\w-]", &["a", "-"], &["."]);
    matches(r"[[:^alpha:]1]", &["1", "-"], &["b"]);
    matches(r"[[:word:]]", &["_"], &["-"]);
    matches("[[:x]", &["[", ":", "x"], &["]"]);
    matches(r"\pN\p{Greek}\P{Lu}\p{^Lu}", &["1αaa"], &["1αAA"]);
    matches("(?i)straße|K", &["STRAßE", "\u{212a}"], &["strasse"]);
    matches("(?i:a)b", &["Ab"], &["AB"]);
    matches("(?i-i)a", &["a"], &["A"]);
    matches("(?ii)a(?)", &["A"], &[]);
    matches("(?P<1a>x)", &["x"], &[]);
    matches("a|", &["a", ""], &["b"]);
    matches("(|a)*", &["", "aa"], &["b"]);
    matches("a)(b", &["ab"], &["a"]);
    matches("x*?y+?z??", &["xyyz"], &[]);
    matches("(?:a{2}){3}", &["aaaaaa"], &["aa"]);
    matches("#  x # y", &["#  x # y"], &[]);

    for (regex, part) in [
        ("*", "missing argument to repetition operator: *"),
        ("a|*", "missing argument"),
        ("(*)", "missing argument"),
        ("a**", "invalid nested repetition operator: *"),
        ("a{2}{3}", "invalid nested repetition operator: {3}"),
        ("a*??", "invalid nested"),
        ("a{3,2}", "invalid repeat count: {3,2}"),
        (r"\C", r"\C (any byte)"),
        (r"\1", r"invalid escape sequence: \1"),
        (r"\8", r"invalid escape sequence: \8"),
        (r"\Z", r"invalid escape sequence: \Z"),
        (r"\u0041", r"invalid escape sequence: \u"),
        (r"\h", r"invalid escape"),
        (r"\x{110000}", "invalid escape"),
        (r"[\b]", r"invalid escape sequence: \b"),
        (r"[a-\d]", r"invalid escape sequence: \d"),
        ("[b-a]", "invalid character class range: b-a"),
        ("[[:foo:]]", "invalid character class range: [:foo:]"),
        ("[a", "missing closing ]"),
        ("(a", "missing closing )"),
        ("a))", "unexpected )"),
        ("(?x)a", "invalid or unsupported Perl syntax: (?x"),
        ("(?=a)", "unsupported Perl syntax: (?="),
        ("(?i-)", "unsupported Perl syntax"),
        ("(?P<a>x)(?P<a>y)", "duplicate"),
        ("(?P<a-b>x)", "group name"),
        (r"\p{Nope}", "regex"),
        (r"\pL{1000}{", ""),
    ] {
        let result = Rules::new(vec![replace("a", regex, "t", "y")]);
        if part.is_empty() {
            assert!(result.is_ok(), "{regex}: {result:?}");
        } else {
            let error = result.expect_err(regex).to_string();
            assert!(error.contains(part), "{regex}: {error}");
        }
    }
}

#[test]
fn rules_are_equal_by_content() {
    let config = || replace("a", "(.+)", "t", "y");
    let (a, b) = (
        Rules::new(vec![config()]).unwrap(),
        Rules::new(vec![config()]).unwrap(),
    );
    assert_eq!(a, b);
    assert_eq!(a, a.clone());
    assert_ne!(a, Rules::default());
    assert_ne!(a, Rules::new(vec![config(), config()]).unwrap());
    assert_eq!(Rules::new(vec![]).unwrap(), Rules::default());
}

const NAMES: [&str; 7] = ["__name__", "a", "ab", "b", "instance", "job", "t"];

fn arbitrary_name() -> impl Strategy<Value = String> {
    prop::sample::select(&NAMES[..]).prop_map(str::to_owned)
}

fn arbitrary_rule() -> impl Strategy<Value = RuleConfig> {
    const REGEXES: [&str; 8] = [
        "(.*)",
        "a(.*)",
        "(.)(.?).*",
        "x|y|(z+)",
        "",
        "a|job",
        "[^a]+",
        "(?i)X.*",
    ];
    const REPLACEMENTS: [&str; 7] = ["$1", "", "q", "$2$1", "ab", "${1}b", "x"];
    const TARGETS: [&str; 7] = ["t", "a", "ab", "$1", "instance", "l_$1", "job"];
    (
        prop::option::of(prop::collection::vec(arbitrary_name(), 0..3)),
        prop::sample::select(&[";", "", "x"][..]),
        prop::option::of(prop::sample::select(&REGEXES[..])),
        0u64..4,
        prop::sample::select(&TARGETS[..]),
        prop::sample::select(&REPLACEMENTS[..]),
        prop::sample::select(&Action::ALL[..]),
    )
        .prop_map(
            |(source_labels, separator, regex, modulus, target, replacement, action)| {
                let given = RuleConfig {
                    source_labels,
                    separator: separator.into(),
                    regex: regex.map(str::to_owned),
                    modulus,
                    target_label: target.into(),
                    replacement: replacement.into(),
                    action: action.0,
                };
                // Fields that the action doesn't allow go back to their defaults.
                let default = RuleConfig {
                    action: given.action,
                    ..RuleConfig::default()
                };
                match given.action {
                    Action::KeepEqual | Action::DropEqual => RuleConfig {
                        source_labels: given.source_labels,
                        target_label: given.target_label,
                        ..default
                    },
                    Action::LabelDrop | Action::LabelKeep => RuleConfig {
                        regex: given.regex,
                        ..default
                    },
                    Action::Lowercase | Action::Uppercase => RuleConfig {
                        replacement: default.replacement,
                        ..given
                    },
                    Action::LabelMap if given.replacement.is_empty() => RuleConfig {
                        replacement: default.replacement,
                        ..given
                    },
                    Action::HashMod => RuleConfig {
                        modulus: given.modulus + 1,
                        ..given
                    },
                    _ => given,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What makes derived blocks shareable: rules applied to labels whose unread ones are holes,
    /// then filled, give what plain rules give.
    #[test]
    fn holes_change_nothing(
        configs in prop::collection::vec(arbitrary_rule(), 0..5),
        values in prop::collection::btree_map(arbitrary_name(), "[ax-z]{1,3}", 0..6),
    ) {
        let rules = Rules::new(configs).unwrap();
        let target = Labels::from_pairs(values);
        let mut plain = LabelsBuilder::from(&target);
        let plain_verdict = rules.apply(&mut plain);

        let mut shared = LabelsBuilder::new();
        for (index, (name, value)) in target.iter().enumerate() {
            match rules.reads(name) {
                true => shared.set_text(name, value),
                false => shared.set(name, Value::Target(index as u16)),
            }
        }
        prop_assert_eq!(rules.apply(&mut shared), plain_verdict);
        if plain_verdict == Verdict::Keep {
            let mut filled = LabelsBuilder::new();
            for (name, value) in shared.iter() {
                match value {
                    Value::Text(text) => filled.set_text(name, text),
                    Value::Target(index) => {
                        filled.set_text(name, &target.as_slice()[*index as usize].1);
                    }
                }
            }
            prop_assert_eq!(filled, plain);
        }
    }

    /// Text of any kind is translated or refused, and what is translated compiles or is refused.
    #[test]
    fn any_expression_is_answered(regex in r"[ab().*+?{}0-9,\[\]^$|\\QEdDwWsSbBpPxzA:<>iUms&~-]{0,16}") {
        let _ = Rules::new(vec![replace("a", &regex, "t", "$1")]);
    }
}

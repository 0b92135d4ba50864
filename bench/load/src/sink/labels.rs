//! A series' labels at first sight -> what kind of series it is and which target it belongs to.

use crate::scheme::{CYCLE, RESPONSES, Shape, label_hash, shape};

/// What a series is to the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// `up`.
    Up,
    /// Any other series that the scraper makes.
    Automatic,
    /// The target's response counter.
    Responses,
    /// The length of the cycle.
    Cycle,
    /// Histogram counts of the scheme.
    Count,
    /// Machine values of the scheme.
    Machine,
    /// Object states of the scheme.
    Object,
    /// Full-precision values of the scheme.
    Busy,
    /// Not of a fleet; only its order is verified.
    Foreign,
}

impl Class {
    pub(super) const ALL: [Class; 9] = [
        Class::Up,
        Class::Automatic,
        Class::Responses,
        Class::Cycle,
        Class::Count,
        Class::Machine,
        Class::Object,
        Class::Busy,
        Class::Foreign,
    ];

    /// The shape of its values if they follow the scheme.
    pub(super) fn shape(self) -> Option<Shape> {
        match self {
            Class::Count => Some(Shape::Count),
            Class::Machine => Some(Shape::Machine),
            Class::Object => Some(Shape::Object),
            Class::Busy => Some(Shape::Busy),
            _ => None,
        }
    }
}

/// A label set, judged.
#[derive(Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) class: Class,
    pub(super) label_hash_sum: u64,
    /// The `instance` label; empty without one.
    pub(super) instance: String,
    /// What is wrong with the set, if anything is.
    pub(super) problem: Option<&'static str>,
    /// Whether the labels are not in the order of their names.
    pub(super) unsorted: bool,
}

/// Judges a label set; `target_labels` are the names that the scraper adds.
pub(super) fn judge(pairs: &[(&[u8], &[u8])], target_labels: &[String]) -> Judged {
    let mut problem = None;
    let mut sum = 0u64;
    let mut name: &[u8] = b"";
    let mut instance: &[u8] = b"";
    let mut last: Option<&[u8]> = None;
    let mut unsorted = false;
    for (place, (label, value)) in pairs.iter().enumerate() {
        unsorted |= last.is_some_and(|last| last > *label);
        if last == Some(label) || unsorted && pairs[..place].iter().any(|(other, _)| other == label)
        {
            problem = Some("a label is there twice");
        }
        if value.is_empty() || label.is_empty() {
            problem = Some("a label has no name or no value");
        }
        if std::str::from_utf8(label).is_err() || std::str::from_utf8(value).is_err() {
            problem = Some("a label is not UTF-8");
        }
        last = Some(label);
        match *label {
            b"__name__" => name = value,
            b"instance" => instance = value,
            _ => {}
        }
        if !target_labels.iter().any(|added| added.as_bytes() == *label) {
            sum = sum.wrapping_add(label_hash(label, value));
        }
    }
    if name.is_empty() {
        problem = Some("there is no metric name");
    }
    let instance = String::from_utf8_lossy(instance).into_owned();
    let class = if name == b"up" {
        Class::Up
    } else if name.starts_with(b"scrape_") {
        Class::Automatic
    } else if crate::fleet::read_instance(&instance).is_none() {
        Class::Foreign
    } else if name == RESPONSES.as_bytes() {
        Class::Responses
    } else if name == CYCLE.as_bytes() {
        Class::Cycle
    } else {
        match shape(name) {
            Shape::Count => Class::Count,
            Shape::Machine => Class::Machine,
            Shape::Object => Class::Object,
            Shape::Busy => Class::Busy,
        }
    };
    Judged {
        class,
        label_hash_sum: sum,
        instance,
        problem,
        unsorted,
    }
}

/// A label set as text, for people.
pub(super) fn text(pairs: &[(&[u8], &[u8])]) -> String {
    let pairs = pairs.iter().map(|(name, value)| {
        format!(
            "{}=\"{}\"",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value)
        )
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(&str, &str)]) -> Judged {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(a, b)| (a.as_bytes(), b.as_bytes()))
            .collect();
        judge(&pairs, &["instance".into(), "job".into()])
    }

    #[test]
    fn classes() {
        let node = ("instance", "node-000001.fleet.internal:9100");
        for (name, class) in [
            ("up", Class::Up),
            ("scrape_duration_seconds", Class::Automatic),
            (RESPONSES, Class::Responses),
            (CYCLE, Class::Cycle),
            ("node_load1", Class::Machine),
            ("x_bucket", Class::Count),
            ("kube_pod_info", Class::Object),
            ("app_rpc_seconds_count", Class::Busy),
        ] {
            assert_eq!(judged(&[("__name__", name), node]).class, class, "{name}");
        }
        assert_eq!(
            judged(&[("__name__", "a"), ("instance", "b:1")]).class,
            Class::Foreign
        );
    }

    #[test]
    fn target_labels_do_not_count_for_the_identity() {
        let a = judged(&[
            ("__name__", "a"),
            ("instance", "x"),
            ("job", "y"),
            ("z", "1"),
        ]);
        let b = judged(&[("__name__", "a"), ("instance", "q"), ("z", "1")]);
        let c = judged(&[("__name__", "a"), ("z", "2")]);
        assert_eq!(a.label_hash_sum, b.label_hash_sum);
        assert_ne!(a.label_hash_sum, c.label_hash_sum);
    }

    #[test]
    fn problems() {
        assert!(judged(&[("__name__", "a"), ("b", "1")]).problem.is_none());
        for pairs in [
            &[("__name__", "a"), ("b", "1"), ("b", "1")][..],
            &[("b", "1"), ("__name__", "a"), ("b", "1")],
            &[("__name__", "a"), ("b", "")],
            &[("b", "1")],
            &[],
        ] {
            assert!(judged(pairs).problem.is_some(), "{pairs:?}");
        }
        let unsorted = judged(&[("b", "1"), ("__name__", "a")]);
        assert_eq!((unsorted.problem, unsorted.unsorted), (None, true));
    }
}

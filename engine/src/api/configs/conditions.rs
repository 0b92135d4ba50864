//! `If-Match` and `If-None-Match` -> what must hold for a change, or whether a copy is still good.
//!
//! The tag of a configuration is its revision, of the list the store's. Rules: RFC 9110, 13.1.

use crate::service::store::Condition;

/// What a request says of tags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tags {
    if_match: Option<List>,
    if_none_match: Option<List>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum List {
    Any,
    Of(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    text: String,
}

/// The tag of a revision.
pub(super) fn tag(revision: u64) -> String {
    format!("\"{revision}\"")
}

impl Tags {
    /// Reads the two fields.
    ///
    /// # Errors
    /// Which is no list of tags.
    pub(super) fn parse(
        if_match: Option<&[u8]>,
        if_none_match: Option<&[u8]>,
    ) -> Result<Self, String> {
        let list = |name: &str, field: Option<&[u8]>| {
            let Some(field) = field else { return Ok(None) };
            let text = str::from_utf8(field).ok();
            match text.and_then(list) {
                Some(list) => Ok(Some(list)),
                None => Err(format!(
                    "{name} is neither * nor tags in double quotes, such as \"12\""
                )),
            }
        };
        Ok(Self {
            if_match: list("If-Match", if_match)?,
            if_none_match: list("If-None-Match", if_none_match)?,
        })
    }

    /// What must hold for a change of something whose revision is `current`; `None`: it does not
    /// hold already.
    pub(super) fn for_change(&self, current: Option<u64>) -> Option<Condition> {
        let as_now = current.map_or(Condition::Absent, Condition::Revision);
        let wanted = match &self.if_match {
            None => Condition::None,
            Some(List::Any) => Condition::Present,
            // Several may be named: the one that is there is meant.
            Some(List::Of(tags)) => {
                let tag = tag(current?);
                let fits = tags.iter().any(|one| !one.is_weak && one.text == tag);
                fits.then_some(as_now)?
            }
        };
        match &self.if_none_match {
            None => Some(wanted),
            Some(List::Any) if wanted == Condition::None => Some(Condition::Absent),
            // Both there and not there.
            Some(List::Any) => None,
            Some(List::Of(tags)) => {
                let is_named = current
                    .map(tag)
                    .is_some_and(|tag| tags.iter().any(|one| one.text == tag));
                (!is_named).then_some(as_now)
            }
        }
    }

    /// Whether the reader's copy of `revision` is good.
    pub(super) fn has_copy(&self, revision: u64) -> bool {
        match &self.if_none_match {
            None => false,
            Some(List::Any) => true,
            Some(List::Of(tags)) => {
                let tag = tag(revision);
                tags.iter().any(|one| one.text == tag)
            }
        }
    }
}

fn list(text: &str) -> Option<List> {
    if text.trim() == "*" {
        return Some(List::Any);
    }
    // Our tags have no commas.
    let tags = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    let tags: Option<Vec<Tag>> = tags
        .map(|one| {
            let (is_weak, quoted) = match one.strip_prefix("W/") {
                Some(rest) => (true, rest),
                None => (false, one),
            };
            let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
            (!inner.contains('"')).then(|| Tag {
                is_weak,
                text: quoted.to_owned(),
            })
        })
        .collect();
    tags.filter(|tags| !tags.is_empty()).map(List::Of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(if_match: &str, if_none_match: &str) -> Tags {
        let field = |text: &'static str| (!text.is_empty()).then_some(text.as_bytes());
        let (one, other) = (if_match.to_owned().leak(), if_none_match.to_owned().leak());
        Tags::parse(field(one), field(other)).unwrap()
    }

    #[test]
    fn conditions_of_changes() {
        use Condition::{Absent, None as Nothing, Present, Revision};
        for (if_match, if_none_match, current, wanted) in [
            ("", "", Some(3), Some(Nothing)),
            ("\"3\"", "", Some(3), Some(Revision(3))),
            ("\"2\", \"3\"", "", Some(3), Some(Revision(3))),
            ("\"2\"", "", Some(3), None),
            ("\"2\"", "", None, None),
            ("W/\"3\"", "", Some(3), None),
            ("*", "", Some(3), Some(Present)),
            ("", "*", None, Some(Absent)),
            ("", "*", Some(3), Some(Absent)),
            ("", "\"3\"", Some(3), None),
            ("", "W/\"3\"", Some(3), None),
            ("", "\"3\"", Some(4), Some(Revision(4))),
            ("", "\"3\"", None, Some(Absent)),
            ("*", "*", Some(3), None),
        ] {
            let have = tags(if_match, if_none_match).for_change(current);
            assert_eq!(have, wanted, "{if_match:?} {if_none_match:?} {current:?}");
        }
    }

    #[test]
    fn copies() {
        assert!(!tags("", "").has_copy(1));
        assert!(tags("", "*").has_copy(1));
        assert!(tags("", "\"2\", W/\"1\"").has_copy(1));
        assert!(!tags("", "\"2\"").has_copy(1));
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for wrong in ["3", "\"3", "3\"", "\"a\"b\"", ",", "w/\"3\"", "\u{e9}"] {
            assert!(
                Tags::parse(Some(wrong.as_bytes()), None).is_err(),
                "{wrong}"
            );
            assert!(
                Tags::parse(None, Some(wrong.as_bytes())).is_err(),
                "{wrong}"
            );
        }
        assert!(Tags::parse(Some(b"\"\xff\""), None).is_err());
    }
}

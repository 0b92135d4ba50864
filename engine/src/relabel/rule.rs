//! One relabelling rule: as configured -> validated and compiled.
//!
//! Source: Prometheus model/relabel/relabel.go, `Config`, `Validate` and `relabel`, with the UTF-8
//! name validation that is Prometheus' default: any non-empty text is a label name.

use super::Verdict;
use super::case::{to_lower, to_upper};
use super::re2;
use super::template::Template;
use crate::labels::{LabelsBuilder, Value};
use md5::{Digest, Md5};
use regex::{Regex, RegexBuilder};
use std::cell::Cell;

/// One entry of `relabel_configs`, `metric_relabel_configs` or `write_relabel_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleConfig {
    /// `source_labels`; `None` if not given.
    pub source_labels: Option<Vec<String>>,
    /// `separator` between the values of the source labels, default `;`.
    pub separator: String,
    /// `regex`, RE2 syntax; `None` if not given, which means `(.*)`.
    pub regex: Option<String>,
    /// `modulus` of hashmod.
    pub modulus: u64,
    /// `target_label`; for replace it may refer to groups of the regex.
    pub target_label: String,
    /// `replacement`, default `$1`.
    pub replacement: String,
    /// `action`, default replace.
    pub action: Action,
}

impl Default for RuleConfig {
    fn default() -> Self {
        Self {
            source_labels: None,
            separator: DEFAULT_SEPARATOR.into(),
            regex: None,
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.into(),
            action: Action::Replace,
        }
    }
}

const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REPLACEMENT: &str = "$1";
const DEFAULT_REGEX: &str = "(.*)";

/// Compiled size up to which an expression is accepted.
const REGEX_BYTES_MAX: usize = 64 << 20;

thread_local! {
    static REGEX_LIMIT: Cell<usize> = const { Cell::new(REGEX_BYTES_MAX) };
}

/// Does `work`, in which expressions are accepted up to another compiled size.
pub(crate) fn with_regex_bytes_max<T>(bytes_max: usize, work: impl FnOnce() -> T) -> T {
    let before = REGEX_LIMIT.replace(bytes_max);
    let result = work();
    REGEX_LIMIT.set(before);
    result
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    /// All actions with their names in the configuration.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Replace, "replace"),
        (Self::Keep, "keep"),
        (Self::Drop, "drop"),
        (Self::KeepEqual, "keepequal"),
        (Self::DropEqual, "dropequal"),
        (Self::HashMod, "hashmod"),
        (Self::LabelMap, "labelmap"),
        (Self::LabelDrop, "labeldrop"),
        (Self::LabelKeep, "labelkeep"),
        (Self::Lowercase, "lowercase"),
        (Self::Uppercase, "uppercase"),
    ];

    /// By name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let found = Self::ALL
            .iter()
            .find(|(_, have)| have.eq_ignore_ascii_case(name));
        found.map(|(action, _)| *action)
    }

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(action, _)| *action == self);
        found.map_or("", |(_, name)| name)
    }

    /// Whether it puts its result into `target_label`, or compares with it.
    fn needs_target_label(self) -> bool {
        use Action::*;
        matches!(
            self,
            Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual
        )
    }
}

/// A rule ready to apply.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) config: RuleConfig,
    matcher: Matcher,
    target_label: Template,
    replacement: Template,
}

/// What a rule's `regex` accepts.
#[derive(Debug)]
enum Matcher {
    /// `(.*)`, the default: everything; group 1 is the whole text.
    Everything,
    Regex(Regex),
}

impl RuleConfig {
    fn validate(&self) -> Result<(), String> {
        use Action::*;
        let action = self.action.name();
        if self.action == HashMod && self.modulus == 0 {
            return Err("hashmod requires a `modulus` above 0".into());
        }
        if self.action.needs_target_label() && self.target_label.is_empty() {
            return Err(format!("{action} requires `target_label`"));
        }
        if matches!(self.action, Lowercase | Uppercase | KeepEqual | DropEqual)
            && self.replacement != DEFAULT_REPLACEMENT
        {
            return Err(format!("{action} doesn't allow `replacement`"));
        }
        if self.action == LabelMap && self.replacement.is_empty() {
            return Err("\"\" is not a valid `replacement` for labelmap".into());
        }
        let has_other_fields = self.modulus != 0
            || self.separator != DEFAULT_SEPARATOR
            || self.replacement != DEFAULT_REPLACEMENT;
        if matches!(self.action, KeepEqual | DropEqual)
            && (self.regex.is_some() || has_other_fields)
        {
            return Err(format!(
                "{action} allows `source_labels` and `target_label` only"
            ));
        }
        if matches!(self.action, LabelDrop | LabelKeep)
            && (self.source_labels.is_some() || !self.target_label.is_empty() || has_other_fields)
        {
            return Err(format!("{action} allows `regex` only"));
        }
        if self.source_labels.iter().flatten().any(String::is_empty) {
            return Err("\"\" is not a valid label name in `source_labels`".into());
        }
        Ok(())
    }
}

impl Rule {
    /// # Errors
    /// What Prometheus refuses too, or an expression that compiles to more than 64 MiB.
    pub(super) fn new(config: RuleConfig) -> Result<Self, String> {
        config.validate()?;
        let source = config.regex.as_deref().unwrap_or(DEFAULT_REGEX);
        let (matcher, group_names) = if source == DEFAULT_REGEX {
            (Matcher::Everything, vec![None, None])
        } else {
            let failed = |cause: String| format!("cannot parse `regex` {source:?}: {cause}");
            // As in Prometheus the expression is put between these as text, so `a)(b` is valid.
            let translated = re2::translate(&format!("^(?s:{source})$")).map_err(failed)?;
            let regex = RegexBuilder::new(&translated.pattern)
                .size_limit(REGEX_LIMIT.get())
                .build()
                .map_err(|error| failed(error.to_string()))?;
            (Matcher::Regex(regex), translated.group_names)
        };
        Ok(Self {
            matcher,
            target_label: Template::new(&config.target_label, &group_names),
            replacement: Template::new(&config.replacement, &group_names),
            config,
        })
    }

    /// See `Rules::reads`.
    pub(super) fn reads(&self, name: &str) -> bool {
        match self.config.action {
            Action::LabelDrop | Action::LabelKeep => false,
            Action::LabelMap => self.matches(name),
            Action::KeepEqual | Action::DropEqual if self.config.target_label == name => true,
            _ => self
                .config
                .source_labels
                .iter()
                .flatten()
                .any(|source| source == name),
        }
    }

    pub(super) fn apply(&self, labels: &mut LabelsBuilder) -> Verdict {
        let config = &self.config;
        match config.action {
            Action::Keep if !self.matches(&self.source(labels)) => return Verdict::Drop,
            Action::Drop if self.matches(&self.source(labels)) => return Verdict::Drop,
            Action::Keep | Action::Drop => {}
            Action::KeepEqual if labels.text(&config.target_label) != self.source(labels) => {
                return Verdict::Drop;
            }
            Action::DropEqual if labels.text(&config.target_label) == self.source(labels) => {
                return Verdict::Drop;
            }
            Action::KeepEqual | Action::DropEqual => {}
            Action::Replace => self.replace(labels),
            Action::Lowercase => {
                labels.set_text(&config.target_label, &to_lower(&self.source(labels)));
            }
            Action::Uppercase => {
                labels.set_text(&config.target_label, &to_upper(&self.source(labels)));
            }
            Action::HashMod => {
                let bucket = hash(&self.source(labels)) % config.modulus.max(1);
                labels.set_text(&config.target_label, &bucket.to_string());
            }
            Action::LabelMap => self.map_names(labels),
            Action::LabelDrop => labels.retain(|name| !self.matches(name)),
            Action::LabelKeep => labels.retain(|name| self.matches(name)),
        }
        Verdict::Keep
    }

    /// The values of the source labels, joined.
    fn source(&self, labels: &LabelsBuilder) -> String {
        let mut joined = String::new();
        for (index, name) in self.config.source_labels.iter().flatten().enumerate() {
            if index > 0 {
                joined.push_str(&self.config.separator);
            }
            joined.push_str(labels.text(name));
        }
        joined
    }

    fn matches(&self, text: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Regex(regex) => regex.is_match(text),
        }
    }

    /// If the expression matches `text`: both templates expanded, the target label's first.
    fn expand(&self, text: &str) -> Option<(String, String)> {
        match &self.matcher {
            Matcher::Everything => Some((
                self.target_label.expand(|_| text),
                self.replacement.expand(|_| text),
            )),
            Matcher::Regex(regex) => {
                let captures = regex.captures(text)?;
                let group = |index| captures.get(index).map_or("", |found| found.as_str());
                Some((
                    self.target_label.expand(group),
                    self.replacement.expand(group),
                ))
            }
        }
    }

    fn replace(&self, labels: &mut LabelsBuilder) {
        // An empty name is no label name: the rule is skipped, as in Prometheus.
        if let Some((name, value)) = self.expand(&self.source(labels))
            && !name.is_empty()
        {
            labels.set_text(&name, &value);
        }
    }

    /// `name` with each match replaced; there is one, the whole name, unless the expression breaks
    /// out of its anchors (`a)|(b`).
    fn replace_all(&self, name: &str) -> String {
        match &self.matcher {
            Matcher::Everything => self.replacement.expand(|_| name),
            Matcher::Regex(regex) => {
                let replace = |captures: &regex::Captures<'_>| {
                    let group = |index| captures.get(index).map_or("", |found| found.as_str());
                    self.replacement.expand(group)
                };
                regex.replace_all(name, replace).into_owned()
            }
        }
    }

    /// Copies the values of matching names; reads all before it writes the first.
    fn map_names(&self, labels: &mut LabelsBuilder) {
        let mut copies: Vec<(String, Value)> = Vec::new();
        for (name, value) in labels.iter() {
            if self.matches(name) {
                debug_assert!(
                    matches!(value, Value::Text(_)),
                    "BUG: labelmap copies hole {name}"
                );
                copies.push((self.replace_all(name), value.clone()));
            }
        }
        for (name, value) in copies {
            labels.set(&name, value);
        }
    }
}

/// The last 8 bytes of the MD5 sum, big-endian: existing `hashmod` configurations keep their split.
fn hash(text: &str) -> u64 {
    let sum = Md5::digest(text.as_bytes());
    let mut last = [0; 8];
    last.copy_from_slice(&sum[8..]);
    u64::from_be_bytes(last)
}
